//! The halves of a peer with more neighbours than fit into its line.
//!
//! Sorted chunks of bounded length: a link of a hub with `d` neighbours is found in O(log d) and added or removed
//! without moving more than one chunk of halves (2 KiB) and, rarely, the list of chunks.

use super::half::{Half, position};

/// Longest chunk. A full one is split in two.
const CHUNK: usize = 512;

/// Never empty chunks, ascending within and across.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hub {
    chunks: Vec<Vec<Half>>,
    len: usize,
}

impl Hub {
    /// Takes over ascending halves.
    pub(crate) fn from_sorted(halves: &[Half]) -> Self {
        Self { chunks: halves.chunks(CHUNK / 2).map(<[_]>::to_vec).collect(), len: halves.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn chunks(&self) -> &[Vec<Half>] {
        &self.chunks
    }

    /// The only chunk that may have the half towards `peer`.
    fn chunk_of(&self, peer: u32) -> usize {
        self.chunks.partition_point(|chunk| chunk[0].peer() <= peer).saturating_sub(1)
    }

    pub(crate) fn get(&self, peer: u32) -> Option<Half> {
        let chunk = self.chunks.get(self.chunk_of(peer))?;
        position(chunk, peer).ok().map(|at| chunk[at])
    }

    /// The first half towards `from` or a peer above it.
    pub(crate) fn first_from(&self, from: u32) -> Option<Half> {
        let at = self.chunk_of(from);
        let chunk = self.chunks.get(at)?;
        let place = position(chunk, from).unwrap_or_else(|place| place);
        chunk.get(place).or_else(|| self.chunks.get(at + 1)?.first()).copied()
    }

    /// Adds the half, or replaces the one towards the same peer.
    pub(crate) fn put(&mut self, half: Half) {
        let at = self.chunk_of(half.peer());
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(vec![half]);
            self.len += 1;
            return;
        };
        match position(chunk, half.peer()) {
            Ok(place) => chunk[place] = half,
            Err(place) => {
                chunk.insert(place, half);
                self.len += 1;
                if chunk.len() > CHUNK {
                    let upper = chunk.split_off(CHUNK / 2);
                    self.chunks.insert(at + 1, upper);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: u32) {
        let at = self.chunk_of(peer);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let Ok(place) = position(chunk, peer) else { return };
        chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(at);
        } else if chunk.len() < CHUNK / 8 {
            self.merge(at);
        }
    }

    /// Joins a chunk that became short with a neighbour, where both fit with room to grow.
    fn merge(&mut self, at: usize) {
        let first = if at + 1 < self.chunks.len() { at } else { at.saturating_sub(1) };
        if first + 1 < self.chunks.len()
            && self.chunks[first].len() + self.chunks[first + 1].len() <= CHUNK / 2
        {
            let upper = self.chunks.remove(first + 1);
            self.chunks[first].extend(upper);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::half::Flags;

    fn peers(hub: &Hub) -> Vec<u32> {
        hub.chunks().iter().flatten().map(|half| half.peer()).collect()
    }

    #[test]
    fn stays_sorted_through_growth_and_decline() {
        let mut hub = Hub::default();
        // 7919 is prime to 10,000: every number once, in a scattered order.
        for i in 0..10_000u32 {
            hub.put(Half::new(i * 7919 % 10_000, Flags::OPEN));
        }
        assert_eq!(peers(&hub), (0..10_000).collect::<Vec<_>>());
        assert!(hub.chunks().iter().all(|chunk| chunk.len() <= CHUNK));
        for i in 0..10_000u32 {
            let peer = i * 6007 % 10_000;
            if peer % 10 != 0 {
                hub.remove(peer);
            }
        }
        assert_eq!(peers(&hub), (0..10_000).step_by(10).collect::<Vec<_>>());
        assert_eq!(hub.len(), 1000);
        assert!(hub.chunks().len() <= 32, "short chunks are merged: {}", hub.chunks().len());
        assert!(hub.get(20).is_some() && hub.get(21).is_none());
    }

    #[test]
    fn put_replaces() {
        let mut hub = Hub::from_sorted(&[Half::new(3, Flags::UP)]);
        hub.put(Half::new(3, Flags::SEED));
        assert_eq!(hub.len(), 1);
        assert_eq!(hub.get(3).map(Half::flags), Some(Flags::SEED));
    }
}

//! The halves of a peer with more neighbours than fit into its line.
//!
//! Sorted chunks of bounded length: a link of a hub with `d` neighbours is found in O(log d) and added or removed
//! without moving more than one chunk of halves (2 KiB) and, rarely, the list of chunks.

use super::half::{Half, position};

/// Longest chunk. A full one is split in two.
const CHUNK: usize = 512;

/// Ascending chunks, ascending halves in each; only the first may be empty, where there are no others.
///
/// Most hubs have the first one alone: its place is known without a list of chunks.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hub {
    first: Vec<Half>,
    rest: Vec<Vec<Half>>,
    len: usize,
}

impl Hub {
    /// Takes over ascending halves.
    pub(crate) fn from_sorted(halves: &[Half]) -> Self {
        let mut chunks = halves.chunks(CHUNK / 2).map(<[_]>::to_vec);
        Self { first: chunks.next().unwrap_or_default(), rest: chunks.collect(), len: halves.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first(&self) -> &[Half] {
        &self.first
    }

    /// The chunks after the first.
    pub(crate) fn rest(&self) -> &[Vec<Half>] {
        &self.rest
    }

    /// The only chunk that may have the half towards `peer`.
    fn chunk_of(&self, peer: u32) -> usize {
        self.rest.partition_point(|chunk| chunk[0].peer() <= peer)
    }

    fn chunk(&self, at: usize) -> &Vec<Half> {
        at.checked_sub(1).map_or(&self.first, |at| &self.rest[at])
    }

    fn chunk_mut(&mut self, at: usize) -> &mut Vec<Half> {
        match at.checked_sub(1) {
            Some(at) => &mut self.rest[at],
            None => &mut self.first,
        }
    }

    pub(crate) fn get(&self, peer: u32) -> Option<Half> {
        let chunk = self.chunk(self.chunk_of(peer));
        position(chunk, peer).ok().map(|at| chunk[at])
    }

    /// The first half towards `from` or a peer above it.
    pub(crate) fn first_from(&self, from: u32) -> Option<Half> {
        let at = self.chunk_of(from);
        let chunk = self.chunk(at);
        let place = position(chunk, from).unwrap_or_else(|place| place);
        chunk.get(place).or_else(|| self.rest.get(at)?.first()).copied()
    }

    /// Adds the half, or replaces the one towards the same peer.
    pub(crate) fn put(&mut self, half: Half) {
        let at = self.chunk_of(half.peer());
        let chunk = self.chunk_mut(at);
        match position(chunk, half.peer()) {
            Ok(place) => chunk[place] = half,
            Err(place) => {
                if chunk.len() == chunk.capacity() {
                    // A quarter, not the double: most hubs are small, and there are many.
                    chunk.reserve_exact(chunk.len() / 4 + 1);
                }
                chunk.insert(place, half);
                let upper = (chunk.len() > CHUNK).then(|| chunk.split_off(CHUNK / 2));
                self.len += 1;
                if let Some(upper) = upper {
                    self.rest.insert(at, upper);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: u32) {
        let at = self.chunk_of(peer);
        let chunk = self.chunk_mut(at);
        let Ok(place) = position(chunk, peer) else { return };
        chunk.remove(place);
        let left = chunk.len();
        self.len -= 1;
        if left == 0 {
            self.remove_chunk(at);
        } else if left < CHUNK / 8 {
            self.merge(at);
        }
    }

    fn remove_chunk(&mut self, at: usize) {
        if at > 0 {
            self.rest.remove(at - 1);
        } else if !self.rest.is_empty() {
            self.first = self.rest.remove(0);
        }
    }

    /// Joins a chunk that became short with a neighbour, where both fit with room to grow.
    fn merge(&mut self, at: usize) {
        let first = if at < self.rest.len() { at } else { at.saturating_sub(1) };
        if first < self.rest.len() && self.chunk(first).len() + self.rest[first].len() <= CHUNK / 2 {
            let upper = self.rest.remove(first);
            self.chunk_mut(first).extend(upper);
        }
    }

    /// Heap bytes.
    pub(crate) fn bytes(&self) -> usize {
        let halves: usize = self.rest.iter().map(Vec::capacity).sum::<usize>() + self.first.capacity();
        halves * size_of::<Half>() + self.rest.capacity() * size_of::<Vec<Half>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::half::Flags;

    fn peers(hub: &Hub) -> Vec<u32> {
        hub.first().iter().chain(hub.rest().iter().flatten()).map(|half| half.peer()).collect()
    }

    #[test]
    fn stays_sorted_through_growth_and_decline() {
        let mut hub = Hub::default();
        // 7919 is prime to 10,000: every number once, in a scattered order.
        for i in 0..10_000u32 {
            hub.put(Half::new(i * 7919 % 10_000, Flags::OPEN));
        }
        assert_eq!(peers(&hub), (0..10_000).collect::<Vec<_>>());
        assert!(hub.first().len() <= CHUNK && hub.rest().iter().all(|chunk| chunk.len() <= CHUNK));
        for i in 0..10_000u32 {
            let peer = i * 6007 % 10_000;
            if peer % 10 != 0 {
                hub.remove(peer);
            }
        }
        assert_eq!(peers(&hub), (0..10_000).step_by(10).collect::<Vec<_>>());
        assert_eq!(hub.len(), 1000);
        assert!(hub.rest().len() < 32, "short chunks are merged: {}", hub.rest().len());
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

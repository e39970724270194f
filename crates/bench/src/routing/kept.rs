//! Another limit, for many who ask for the same holders: a tree that is kept, and repaired at each change of a link.
//!
//! Each peer knows its distance to the nearest holder and the neighbour on the way there, so a path is read off, hop by hop. A
//! new link improves outwards from its nearer end. A lost one is mended by the levels (Even and Shiloach: An on-line
//! edge-deletion problem, 1981): whoever has no neighbour one level below moves up by one, and so may its children.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::bare::Bare;

const FAR: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    distances: Vec<u32>,
    parents: Vec<u32>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Kept {
    pub(super) fn new(bare: &Bare, holders: &[u32]) -> Self {
        let peers = bare.peers();
        let mut kept =
            Self { distances: vec![FAR; peers], parents: vec![FAR; peers], queue: BinaryHeap::new() };
        for &holder in holders {
            kept.distances[holder as usize] = 0;
            kept.parents[holder as usize] = holder;
        }
        let mut found = holders.to_vec();
        let mut at = 0;
        while let Some(&peer) = found.get(at) {
            at += 1;
            for &next in bare.neighbors(peer) {
                if kept.distances[next as usize] == FAR {
                    kept.distances[next as usize] = kept.distances[peer as usize] + 1;
                    kept.parents[next as usize] = peer;
                    found.push(next);
                }
            }
        }
        kept
    }

    /// The path, requester first, read off.
    pub(super) fn path(&self, mut from: u32, path: &mut Vec<u32>) -> bool {
        path.clear();
        while self.distances[from as usize] != FAR {
            path.push(from);
            if self.distances[from as usize] == 0 {
                return true;
            }
            from = self.parents[from as usize];
        }
        false
    }

    /// After the link was added.
    pub(super) fn joined(&mut self, bare: &Bare, a: u32, b: u32) {
        let mut found = Vec::new();
        for (near, far) in [(a, b), (b, a)] {
            found.extend(self.improve(near, far).then_some(far));
        }
        let mut at = 0;
        while let Some(&peer) = found.get(at) {
            at += 1;
            for &next in bare.neighbors(peer) {
                if self.improve(peer, next) {
                    found.push(next);
                }
            }
        }
    }

    fn improve(&mut self, near: u32, far: u32) -> bool {
        let through = self.distances[near as usize].saturating_add(1);
        let better = through < self.distances[far as usize];
        if better {
            self.distances[far as usize] = through;
            self.parents[far as usize] = near;
        }
        better
    }

    /// After the link was removed.
    pub(super) fn was_cut(&mut self, bare: &Bare, a: u32, b: u32) {
        for (peer, lost) in [(a, b), (b, a)] {
            if self.parents[peer as usize] == lost && self.distances[peer as usize] != 0 {
                self.queue.push(Reverse((self.distances[peer as usize], peer)));
            }
        }
        while let Some(Reverse((level, peer))) = self.queue.pop() {
            if level != self.distances[peer as usize] || level == FAR {
                continue;
            }
            let below = bare.neighbors(peer).iter().find(|&&next| self.distances[next as usize] == level - 1);
            if let Some(&below) = below {
                self.parents[peer as usize] = below;
                continue;
            }
            // Beyond the number of peers there is no way at all.
            let next_level = if level as usize >= bare.peers() { FAR } else { level + 1 };
            self.distances[peer as usize] = next_level;
            self.parents[peer as usize] = FAR;
            self.queue.push(Reverse((next_level, peer)));
            for &child in bare.neighbors(peer) {
                if self.parents[child as usize] == peer {
                    self.queue.push(Reverse((self.distances[child as usize], child)));
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn distances(&self) -> &[u32] {
        &self.distances
    }
}

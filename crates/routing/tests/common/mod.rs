//! What the routing crate is compared with: plain sets of pairs and a textbook breadth-first search.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};

/// Failing cases are written beside the test, to be committed: `tests/<name>.regressions`.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

/// Links as pairs, both ways round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) active: BTreeSet<u32>,
    pub(crate) links: BTreeSet<(u32, u32)>,
}

impl Model {
    pub(crate) fn link(&mut self, a: u32, b: u32) {
        self.links.extend([(a, b), (b, a)]);
    }

    pub(crate) fn cut(&mut self, a: u32, b: u32) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
    }

    pub(crate) fn neighbors(&self, of: u32) -> impl Iterator<Item = u32> + '_ {
        let on = self.active.contains(&of);
        self.links
            .range((of, 0)..=(of, u32::MAX))
            .map(|&(_, b)| b)
            .filter(move |b| on && self.active.contains(b))
    }

    /// Hops from a peer to every peer it reaches.
    pub(crate) fn hops(&self, from: u32) -> BTreeMap<u32, usize> {
        let mut hops = BTreeMap::new();
        if !self.active.contains(&from) {
            return hops;
        }
        hops.insert(from, 0);
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            let next = hops[&node] + 1;
            for neighbor in self.neighbors(node) {
                hops.entry(neighbor).or_insert_with(|| {
                    queue.push_back(neighbor);
                    next
                });
            }
        }
        hops
    }

    pub(crate) fn components(&self) -> Vec<BTreeSet<u32>> {
        let mut left = self.active.clone();
        let mut found = Vec::new();
        while let Some(&start) = left.first() {
            let part: BTreeSet<u32> = self.hops(start).into_keys().collect();
            left.retain(|node| !part.contains(node));
            found.push(part);
        }
        found
    }
}

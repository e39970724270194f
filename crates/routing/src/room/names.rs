//! The names of a room's peers: name to number and back.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
};

use hashbrown::HashTable;

use crate::NodeId;

/// Each name is stored once; the table has only numbers. The hash is keyed, because names come from the network.
#[derive(Debug, Clone)]
pub(super) struct Names<N> {
    by_id: Vec<Option<N>>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self { by_id: Vec::new(), table: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<N: Hash + Eq> Names<N> {
    pub(super) fn id(&self, name: &N) -> Option<NodeId> {
        self.find(name, self.hash(name))
    }

    pub(super) fn hash(&self, name: &N) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The number of a name whose hash is known.
    pub(super) fn find(&self, name: &N, hash: u64) -> Option<NodeId> {
        self.table.find(hash, |&id| self.is_named(id, name)).map(|&id| NodeId(id))
    }

    /// [`Names::find`] for the first names of a list, up to the first that is missing.
    ///
    /// First what the table has for each hash, nearly always the right number, then whether it is. No lookup waits in
    /// either loop for what another one reads.
    pub(super) fn find_all<const MANY: usize>(&self, names: &[Option<(&N, u64)>]) -> [Option<NodeId>; MANY] {
        let mut found = [None; MANY];
        for (slot, (_, hash)) in found.iter_mut().zip(names.iter().flatten()) {
            *slot = self.table.find(*hash, |_| true).map(|&id| NodeId(id));
        }
        for (slot, (name, hash)) in found.iter_mut().zip(names.iter().flatten()) {
            if slot.is_some_and(|id| !self.is_named(id.0, name)) {
                *slot = self.find(name, *hash);
            }
        }
        found
    }

    fn is_named(&self, id: u32, name: &N) -> bool {
        self.by_id[id as usize].as_ref() == Some(name)
    }

    pub(super) fn name(&self, id: NodeId) -> Option<&N> {
        self.by_id.get(id.index())?.as_ref()
    }

    /// Names a number that has no name. The name must be new, and the hash its own.
    pub(super) fn insert(&mut self, id: NodeId, name: N, hash: u64) {
        let Self { by_id, table, hasher } = self;
        if by_id.len() <= id.index() {
            if by_id.capacity() <= id.index() {
                by_id.reserve_exact(id.index() / 4 + 4);
            }
            by_id.resize_with(id.index() + 1, || None);
        }
        by_id[id.index()] = Some(name);
        // Every number in the table has a name; the name is hashed, not the `Option` around it.
        table.insert_unique(hash, id.0, |&other| {
            by_id[other as usize].as_ref().map_or(0, |name| hasher.hash_one(name))
        });
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        let Some(name) = self.by_id.get_mut(id.index()).and_then(Option::take) else { return };
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&name), |&other| other == id.0) {
            entry.remove();
        }
    }

    /// Heap bytes, without what the names themselves point to.
    pub(super) fn bytes(&self) -> usize {
        self.by_id.capacity() * size_of::<Option<N>>() + self.table.allocation_size()
    }
}

//! The names of a room's peers: name to number and back.

use std::hash::Hash;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::{NodeId, table::Table};

/// What a name's entry is found by, half of a hash: small enough to be kept for each name, so that neither a table that grows
/// nor a name that goes is hashed again. Two names of the same hash are told apart by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hash32(u32);

impl Hash32 {
    /// For a table that takes the bucket from the lowest bits and a tag from the highest: the golden ratio's bits spread one
    /// over all (Knuth, The Art of Computer Programming 3, 6.4).
    fn wide(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Each name is stored once; the table has only numbers. The hash is keyed, because names come from the network: aHash, which is made
/// to withstand whoever chooses names that collide, takes less than half of SipHash's time for names as short as these.
#[derive(Debug, Clone)]
pub(super) struct Names<N> {
    by_id: Table<Option<N>>,
    hashes: Table<Hash32>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self {
            by_id: Table::default(),
            hashes: Table::default(),
            table: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<N: Hash + Eq> Names<N> {
    pub(super) fn id(&self, name: &N) -> Option<NodeId> {
        self.find(name, self.hash(name))
    }

    pub(super) fn hash(&self, name: &N) -> Hash32 {
        Hash32(self.hasher.hash_one(name) as u32)
    }

    /// The number of a name whose hash is known.
    pub(super) fn find(&self, name: &N, hash: Hash32) -> Option<NodeId> {
        self.table.find(hash.wide(), |&id| self.is_named(id, name)).map(|&id| NodeId(id))
    }

    /// [`Names::find`] for the first names of a list, up to the first that is missing.
    ///
    /// First what the table has for each hash, nearly always the right number, then whether it is. No lookup waits in
    /// either loop for what another one reads.
    pub(super) fn find_all<const MANY: usize>(
        &self,
        names: &[Option<(&N, Hash32)>],
    ) -> [Option<NodeId>; MANY] {
        let mut found = [None; MANY];
        for (slot, (_, hash)) in found.iter_mut().zip(names.iter().flatten()) {
            *slot = self.table.find(hash.wide(), |_| true).map(|&id| NodeId(id));
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
    pub(super) fn insert(&mut self, id: NodeId, name: N, hash: Hash32) {
        let Self { by_id, hashes, table, .. } = self;
        by_id.reach(id.index());
        hashes.reach(id.index());
        by_id[id.index()] = Some(name);
        hashes[id.index()] = hash;
        table.insert_unique(hash.wide(), id.0, |&other| hashes[other as usize].wide());
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        if self.by_id.get_mut(id.index()).and_then(Option::take).is_none() {
            return;
        }
        if let Ok(entry) = self.table.find_entry(self.hashes[id.index()].wide(), |&other| other == id.0) {
            entry.remove();
        }
    }

    /// Heap bytes, without what the names themselves point to.
    pub(super) fn bytes(&self) -> usize {
        self.by_id.bytes() + self.hashes.bytes() + self.table.allocation_size()
    }
}

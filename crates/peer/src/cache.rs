//! The blobs that this peer keeps: least recently used goes first, bounded in bytes.
//!
//! Pure: time is an argument. What leaves is first said to be dropped, and stays until that has been said, or for a moment at most: whoever
//! was sent here for it still finds it. Meanwhile what is to take its place waits, so the bound holds. Bytes that somebody still reads count as long as they are read, so memory stays within the bound however slow
//! the readers are: nothing is evicted from under a reader, and what finds no room has to wait.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use hopcast_protocol::Sha256;
use tokio::time::Instant;

/// How long what leaves waits for its `drop` to be sent.
pub const GOODBYE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    used: u64,
    /// It is on its way out, and goes then at the latest.
    leaves: Option<Instant>,
}

/// Whether there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Yes.
    Free,
    /// As soon as what leaves has been said to be dropped, and from then on in any case.
    Goodbye(Instant),
    /// Not as long as readers hold what is kept.
    Full,
}

/// The cache. All numbers are bytes.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Sha256, Entry>,
    order: BTreeMap<u64, Sha256>,
    tick: u64,
    limit: u64,
    kept: u64,
    reserved: u64,
}

impl Cache {
    /// An empty cache of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The bytes of that hash, which are thereby used.
    pub fn get(&mut self, sha256: &Sha256) -> Option<Bytes> {
        let entry = self.entries.get_mut(sha256)?;
        if entry.leaves.is_some() {
            return Some(entry.bytes.clone()); // nobody is sent here for it any more, so it goes all the same
        }
        self.order.remove(&entry.used);
        self.tick += 1;
        entry.used = self.tick;
        self.order.insert(self.tick, *sha256);
        Some(entry.bytes.clone())
    }

    /// What has to leave so that `len` bytes find room, oldest first; `None` when even that would not do. Nothing is
    /// removed: the caller says good-bye first and then calls [`Cache::leave`].
    ///
    /// Something longer than the whole bound finds room when nothing else is kept: it could not be served at all else.
    pub fn victims(&self, len: u64) -> Option<Vec<Sha256>> {
        let mut used = self.kept + self.reserved;
        let mut victims = vec![];
        for sha256 in self.order.values() {
            if used + len <= self.limit {
                break;
            }
            let entry = &self.entries[sha256];
            if entry.bytes.is_unique() {
                used -= entry.bytes.len() as u64;
                victims.push(*sha256);
            }
        }
        (used + len <= self.limit || used == 0).then_some(victims)
    }

    /// A victim leaves now if nobody is sent here for it any more, else when that takes too long. Returns when it goes;
    /// `None`: it is gone.
    pub fn leave(&mut self, sha256: &Sha256, announced: bool, now: Instant) -> Option<Instant> {
        let entry = self.entries.get_mut(sha256)?;
        let until = *entry.leaves.get_or_insert(now + GOODBYE);
        if announced && now < until {
            return Some(until);
        }
        self.remove(sha256);
        None
    }

    /// Sets `len` bytes aside for something that is on its way. Pair with [`Cache::release`].
    pub fn reserve(&mut self, len: u64) {
        self.reserved += len;
    }

    /// Gives back what [`Cache::reserve`] set aside.
    pub fn release(&mut self, len: u64) {
        self.reserved = self.reserved.saturating_sub(len);
    }

    /// Keeps `bytes`. True if they are new here.
    pub fn insert(&mut self, sha256: Sha256, bytes: Bytes) -> bool {
        if self.entries.contains_key(&sha256) {
            return false;
        }
        self.tick += 1;
        self.kept += bytes.len() as u64;
        self.order.insert(self.tick, sha256);
        self.entries.insert(sha256, Entry { bytes, used: self.tick, leaves: None });
        true
    }

    fn remove(&mut self, sha256: &Sha256) {
        if let Some(entry) = self.entries.remove(sha256) {
            self.order.remove(&entry.used);
            self.kept -= entry.bytes.len() as u64;
        }
    }

    /// A new bound; what is beyond it leaves with the next [`Cache::victims`].
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Bytes kept or set aside.
    pub fn bytes(&self) -> u64 {
        self.kept + self.reserved
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many blobs are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the bytes of that hash are kept.
    pub fn contains(&self, sha256: &Sha256) -> bool {
        self.entries.contains_key(sha256)
    }

    /// The hashes of everything kept.
    pub fn contents(&self) -> impl Iterator<Item = &Sha256> {
        self.entries.keys()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(number: u8, len: usize) -> (Sha256, Bytes) {
        (Sha256([number; 32]), Bytes::from(vec![number; len]))
    }

    fn put(cache: &mut Cache, (sha256, bytes): (Sha256, Bytes)) -> bool {
        let Some(victims) = cache.victims(bytes.len() as u64) else { return false };
        for victim in victims {
            assert_eq!(cache.leave(&victim, false, Instant::now()), None);
        }
        cache.insert(sha256, bytes)
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut cache = Cache::new(30);
        for number in 0..3 {
            assert!(put(&mut cache, blob(number, 10)));
        }
        assert!(cache.get(&Sha256([0; 32])).is_some());
        assert_eq!(cache.victims(10), Some(vec![Sha256([1; 32])]));
        assert!(put(&mut cache, blob(9, 20)));
        assert!(cache.get(&Sha256([0; 32])).is_some() && cache.get(&Sha256([1; 32])).is_none());
    }

    #[test]
    fn what_is_being_read_stays_and_counts() {
        let mut cache = Cache::new(20);
        put(&mut cache, blob(1, 20));
        let reader = cache.get(&Sha256([1; 32])).unwrap().slice(5..6);
        assert_eq!(cache.victims(1), None, "its only blob is being read");
        drop(reader);
        assert_eq!(cache.victims(1), Some(vec![Sha256([1; 32])]));
    }

    #[test]
    fn what_leaves_stays_until_that_is_said_or_has_taken_too_long() {
        let (mut cache, now) = (Cache::new(20), Instant::now());
        let (first, second) = (Sha256([1; 32]), Sha256([2; 32]));
        put(&mut cache, blob(1, 10));
        put(&mut cache, blob(2, 10));
        assert_eq!(cache.victims(5), Some(vec![first]));
        assert_eq!(cache.leave(&first, true, now), Some(now + GOODBYE));
        assert!(cache.get(&first).is_some(), "whoever was sent here before finds it");
        assert_eq!(cache.victims(5), Some(vec![first]), "that does not save it");
        assert_eq!(cache.bytes(), 20, "what takes its place waits");
        let later = now + GOODBYE / 2;
        assert_eq!(cache.leave(&first, true, later), Some(now + GOODBYE), "its time does not begin anew");
        assert_eq!(cache.leave(&first, false, later), None);
        assert_eq!((cache.get(&first), cache.bytes()), (None, 10));
        assert_eq!(cache.leave(&second, true, later), Some(later + GOODBYE));
        assert_eq!(cache.leave(&second, true, later + GOODBYE), None, "nobody listened, but the bound holds");
        assert!(cache.is_empty());
    }

    #[test]
    fn what_is_on_its_way_counts_too() {
        let mut cache = Cache::new(20);
        cache.reserve(15);
        assert_eq!(cache.victims(6), None);
        assert_eq!(cache.victims(5), Some(vec![]));
        cache.release(15);
        assert_eq!(cache.victims(50), Some(vec![]), "too long for the bound, but nothing else is here");
    }

    proptest! {
        #[test]
        fn like_a_list_in_order_of_use(ops in proptest::collection::vec((0u8..12, 1usize..9, any::<bool>()), 1..200)) {
            let mut cache = Cache::new(24);
            let mut model: Vec<(u8, usize)> = vec![]; // least recently used first
            for (number, len, read) in ops {
                let at = model.iter().position(|(key, _)| *key == number);
                if read {
                    prop_assert_eq!(cache.get(&Sha256([number; 32])).is_some(), at.is_some());
                    if let Some(at) = at {
                        let entry = model.remove(at);
                        model.push(entry);
                    }
                } else if at.is_none() {
                    while model.iter().map(|(_, len)| len).sum::<usize>() + len > 24 {
                        model.remove(0);
                    }
                    model.push((number, len));
                    prop_assert!(put(&mut cache, blob(number, len)));
                }
                prop_assert!(cache.bytes() <= 24);
                prop_assert_eq!(cache.bytes() as usize, model.iter().map(|(_, len)| len).sum::<usize>());
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}

//! Seed links: what a topology declares.

use std::{collections::HashSet, fmt, hash::Hash};

use super::{Changes, Links, Room};
use crate::{NodeId, RoomError, graph::Flags};

impl<N: Clone + Eq + Hash + fmt::Display + fmt::Debug> Room<N> {
    /// Declares a seed link.
    ///
    /// # Errors
    /// [`RoomError::SelfLink`].
    pub fn seed(&mut self, a: &N, b: &N, changes: &mut Changes) -> Result<(), RoomError<N>> {
        if a == b {
            return Err(RoomError::SelfLink(a.clone()));
        }
        self.settle();
        let (a, b) = (self.intern(a), self.intern(b));
        self.edit(a, b, changes, |ab, ba| (ab.with(Flags::SEED, true), ba.with(Flags::SEED, true)));
        Ok(())
    }

    /// Withdraws a seed link. Under [`Links::Declared`] announcements of it go too. Unknown ones are ignored.
    pub fn unseed(&mut self, a: &N, b: &N, changes: &mut Changes) {
        self.settle();
        if let (Some(a), Some(b)) = (self.id(a), self.id(b)) {
            self.unseed_ids(a, b, changes);
        }
    }

    /// Makes the given links, and no others, the seed links: a changed topology.
    ///
    /// # Errors
    /// [`RoomError::SelfLink`]; nothing has changed then.
    pub fn reseed<'a>(
        &mut self,
        links: impl IntoIterator<Item = (&'a N, &'a N)>,
        changes: &mut Changes,
    ) -> Result<(), RoomError<N>>
    where
        N: 'a,
    {
        let links: Vec<_> = links.into_iter().collect();
        if let Some((a, _)) = links.iter().find(|(a, b)| a == b) {
            return Err(RoomError::SelfLink((*a).clone()));
        }
        self.settle();
        let wanted: HashSet<_> = links
            .into_iter()
            .map(|(a, b)| (self.intern(a), self.intern(b)))
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        let gone: Vec<_> = self
            .links()
            .filter(|link| link.seed && !wanted.contains(&(link.a, link.b)))
            .map(|link| (link.a, link.b))
            .collect();
        for (a, b) in gone {
            self.unseed_ids(a, b, changes);
        }
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_unstable();
        for (a, b) in wanted {
            self.edit(a, b, changes, |ab, ba| (ab.with(Flags::SEED, true), ba.with(Flags::SEED, true)));
        }
        Ok(())
    }

    fn unseed_ids(&mut self, a: NodeId, b: NodeId, changes: &mut Changes) {
        self.edit(a, b, changes, |ab, ba| (ab.with(Flags::SEED, false), ba.with(Flags::SEED, false)));
        if self.rules.links == Links::Declared {
            self.withdraw(a, b, changes);
            self.withdraw(b, a, changes);
        }
    }

    /// An end's announcement of a link goes; its report on it does not.
    fn withdraw(&mut self, a: NodeId, b: NodeId, changes: &mut Changes) {
        if self.graph.flags(a, b).has(Flags::ANNOUNCED) {
            self.edit(a, b, changes, |ab, ba| (ab.with(Flags::ANNOUNCED, false), ba));
            self.set_named(b, false, changes);
        }
    }
}

//! The adjacency: one 64-byte line per peer, so that a visit costs one cache miss.
//!
//! Fifteen halves fit into a line; a peer with more is a hub, whose line says where they lie. Halves are always in
//! ascending order of the neighbour's number: what a search meets first then depends on the graph alone, never on the
//! order in which links came and went.

use std::ops::ControlFlow;

use super::{
    half::{Flags, Half, position},
    hub::Hub,
};
use crate::table;

/// Halves that fit into a line.
const INLINE: usize = 15;
/// A hub that shrinks to this many moves back: well below [`INLINE`], so that one link that flaps moves nothing.
const BACK: usize = 10;

/// What is known of one peer, in one line of the processor's cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
enum Line {
    /// A peer's, with its first `len` halves; or nobody's, without any.
    Few { vacant: bool, active: bool, len: u8, halves: [Half; INLINE] },
    /// A peer's that has more of them.
    Many { active: bool, hub: Hub },
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const EMPTY: Self = Self::Few { vacant: false, active: true, len: 0, halves: [Half::NONE; INLINE] };
    const VACANT: Self = Self::Few { vacant: true, active: false, len: 0, halves: [Half::NONE; INLINE] };

    fn is_vacant(&self) -> bool {
        matches!(self, Self::Few { vacant: true, .. })
    }

    fn is_hub(&self) -> bool {
        matches!(self, Self::Many { .. })
    }

    fn is_active(&self) -> bool {
        matches!(self, Self::Few { active: true, .. } | Self::Many { active: true, .. })
    }

    /// Halves of any kind.
    fn degree(&self) -> usize {
        match self {
            Self::Few { len, .. } => usize::from(*len),
            Self::Many { hub, .. } => hub.len(),
        }
    }

    /// The halves in ascending order: a first run of them, and those that follow it.
    #[inline]
    fn runs(&self) -> (&[Half], &[Vec<Half>]) {
        match self {
            Self::Few { len, halves, .. } => (&halves[..usize::from(*len).min(INLINE)], &[]),
            Self::Many { hub, .. } => (hub.first(), hub.rest()),
        }
    }

    fn halves(&self) -> impl Iterator<Item = Half> + '_ {
        let (first, rest) = self.runs();
        first.iter().chain(rest.iter().flatten()).copied()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// In one piece however many they are: the address of a line is then one multiplication away, which searches over a grid
    /// of a million peers feel.
    peers: Vec<Line>,
    vacant: Vec<u32>,
}

impl Lines {
    /// Lines that exist, vacant ones included: every number is below it.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Peers.
    pub(crate) fn live(&self) -> usize {
        self.peers.len() - self.vacant.len()
    }

    /// A line without halves, active: the vacant one that was freed last, else a new one.
    pub(crate) fn add(&mut self) -> u32 {
        if let Some(id) = self.vacant.pop() {
            self.peers[id as usize] = Line::EMPTY;
            return id;
        }
        let id = self.peers.len();
        assert!(id < super::NodeId::LIMIT, "a graph holds at most {} peers", super::NodeId::LIMIT);
        table::push(&mut self.peers, Line::EMPTY);
        id as u32
    }

    /// Frees a line that has no halves any more.
    pub(crate) fn remove(&mut self, id: u32) {
        debug_assert!(self.contains(id) && self.degree(id) == 0, "only a peer without links is removed");
        if self.live() == 1 {
            *self = Self::default();
            return;
        }
        self.peers[id as usize] = Line::VACANT;
        self.vacant.push(id);
    }

    /// Reads the beginning of a line, for the cache's sake.
    #[inline]
    pub(crate) fn touch(&self, id: u32) -> bool {
        self.peers[id as usize].is_hub()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.peers.get(id as usize).is_some_and(|line| !line.is_vacant())
    }

    pub(crate) fn is_active(&self, id: u32) -> bool {
        self.peers.get(id as usize).is_some_and(Line::is_active)
    }

    pub(crate) fn set_active(&mut self, id: u32, on: bool) {
        let (Line::Few { active, .. } | Line::Many { active, .. }) = &mut self.peers[id as usize];
        *active = on;
    }

    /// Halves of any kind.
    pub(crate) fn degree(&self, id: u32) -> usize {
        self.peers[id as usize].degree()
    }

    /// Calls `visit` with the halves in ascending order, a run at a time, until it breaks.
    #[inline]
    pub(crate) fn runs<B>(
        &self,
        id: u32,
        mut visit: impl FnMut(&[Half]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match &self.peers[id as usize] {
            // Apart from the others: what most lines are costs a search no more than it must.
            Line::Few { len, halves, .. } => visit(&halves[..usize::from(*len).min(INLINE)]),
            Line::Many { hub, .. } => {
                visit(hub.first())?;
                hub.rest().iter().try_for_each(|run| visit(run))
            }
        }
    }

    /// Reads a line ahead of its use.
    ///
    /// For several lines in a row: nothing waits for what is read here, so that the processor fetches all of them at the
    /// same time. The work that follows, with its branches on what a line holds, would fetch one after another.
    #[inline]
    pub(crate) fn warm(&self, id: u32) {
        std::hint::black_box(self.touch(id));
    }

    /// Reads the lines of a peer's neighbours ahead of their use.
    #[inline]
    pub(crate) fn warm_neighbors(&self, id: u32) {
        for half in self.halves(id) {
            self.warm(half.peer());
        }
    }

    /// The halves in ascending order.
    pub(crate) fn halves(&self, id: u32) -> impl Iterator<Item = Half> + '_ {
        self.peers.get(id as usize).into_iter().flat_map(Line::halves)
    }

    /// The first half towards a peer above `after`.
    pub(crate) fn next(&self, id: u32, after: Option<u32>) -> Option<Half> {
        let from = after.map_or(0, |peer| peer + 1);
        let line = &self.peers[id as usize];
        if let Line::Many { hub, .. } = line {
            return hub.first_from(from);
        }
        let (halves, _) = line.runs();
        halves.get(position(halves, from).unwrap_or_else(|at| at)).copied()
    }

    /// The flags of the half at `id` towards `peer`; none where there is no such half.
    pub(crate) fn get(&self, id: u32, peer: u32) -> Flags {
        let Some(line) = self.peers.get(id as usize) else { return Flags::NONE };
        if let Line::Many { hub, .. } = line {
            return hub.get(peer).map_or(Flags::NONE, Half::flags);
        }
        let (halves, _) = line.runs();
        position(halves, peer).map_or(Flags::NONE, |at| halves[at].flags())
    }

    /// Writes the half at `id` towards `peer`.
    pub(crate) fn put(&mut self, id: u32, peer: u32, flags: Flags) {
        let half = Half::new(peer, flags);
        let line = &mut self.peers[id as usize];
        match line {
            Line::Many { hub, .. } => hub.put(half),
            Line::Few { active, len, halves, .. } => {
                let used = usize::from(*len);
                match position(&halves[..used], peer) {
                    Ok(at) => halves[at] = half,
                    Err(at) if used < INLINE => {
                        halves.copy_within(at..used, at + 1);
                        halves[at] = half;
                        *len += 1;
                    }
                    Err(_) => {
                        let mut hub = Hub::from_sorted(&halves[..]);
                        hub.put(half);
                        *line = Line::Many { active: *active, hub };
                    }
                }
            }
        }
    }

    /// Removes the half at `id` towards `peer`, if there is one.
    pub(crate) fn take(&mut self, id: u32, peer: u32) {
        let line = &mut self.peers[id as usize];
        match line {
            Line::Few { len, halves, .. } => {
                let used = usize::from(*len);
                if let Ok(at) = position(&halves[..used], peer) {
                    halves.copy_within(at + 1..used, at);
                    *len -= 1;
                }
            }
            Line::Many { active, hub } => {
                hub.remove(peer);
                if hub.len() <= BACK {
                    let (active, len, mut halves) = (*active, hub.len() as u8, [Half::NONE; INLINE]);
                    for (slot, half) in halves.iter_mut().zip(line.halves()) {
                        *slot = half;
                    }
                    *line = Line::Few { vacant: false, active, len, halves };
                }
            }
        }
    }

    /// Heap bytes.
    pub(crate) fn bytes(&self) -> usize {
        let hubs =
            self.peers.iter().map(|line| if let Line::Many { hub, .. } = line { hub.bytes() } else { 0 });
        self.peers.capacity() * size_of::<Line>()
            + self.vacant.capacity() * size_of::<u32>()
            + hubs.sum::<usize>()
    }
}

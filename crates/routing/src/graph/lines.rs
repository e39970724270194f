//! The adjacency: one 64-byte line per peer, so that a visit costs one cache miss.
//!
//! Fifteen halves fit beside the line's head; a peer with more is a hub, whose halves lie elsewhere. Halves are always in
//! ascending order of the neighbour's number: what a search meets first then depends on the graph alone, never on the
//! order in which links came and went.

use super::{
    half::{Flags, Half, position},
    hub::Hub,
};
use crate::table;

/// Halves that fit into a line.
const INLINE: usize = 15;
/// A hub that shrinks to this many moves back: well below [`INLINE`], so that one link that flaps moves nothing.
const BACK: usize = 10;

const ACTIVE: u32 = 1 << 31;
const HUB: u32 = 1 << 30;
const VACANT: u32 = 1 << 29;
/// Degree, index into `hubs`, or the next vacant line.
const REST: u32 = VACANT - 1;
/// The end of the list of vacant lines.
const END: u32 = REST;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Line {
    head: u32,
    halves: [Half; INLINE],
}

const _: () = assert!(size_of::<Line>() == 64);

#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// In one piece however many they are: the address of a line is then one multiplication away, which searches over a grid
    /// of a million peers feel.
    peers: Vec<Line>,
    hubs: Vec<Hub>,
    free_hubs: Vec<u32>,
    vacant: u32,
    live: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self { peers: Vec::new(), hubs: Vec::new(), free_hubs: Vec::new(), vacant: END, live: 0 }
    }
}

impl Lines {
    /// Lines that exist, vacant ones included: every number is below it.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Peers.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// A line without halves, active: the vacant one that was freed last, else a new one.
    pub(crate) fn add(&mut self) -> u32 {
        self.live += 1;
        let line = Line { head: ACTIVE, halves: [Half::default(); INLINE] };
        if self.vacant == END {
            let id = self.peers.len();
            assert!(id < super::NodeId::LIMIT, "a graph holds at most {} peers", super::NodeId::LIMIT);
            table::push(&mut self.peers, line);
            id as u32
        } else {
            let id = self.vacant;
            self.vacant = self.peers[id as usize].head & REST;
            self.peers[id as usize] = line;
            id
        }
    }

    /// Frees a line that has no halves any more.
    pub(crate) fn remove(&mut self, id: u32) {
        debug_assert!(self.contains(id) && self.degree(id) == 0, "only a peer without links is removed");
        self.live -= 1;
        if self.live == 0 {
            *self = Self::default();
            return;
        }
        self.peers[id as usize].head = VACANT | self.vacant;
        self.vacant = id;
    }

    /// The first word of a line.
    #[inline]
    pub(crate) fn head(&self, id: u32) -> u32 {
        self.peers[id as usize].head
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.peers.get(id as usize).is_some_and(|line| line.head & VACANT == 0)
    }

    pub(crate) fn is_active(&self, id: u32) -> bool {
        self.peers.get(id as usize).is_some_and(|line| line.head & ACTIVE != 0)
    }

    pub(crate) fn set_active(&mut self, id: u32, active: bool) {
        let head = &mut self.peers[id as usize].head;
        *head = if active { *head | ACTIVE } else { *head & !ACTIVE };
    }

    /// Halves of any kind.
    pub(crate) fn degree(&self, id: u32) -> usize {
        let head = self.peers[id as usize].head;
        if head & HUB == 0 { (head & REST) as usize } else { self.hubs[(head & REST) as usize].len() }
    }

    /// Calls `visit` with the halves in ascending order, a run at a time, until it breaks.
    #[inline]
    pub(crate) fn runs<B>(
        &self,
        id: u32,
        mut visit: impl FnMut(&[Half]) -> std::ops::ControlFlow<B>,
    ) -> std::ops::ControlFlow<B> {
        let line = &self.peers[id as usize];
        if line.head & HUB == 0 {
            return visit(&line.halves[..((line.head & REST) as usize).min(INLINE)]);
        }
        let hub = &self.hubs[(line.head & REST) as usize];
        visit(hub.first())?;
        hub.rest().iter().try_for_each(|chunk| visit(chunk))
    }

    /// Reads a line ahead of its use.
    ///
    /// For several lines in a row: nothing waits for what is read here, so that the processor fetches all of them at the
    /// same time. The work that follows, with its branches on what a line holds, would fetch one after another.
    #[inline]
    pub(crate) fn warm(&self, id: u32) {
        std::hint::black_box(self.peers[id as usize].head);
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
        let (inline, chunks): (&[Half], &[Vec<Half>]) = match self.peers.get(id as usize) {
            None => (&[], &[]),
            Some(line) if line.head & VACANT != 0 => (&[], &[]),
            Some(line) if line.head & HUB == 0 => (&line.halves[..(line.head & REST) as usize], &[]),
            Some(line) => {
                let hub = &self.hubs[(line.head & REST) as usize];
                (hub.first(), hub.rest())
            }
        };
        inline.iter().chain(chunks.iter().flatten()).copied()
    }

    /// The first half towards a peer above `after`.
    pub(crate) fn next(&self, id: u32, after: Option<u32>) -> Option<Half> {
        let from = after.map_or(0, |peer| peer + 1);
        let line = &self.peers[id as usize];
        if line.head & HUB != 0 {
            return self.hubs[(line.head & REST) as usize].first_from(from);
        }
        let halves = &line.halves[..(line.head & REST) as usize];
        let at = position(halves, from).unwrap_or_else(|at| at);
        halves.get(at).copied()
    }

    /// The flags of the half at `id` towards `peer`; none where there is no such half.
    pub(crate) fn get(&self, id: u32, peer: u32) -> Flags {
        let Some(line) = self.peers.get(id as usize) else { return Flags::NONE };
        if line.head & VACANT != 0 {
            return Flags::NONE;
        }
        if line.head & HUB != 0 {
            return self.hubs[(line.head & REST) as usize].get(peer).map_or(Flags::NONE, Half::flags);
        }
        let halves = &line.halves[..(line.head & REST) as usize];
        position(halves, peer).map_or(Flags::NONE, |at| halves[at].flags())
    }

    /// Writes the half at `id` towards `peer`.
    pub(crate) fn put(&mut self, id: u32, peer: u32, flags: Flags) {
        let half = Half::new(peer, flags);
        let line = &mut self.peers[id as usize];
        let rest = (line.head & REST) as usize;
        if line.head & HUB != 0 {
            self.hubs[rest].put(half);
            return;
        }
        match position(&line.halves[..rest], peer) {
            Ok(at) => line.halves[at] = half,
            Err(at) if rest < INLINE => {
                line.halves.copy_within(at..rest, at + 1);
                line.halves[at] = half;
                line.head += 1;
            }
            Err(_) => {
                let mut hub = Hub::from_sorted(&line.halves);
                hub.put(half);
                let place = if let Some(place) = self.free_hubs.pop() {
                    self.hubs[place as usize] = hub;
                    place
                } else {
                    self.hubs.push(hub);
                    (self.hubs.len() - 1) as u32
                };
                line.head = line.head & ACTIVE | HUB | place;
            }
        }
    }

    /// Removes the half at `id` towards `peer`, if there is one.
    pub(crate) fn take(&mut self, id: u32, peer: u32) {
        let line = &mut self.peers[id as usize];
        let rest = (line.head & REST) as usize;
        if line.head & HUB == 0 {
            if let Ok(at) = position(&line.halves[..rest], peer) {
                line.halves.copy_within(at + 1..rest, at);
                line.head -= 1;
            }
            return;
        }
        let hub = &mut self.hubs[rest];
        hub.remove(peer);
        if hub.len() <= BACK {
            let hub = std::mem::take(hub);
            for (slot, half) in
                line.halves.iter_mut().zip(hub.first().iter().chain(hub.rest().iter().flatten()))
            {
                *slot = *half;
            }
            line.head = line.head & ACTIVE | hub.len() as u32;
            self.free_hubs.push(rest as u32);
        }
    }

    /// Heap bytes.
    pub(crate) fn bytes(&self) -> usize {
        let hubs: usize = self.hubs.iter().map(Hub::bytes).sum();
        self.peers.capacity() * size_of::<Line>()
            + self.hubs.capacity() * size_of::<Hub>()
            + self.free_hubs.capacity() * size_of::<u32>()
            + hubs
    }
}

//! One changing, undirected graph.
//!
//! The graph knows peers by number ([`NodeId`]) and two facts about each link: that it exists, and whether a path may
//! take it now, which needs both of its peers active. [`Room`](crate::Room) keeps the further facts of the link-state
//! rules in the same four bytes; this layer only carries them.
//!
//! Costs, with `d` the degree: adding, removing or finding a link O(log d) and at most a 2 KiB move; switching a peer on
//! or off, or removing it, O(d log d). Nothing is ever O(peers).

mod half;
mod hub;
mod id;
mod lines;

use std::ops::ControlFlow;

pub(crate) use half::{Flags, Half, ID_BITS};
pub use id::NodeId;
use lines::Lines;

/// A changing, undirected graph without self-links or parallel links.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    lines: Lines,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a peer, active and without links. Takes the number that was freed last, else the next one.
    ///
    /// # Panics
    /// At [`NodeId::LIMIT`] peers (134 million).
    pub fn add_node(&mut self) -> NodeId {
        NodeId(self.lines.add())
    }

    /// Removes a peer with all its links and frees its number. `false`: there was none.
    pub fn remove_node(&mut self, node: NodeId) -> bool {
        if !self.contains(node) {
            return false;
        }
        while let Some(half) = self.lines.next(node.0, None) {
            self.write(node.0, half.peer(), Flags::NONE, Flags::NONE);
        }
        self.lines.remove(node.0);
        true
    }

    /// Whether there is a peer with that number.
    pub fn contains(&self, node: NodeId) -> bool {
        self.lines.contains(node.0)
    }

    /// Whether paths may visit the peer. `false` also for one that is not there.
    pub fn is_active(&self, node: NodeId) -> bool {
        self.lines.is_active(node.0)
    }

    /// Lets paths visit the peer, or not; its links stay known. `false`: nothing changed, or there is no such peer.
    pub fn set_active(&mut self, node: NodeId, active: bool) -> bool {
        if !self.contains(node) || self.is_active(node) == active {
            return false;
        }
        self.lines.set_active(node.0, active);
        self.lines.warm_neighbors(node.0);
        let mut after = None;
        // One half at a time, because the loop writes into the neighbours' lines.
        while let Some(half) = self.lines.next(node.0, after) {
            let peer = half.peer();
            let back = self.lines.get(peer, node.0);
            let open = active && back.has(Flags::UP);
            if back.has(Flags::OPEN) != open {
                self.lines.put(peer, node.0, back.with(Flags::OPEN, open));
            }
            after = Some(peer);
        }
        true
    }

    /// Adds a link. `false`: it was there, it would be a self-link, or an end is missing.
    pub fn add_link(&mut self, a: NodeId, b: NodeId) -> bool {
        if a == b || !self.contains(a) || !self.contains(b) || self.has_link(a, b) {
            return false;
        }
        let (ab, ba) = (self.lines.get(a.0, b.0), self.lines.get(b.0, a.0));
        self.write(a.0, b.0, ab | Flags::UP, ba | Flags::UP);
        true
    }

    /// Removes a link. `false`: there was none.
    pub fn remove_link(&mut self, a: NodeId, b: NodeId) -> bool {
        let known = self.has_link(a, b);
        if known {
            self.write(a.0, b.0, Flags::NONE, Flags::NONE);
        }
        known
    }

    /// Whether the link exists and is up, whether or not its peers are active.
    pub fn has_link(&self, a: NodeId, b: NodeId) -> bool {
        self.lines.get(a.0, b.0).has(Flags::UP)
    }

    /// Whether a path may take the link now.
    pub fn is_open(&self, a: NodeId, b: NodeId) -> bool {
        self.is_active(a) && self.lines.get(a.0, b.0).has(Flags::OPEN)
    }

    /// The active peers that an active peer has a link to, ascending; none for a peer that is not active.
    pub fn neighbors(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let active = self.is_active(node);
        self.lines.halves(node.0).filter(move |half| active && half.is_open()).map(|half| NodeId(half.peer()))
    }

    /// Every peer, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.lines.len() as u32).filter(|&id| self.lines.contains(id)).map(NodeId)
    }

    /// Every link that is up, once, the lower number first, ascending.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.nodes().flat_map(|a| {
            self.halves(a)
                .filter(move |half| half.peer() > a.0 && half.flags().has(Flags::UP))
                .map(move |half| (a, NodeId(half.peer())))
        })
    }

    /// Peers, active or not.
    pub fn len(&self) -> usize {
        self.lines.live()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the largest number in use: the length of a table that is indexed by peer.
    pub fn slots(&self) -> usize {
        self.lines.len()
    }

    /// Heap memory, in bytes: what is reserved, so in graphs of 131,072 to 524,288 peers more than what is used.
    pub fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Halves of any kind at a peer.
    pub(crate) fn degree(&self, node: NodeId) -> usize {
        self.lines.degree(node.0)
    }

    pub(crate) fn halves(&self, node: NodeId) -> impl Iterator<Item = Half> + '_ {
        self.lines.halves(node.0)
    }

    /// What `a` says about its link to `b`.
    pub(crate) fn flags(&self, a: NodeId, b: NodeId) -> Flags {
        self.lines.get(a.0, b.0)
    }

    /// Writes both halves; OPEN is worked out here. Without a flag on either side the link is forgotten.
    pub(crate) fn set_flags(&mut self, a: NodeId, b: NodeId, ab: Flags, ba: Flags) {
        self.write(a.0, b.0, ab, ba);
    }

    /// [`Graph::set_active`] to `false`, for whoever then writes each of the peer's links.
    pub(crate) fn hide(&mut self, node: NodeId) -> bool {
        let was = self.is_active(node);
        if was {
            self.lines.set_active(node.0, false);
        }
        was
    }

    /// Reads the lines of some peers ahead of their use.
    pub(crate) fn warm(&self, nodes: &[NodeId]) {
        for node in nodes {
            self.lines.warm(node.0);
        }
    }

    /// Reads the lines of a peer's neighbours ahead of their use.
    pub(crate) fn warm_neighbors(&self, node: NodeId) {
        self.lines.warm_neighbors(node.0);
    }

    /// Frees the number of a peer without halves.
    pub(crate) fn free(&mut self, node: NodeId) {
        self.lines.remove(node.0);
    }

    /// Reads the beginning of a peer's line, for the cache's sake.
    #[inline]
    pub(crate) fn touch(&self, id: u32) -> bool {
        self.lines.touch(id)
    }

    #[inline]
    pub(crate) fn runs<B>(&self, id: u32, visit: impl FnMut(&[Half]) -> ControlFlow<B>) -> ControlFlow<B> {
        self.lines.runs(id, visit)
    }

    fn write(&mut self, a: u32, b: u32, ab: Flags, ba: Flags) {
        let up = ab.has(Flags::UP);
        debug_assert_eq!(up, ba.has(Flags::UP), "both halves agree on whether the link is up");
        if ab == Flags::NONE && ba == Flags::NONE {
            self.lines.take(a, b);
            self.lines.take(b, a);
            return;
        }
        // Both halves or none: a peer's own halves name everyone who refers to it.
        self.lines.put(a, b, ab.with(Flags::OPEN, up && self.lines.is_active(b)));
        self.lines.put(b, a, ba.with(Flags::OPEN, up && self.lines.is_active(a)));
    }
}

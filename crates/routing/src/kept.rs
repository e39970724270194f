//! The way from each peer to the nearest of a few sources, kept while the graph changes.
//!
//! Where many ask for the nearest of the same peers (the gateways of a room), a search for each looks at the same peers
//! over and over. Here each peer knows its distance to the nearest source and its next hop, so that a path is read
//! off: one look for each peer on it.
//!
//! # Which of several shortest paths
//! The next hop is the lowest-numbered neighbour that is one hop nearer. So a path is a function of the links, the peers and
//! the sources that are there NOW, whatever came before. A search may find another one of the same length.
//!
//! # Repair
//! After a change of the graph, in two steps. First the losses, by levels (Even and Shiloach: An on-line edge-deletion problem,
//! 1981): who has lost its next hop takes another neighbour of the same level, and who has none loses its distance, and with it
//! those whose next hop it is. Then the gains, nearest first (as Dijkstra): who has no distance takes the best of its
//! neighbours', and new links, peers and sources improve what lies behind them. Several changes may be followed at once.
//!
//! # What it may cost
//! ```text
//!   no tree ── requests have paid for it ──▶ tree ── a repair is too large, or is not paid for ──▶ no tree
//! ```
//! Costs are counted in peers looked at. Searches pay what they looked at ([`Kept::earn`]); a tree is built when that has
//! come to the size of the graph, and may then be repaired for as much again and for what its readers pay. A single
//! repair that goes beyond [`Bounds::repair`] is given up, and the tree with it. So no change costs O(peers), and changes
//! between which nobody asks cost nothing after a while. In a graph of up to [`Bounds::small`] peers a tree is built at the
//! first request.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    Changes, Graph, NodeId,
    graph::{Half, ID_BITS},
};

/// What a read pays: about what the search would have looked at.
const READ: usize = 128;
/// So many halves are as much work as one peer: what a peer's line has.
const LINE: usize = 16;

const FAR: u32 = u32::MAX;
const NOBODY: u32 = 1 << ID_BITS;
const SOURCE: u32 = 1 << 31;

/// What a tree may cost, in peers looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// One repair; 4096. One that needs more drops the tree.
    pub repair: usize,
    /// A tree that nobody has paid for; 4096. A search may cost as much.
    pub small: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { repair: 4096, small: 4096 }
    }
}

/// What is kept for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Hops to the nearest source; [`FAR`]: none can be reached, or the peer is not active.
    distance: u32,
    /// The next hop, [`NOBODY`] at a source and at a peer without a distance. The top bit: it is a source, active or not.
    next: u32,
}

impl Place {
    const NONE: Self = Self { distance: FAR, next: NOBODY };

    fn is_source(self) -> bool {
        self.next & SOURCE != 0
    }

    fn next(self) -> u32 {
        self.next & !SOURCE
    }

    fn set(&mut self, distance: u32, next: u32) {
        self.distance = distance;
        self.next = self.next & SOURCE | next;
    }
}

/// See the module. 8 bytes for each peer of the graph while there is a tree, nothing otherwise.
///
/// It belongs to one graph and has to be told of every change: [`Kept::follow`], [`Kept::set_source`].
#[derive(Debug, Clone, Default)]
pub struct Kept {
    bounds: Bounds,
    /// By number; empty: there is no tree. Those past its end have no place yet.
    places: Vec<Place>,
    sources: usize,
    /// Without a tree what searches have paid, with one what repairs may cost.
    credit: usize,
    /// (distance, peer) of those whose loss or gain is still to be passed on.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
    /// Those that lost their distance in this repair.
    lost: Vec<u32>,
    work: usize,
}

impl Kept {
    /// Without a tree.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Before a request: builds the tree if there is none and it is paid for. Whether there is one now; never without a source.
    pub fn prepare(&mut self, graph: &Graph, sources: impl IntoIterator<Item = NodeId>) -> bool {
        self.work = 0;
        if !self.is_kept() && (graph.slots() <= self.bounds.small || self.credit >= graph.slots()) {
            self.build(graph, sources);
        }
        self.is_kept()
    }

    /// A search has answered what a tree could have: it looked at so many peers.
    pub fn earn(&mut self, visited: usize) {
        if !self.is_kept() {
            self.credit = self.credit.saturating_add(visited);
        }
    }

    /// Whether there is a tree.
    pub fn is_kept(&self) -> bool {
        !self.places.is_empty()
    }

    /// Hops to the nearest source. `None`: no source can be reached, the peer is not active, or there is no tree.
    pub fn distance(&self, node: NodeId) -> Option<usize> {
        let distance = self.place(node.0).distance;
        (distance != FAR).then_some(distance as usize)
    }

    /// The shortest path from a peer to the nearest source, both included, into `path`; of length 1 where it is one itself.
    /// `false`, and an empty path: see [`Kept::distance`].
    pub fn path(&mut self, from: NodeId, path: &mut Vec<NodeId>) -> bool {
        path.clear();
        if self.is_kept() {
            self.credit = (self.credit + READ).min(2 * self.places.len());
        }
        let mut looked_at = 1;
        let mut place = self.place(from.0);
        let found = place.distance != FAR;
        if found {
            path.push(from);
            while place.next() != NOBODY {
                path.push(NodeId(place.next()));
                place = self.places[place.next() as usize];
                looked_at += 1;
            }
        }
        self.work += looked_at;
        found
    }

    /// After changes of the graph, all that there were since it was told last.
    pub fn follow(&mut self, graph: &Graph, changes: &Changes) {
        if !self.is_kept() {
            return;
        }
        self.begin(graph, changes.links.len() + changes.peers.len());
        for link in &changes.links {
            if !graph.is_open(link.a, link.b) {
                self.lose_hop(link.a.0, link.b.0);
                self.lose_hop(link.b.0, link.a.0);
            }
        }
        for change in changes.peers.iter().filter(|change| !graph.is_active(change.peer)) {
            self.lose(graph, change.peer.0);
        }
        self.pass_losses(graph);
        for link in changes.links.iter().filter(|link| graph.is_open(link.a, link.b)) {
            self.gain_hop(link.a.0, link.b.0);
            self.gain_hop(link.b.0, link.a.0);
        }
        for change in changes.peers.iter().filter(|change| graph.is_active(change.peer)) {
            self.take_best(graph, change.peer.0);
        }
        self.pass_gains(graph);
        self.end();
    }

    /// A peer is a source, or no longer; after [`Kept::follow`]. One that leaves has to be told of before it does: its
    /// number may be given to another.
    pub fn set_source(&mut self, graph: &Graph, node: NodeId, source: bool) {
        let missing = source && !graph.contains(node);
        if !self.is_kept() || missing || self.place(node.0).is_source() == source {
            return;
        }
        self.begin(graph, 1);
        let place = &mut self.places[node.index()];
        if source {
            place.next |= SOURCE;
            self.sources += 1;
            self.take_best(graph, node.0);
        } else {
            place.next &= !SOURCE;
            self.sources -= 1;
            if place.distance == 0 {
                self.queue.push(Reverse((0, node.0)));
            }
            self.pass_losses(graph);
        }
        self.pass_gains(graph);
        self.end();
    }

    /// Peers that the last [`Kept::prepare`], [`Kept::follow`] or [`Kept::set_source`] looked at, and each
    /// [`Kept::path`] since: what it cost.
    pub fn visited(&self) -> usize {
        self.work
    }

    /// Heap memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
            + self.queue.capacity() * size_of::<(u32, u32)>()
            + self.lost.capacity() * size_of::<u32>()
    }

    fn place(&self, node: u32) -> Place {
        self.places.get(node as usize).copied().unwrap_or(Place::NONE)
    }

    fn build(&mut self, graph: &Graph, sources: impl IntoIterator<Item = NodeId>) {
        let mut sources: Vec<u32> =
            sources.into_iter().filter(|&source| graph.contains(source)).map(|source| source.0).collect();
        sources.sort_unstable();
        sources.dedup();
        if sources.is_empty() {
            return;
        }
        self.places = vec![Place::NONE; graph.slots()];
        self.sources = sources.len();
        for &source in &sources {
            self.places[source as usize].next |= SOURCE;
        }
        let mut found = sources;
        found.retain(|&source| graph.is_active(NodeId(source)));
        for &source in &found {
            self.places[source as usize].distance = 0;
        }
        let mut at = 0;
        while let Some(&near) = found.get(at) {
            at += 1;
            each_open(graph, near, |far| found.extend(self.improve(near, far).then_some(far)));
        }
        self.work = self.places.len();
        self.credit = self.places.len();
    }

    /// A repair begins.
    fn begin(&mut self, graph: &Graph, changes: usize) {
        self.work = changes;
        self.queue.clear();
        self.lost.clear();
        if self.places.len() < graph.slots() {
            self.places.reserve_exact(graph.slots() - self.places.len() + graph.slots() / 16);
            self.places.resize(graph.slots(), Place::NONE);
        }
    }

    /// It has ended: what it cost is taken from the credit, and a tree that is not worth it is dropped.
    fn end(&mut self) {
        if self.is_over() || self.work > self.credit || self.sources == 0 {
            let Self { bounds, work, .. } = *self;
            *self = Self { bounds, work, ..Self::default() };
        } else {
            self.credit -= self.work;
            // A hub may have put all its neighbours there.
            self.queue.shrink_to(self.bounds.repair);
            self.lost.shrink_to(self.bounds.repair);
        }
    }

    fn is_over(&self) -> bool {
        self.work > self.bounds.repair
    }

    /// There is no way from a peer to its neighbour any more.
    fn lose_hop(&mut self, from: u32, to: u32) {
        let place = self.place(from);
        if place.next() == to {
            self.queue.push(Reverse((place.distance, from)));
        }
    }

    /// A peer has no distance any more, and those behind it have lost their next hop.
    fn lose(&mut self, graph: &Graph, node: u32) {
        let place = &mut self.places[node as usize];
        if place.distance == FAR {
            return;
        }
        place.set(FAR, NOBODY);
        self.lost.push(node);
        let Self { places, queue, .. } = self;
        self.work += each_open(graph, node, |behind| {
            let place = places[behind as usize];
            if place.next() == node {
                queue.push(Reverse((place.distance, behind)));
            }
        });
    }

    /// Whoever is in the queue has lost its next hop: it takes another one of the same level, or loses its distance. Level by
    /// level, so that a neighbour that is one level nearer has lost its own before, if it does.
    fn pass_losses(&mut self, graph: &Graph) {
        while !self.is_over()
            && let Some(Reverse((distance, node))) = self.queue.pop()
        {
            if self.place(node).distance != distance {
                continue;
            }
            let (other, work) =
                lowest(graph, node, |next| self.place(next).distance.checked_add(1) == Some(distance));
            self.work += work;
            match other {
                Some(next) => self.places[node as usize].set(distance, next),
                None => self.lose(graph, node),
            }
        }
        self.queue.clear();
        while !self.is_over()
            && let Some(node) = self.lost.pop()
        {
            self.take_best(graph, node);
        }
    }

    /// There is a way from a peer to its neighbour now.
    fn gain_hop(&mut self, near: u32, far: u32) {
        if self.improve(near, far) {
            self.queue.push(Reverse((self.places[far as usize].distance, far)));
        }
    }

    /// A peer takes the best of its neighbours' distances, if that is better than its own.
    fn take_best(&mut self, graph: &Graph, node: u32) {
        if !graph.is_active(NodeId(node)) {
            return;
        }
        let before = self.place(node);
        if before.is_source() {
            self.places[node as usize].set(0, NOBODY);
        } else {
            self.work += each_open(graph, node, |next| {
                self.improve(next, node);
            });
        }
        let after = self.place(node).distance;
        if after < before.distance {
            self.queue.push(Reverse((after, node)));
        }
    }

    /// Whoever is in the queue is nearer than before: so may be its neighbours. Nearest first, so that each is gone
    /// through with its final distance.
    fn pass_gains(&mut self, graph: &Graph) {
        while !self.is_over()
            && let Some(Reverse((distance, node))) = self.queue.pop()
        {
            if self.place(node).distance == distance {
                self.work += each_open(graph, node, |far| self.gain_hop(node, far));
            }
        }
    }

    /// `far` goes through `near` if that is shorter, or as short and the lower number. Whether its distance changed.
    fn improve(&mut self, near: u32, far: u32) -> bool {
        let through = self.places[near as usize].distance.saturating_add(1);
        let place = &mut self.places[far as usize];
        let nearer = through < place.distance;
        if nearer || through == place.distance && through != FAR && near < place.next() {
            place.set(through, near);
        }
        nearer
    }
}

/// Calls `with` for each neighbour that a path may go to, ascending; returns what that costs.
fn each_open(graph: &Graph, node: u32, mut with: impl FnMut(u32)) -> usize {
    let mut halves = 0;
    for half in graph.halves(NodeId(node)) {
        halves += 1;
        if half.is_open() {
            with(half.peer());
        }
    }
    1 + halves / LINE
}

/// The lowest neighbour that a path may go to and that fits, and what looking for it costs.
fn lowest(graph: &Graph, node: u32, mut fits: impl FnMut(u32) -> bool) -> (Option<u32>, usize) {
    let mut halves = 0;
    let mut open =
        graph.halves(NodeId(node)).inspect(|_| halves += 1).filter(|half| half.is_open()).map(Half::peer);
    let found = open.find(|&next| fits(next));
    drop(open);
    (found, 1 + halves / LINE)
}

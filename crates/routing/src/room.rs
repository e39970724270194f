//! One room: names, and the rules by which what peers say becomes a graph.
//!
//! ```text
//!   a link exists   <=  it is a seed link, or either end announces it
//!   a link is up    <=  it exists, and neither end reports it down
//!   a peer is present  <=  it is connected          (Liveness::Connected)
//!                      or  a standing announcement names it  (Liveness::Announced)
//!   a path runs over links that are up, through peers that are present
//! ```
//!
//! - An announcement replaces what that peer itself announced before, and nothing that others announced.
//! - What a connection announced goes when the connection goes. A report (`link` up/down) ends by the same end's
//!   `up: true` or its next connection.
//! - A peer's number is freed once it is not connected and no link names it.
//!
//! Costs: each call is O(what was said + the speaker's degree), never O(room). Calls come one at a time, from whoever
//! owns the room; every call adds to a [`Changes`] what it changed.

mod changes;
mod names;
mod rules;
mod seeds;
mod view;

use std::{fmt, hash::Hash};

pub use changes::{Changes, LinkChange, PeerChange};
use names::{Hash32, Names};
pub use rules::{Links, Liveness, Rules};
use view::exists;
pub use view::{Link, Peer};

use crate::{Graph, NodeId, RoomError, graph::Flags, table::Table};

/// A report about a link that has ceased to exist is kept while its peer is connected, in case the other end announces the link again;
/// not by a peer with more links and reports than this, so that reports cannot pile up.
const REPORTS: usize = 1024;

/// Names of one announcement that are looked up together.
const TOGETHER: usize = 16;

/// What the room keeps for a peer beside its links: whether it is connected in the lowest bit, and above it how many standing
/// announcements name it, counted only where presence depends on it ([`Liveness::Announced`]).
#[derive(Debug, Clone, Copy, Default)]
struct State(u32);

impl State {
    const CONNECTED: u32 = 1;
    const NAMED: u32 = 2;

    fn is_connected(self) -> bool {
        self.0 & Self::CONNECTED != 0
    }

    fn set_connected(&mut self, connected: bool) {
        self.0 = self.0 & !Self::CONNECTED | u32::from(connected);
    }

    fn is_named(self) -> bool {
        self.0 >= Self::NAMED
    }

    /// One announcement more, or less.
    fn count_naming(&mut self, more: bool) {
        if more { self.0 += Self::NAMED } else { self.0 -= Self::NAMED }
    }
}

/// A link of a peer, as both of its ends speak of it.
#[derive(Debug, Clone, Copy)]
struct Tie {
    peer: NodeId,
    mine: Flags,
    back: Flags,
}

/// One room. `N` is the type of names.
#[derive(Debug, Clone)]
pub struct Room<N> {
    rules: Rules,
    graph: Graph,
    names: Names<N>,
    states: Table<State>,
    connected: usize,
    links: usize,
    /// Who may have become unreferenced; settled before the next change, so that [`Changes`] can be read in between.
    loose: Vec<NodeId>,
    /// Memory for one call at a time.
    told: Vec<NodeId>,
    ties: Vec<Tie>,
}

impl<N> Default for Room<N> {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            graph: Graph::new(),
            names: Names::default(),
            states: Table::default(),
            connected: 0,
            links: 0,
            loose: Vec::new(),
            told: Vec::new(),
            ties: Vec::new(),
        }
    }
}

impl<N: Clone + Eq + Hash + fmt::Display + fmt::Debug> Room<N> {
    /// An empty room.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// A peer has connected. Its own earlier reports end.
    ///
    /// One that was connected already has been replaced by a newer connection, and everything the older one said goes: it
    /// is listed as gone and present again, since routes through it are lost (not under [`Liveness::Announced`] while
    /// others name it).
    pub fn join(&mut self, name: &N, changes: &mut Changes) -> NodeId {
        self.settle();
        let id = self.intern(name);
        if self.state(id).is_connected() {
            self.disconnect(id, changes);
        }
        self.states[id.index()].set_connected(true);
        self.connected += 1;
        if self.graph.halves(id).any(|half| half.flags().has(Flags::DOWN)) {
            self.each_tie(id, |room, tie| {
                if tie.mine.has(Flags::DOWN) {
                    room.write(id, tie, tie.mine.with(Flags::DOWN, false), changes);
                }
            });
        }
        self.refresh_presence(id, changes);
        id
    }

    /// A peer's connection has ended: its announcements go, and paths no longer run through it.
    pub fn leave(&mut self, id: NodeId, changes: &mut Changes) {
        self.settle();
        if self.state(id).is_connected() {
            self.disconnect(id, changes);
        }
    }

    /// A peer says which neighbours it has, in place of what it said before. Its own name and repetitions are ignored.
    ///
    /// # Errors
    /// [`RoomError::NotALink`] under [`Links::Declared`], [`RoomError::NotConnected`]; the earlier announcement stands.
    pub fn announce<'a>(
        &mut self,
        id: NodeId,
        neighbors: impl IntoIterator<Item = &'a N>,
        changes: &mut Changes,
    ) -> Result<(), RoomError<N>>
    where
        N: 'a,
    {
        self.settle();
        self.check_connected(id)?;
        let mut told = std::mem::take(&mut self.told);
        told.clear();
        let answer = self.resolve(id, neighbors.into_iter(), &mut told);
        if answer.is_ok() {
            told.sort_unstable();
            told.dedup();
            self.replace_announcement(id, &told, changes);
        }
        self.told = told;
        answer
    }

    /// A peer reports that its link to a neighbour failed (`up: false`) or works again (`up: true`).
    ///
    /// # Errors
    /// [`RoomError::NotALink`], [`RoomError::NotConnected`].
    pub fn report(
        &mut self,
        id: NodeId,
        neighbor: &N,
        up: bool,
        changes: &mut Changes,
    ) -> Result<(), RoomError<N>> {
        self.settle();
        self.check_connected(id)?;
        let other = self.id(neighbor).ok_or_else(|| self.not_a_link(id, neighbor))?;
        let before = (self.graph.flags(id, other), self.graph.flags(other, id));
        if !exists(before.0, before.1) && !before.0.has(Flags::DOWN) {
            return Err(self.not_a_link(id, neighbor));
        }
        self.replace(id, other, before, (before.0.with(Flags::DOWN, !up), before.1), changes);
        Ok(())
    }

    /// The numbers of the neighbours that a peer names, without its own.
    ///
    /// Some names at a time: nearly all of a lookup is waiting for memory, and several can wait together. That is why
    /// they are compared with the peer's own before the first of them is hashed.
    fn resolve<'a>(
        &mut self,
        id: NodeId,
        mut neighbors: impl Iterator<Item = &'a N>,
        told: &mut Vec<NodeId>,
    ) -> Result<(), RoomError<N>>
    where
        N: 'a,
    {
        let mut some: [Option<(&N, Hash32)>; TOGETHER] = [None; TOGETHER];
        loop {
            let own = self.names.name(id);
            let others = neighbors.by_ref().filter(|&name| Some(name) != own);
            let len = some
                .iter_mut()
                .zip(others)
                .map(|(slot, name)| *slot = Some((name, Hash32::default())))
                .count();
            for (name, hash) in some[..len].iter_mut().flatten() {
                *hash = self.names.hash(name);
            }
            let known: [_; TOGETHER] = self.names.find_all(&some[..len]);
            for (&(name, hash), known) in some[..len].iter().flatten().zip(known) {
                told.push(match (self.rules.links, known) {
                    (Links::Open, Some(neighbor)) => neighbor,
                    (Links::Open, None) => self.intern_hashed(name, hash),
                    (Links::Declared, Some(neighbor)) if self.graph.flags(id, neighbor).has(Flags::SEED) => {
                        neighbor
                    }
                    (Links::Declared, _) => return Err(self.not_a_link(id, name)),
                });
            }
            if len < TOGETHER {
                return Ok(());
            }
        }
    }

    fn replace_announcement(&mut self, id: NodeId, told: &[NodeId], changes: &mut Changes) {
        self.graph.warm(told);
        for &peer in told {
            let mine = self.graph.flags(id, peer);
            if !mine.has(Flags::ANNOUNCED) {
                let tie = Tie { peer, mine, back: self.graph.flags(peer, id) };
                self.set_announced(id, tie, true, changes);
            }
        }
        // All that it has is told now, unless some of it was told before only.
        if self.graph.degree(id) == told.len() {
            return;
        }
        self.each_tie(id, |room, tie| {
            if told.binary_search(&tie.peer).is_err() {
                room.set_announced(id, tie, false, changes);
            }
        });
    }

    /// The end `id` announces a link, or no longer. A link that it no longer speaks of, nor anyone else, loses its
    /// report too.
    fn set_announced(&mut self, id: NodeId, tie: Tie, on: bool, changes: &mut Changes) {
        let mut mine = tie.mine.with(Flags::ANNOUNCED, on);
        if !exists(mine, tie.back) {
            mine = mine.with(Flags::DOWN, false);
        }
        self.write(id, tie, mine, changes);
        if tie.mine.has(Flags::ANNOUNCED) != on {
            self.set_named(tie.peer, on, changes);
        }
    }

    /// A standing announcement names the peer, or no longer.
    fn set_named(&mut self, peer: NodeId, on: bool, changes: &mut Changes) {
        if self.rules.liveness == Liveness::Announced {
            self.states[peer.index()].count_naming(on);
            self.refresh_presence(peer, changes);
        }
    }

    fn disconnect(&mut self, id: NodeId, changes: &mut Changes) {
        self.states[id.index()].set_connected(false);
        self.connected -= 1;
        // Each of its links is written below, and what the other ends may take worked out then.
        let gone = !self.is_to_be_present(id) && self.graph.hide(id);
        self.each_tie(id, |room, tie| {
            // Also where nothing was announced: a report without a link ends here.
            room.set_announced(id, tie, false, changes);
        });
        if gone {
            changes.peers.push(PeerChange { peer: id, present: false });
        }
        self.loose.push(id);
    }

    /// Changes what the ends say about a link, and draws the consequences.
    fn edit(
        &mut self,
        a: NodeId,
        b: NodeId,
        changes: &mut Changes,
        say: impl FnOnce(Flags, Flags) -> (Flags, Flags),
    ) {
        let before = (self.graph.flags(a, b), self.graph.flags(b, a));
        let after = say(before.0, before.1);
        self.replace(a, b, before, after, changes);
    }

    /// As [`Self::edit`], where one end alone says something new.
    fn write(&mut self, id: NodeId, tie: Tie, mine: Flags, changes: &mut Changes) {
        self.replace(id, tie.peer, (tie.mine, tie.back), (mine, tie.back), changes);
    }

    fn replace(
        &mut self,
        a: NodeId,
        b: NodeId,
        before: (Flags, Flags),
        (mut ab, mut ba): (Flags, Flags),
        changes: &mut Changes,
    ) {
        let (existed, exists) = (exists(before.0, before.1), exists(ab, ba));
        if !exists {
            ab = ab.with(Flags::DOWN, ab.has(Flags::DOWN) && self.keeps_reports(a));
            ba = ba.with(Flags::DOWN, ba.has(Flags::DOWN) && self.keeps_reports(b));
        }
        let up = exists && !ab.has(Flags::DOWN) && !ba.has(Flags::DOWN);
        // OPEN is the graph's own; it works it out.
        let [ab, ba] = [ab, ba].map(|flags| flags.with(Flags::UP, up).with(Flags::OPEN, false));
        if before.0.has(Flags::UP) != up {
            changes.links.push(LinkChange { a, b, up });
        }
        self.links = self.links + usize::from(exists) - usize::from(existed);
        self.graph.set_flags(a, b, ab, ba);
        if !exists {
            self.loose.extend([a, b].into_iter().filter(|&end| self.graph.degree(end) == 0));
        }
    }

    fn keeps_reports(&self, id: NodeId) -> bool {
        self.state(id).is_connected() && self.graph.degree(id) <= REPORTS
    }

    fn refresh_presence(&mut self, id: NodeId, changes: &mut Changes) {
        let present = self.is_to_be_present(id);
        if self.graph.set_active(id, present) {
            changes.peers.push(PeerChange { peer: id, present });
        }
    }

    fn is_to_be_present(&self, id: NodeId) -> bool {
        let state = self.state(id);
        state.is_connected() || (self.rules.liveness == Liveness::Announced && state.is_named())
    }

    /// Calls `with` for each link of a peer as it is now; `with` may change the room, and of the peer's links this one.
    fn each_tie(&mut self, id: NodeId, mut with: impl FnMut(&mut Self, Tie)) {
        let mut ties = std::mem::take(&mut self.ties);
        ties.clear();
        self.graph.warm_neighbors(id);
        ties.extend(self.graph.halves(id).map(|half| {
            let peer = NodeId(half.peer());
            Tie { peer, mine: half.flags(), back: self.graph.flags(peer, id) }
        }));
        for &tie in &ties {
            with(self, tie);
        }
        self.ties = ties;
    }

    /// The number of a name, a new one if need be: not connected, not present, referred to by nothing yet.
    fn intern(&mut self, name: &N) -> NodeId {
        self.intern_hashed(name, self.names.hash(name))
    }

    fn intern_hashed(&mut self, name: &N, hash: Hash32) -> NodeId {
        if let Some(id) = self.names.find(name, hash) {
            return id;
        }
        let id = self.graph.add_node();
        self.graph.hide(id);
        self.names.insert(id, name.clone(), hash);
        self.states.reach(id.index());
        self.states[id.index()] = State::default();
        id
    }

    /// Frees the numbers that nothing refers to any more.
    fn settle(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        while let Some(id) = self.loose.pop() {
            if self.graph.contains(id) && !self.state(id).is_connected() && self.graph.degree(id) == 0 {
                self.graph.free(id);
                self.names.remove(id);
            }
        }
        if self.graph.is_empty() {
            self.names = Names::default();
            self.states = Table::default();
        }
    }

    fn state(&self, id: NodeId) -> State {
        self.states.get(id.index()).copied().unwrap_or_default()
    }

    fn check_connected(&self, id: NodeId) -> Result<(), RoomError<N>> {
        if self.state(id).is_connected() { Ok(()) } else { Err(RoomError::NotConnected(id.index())) }
    }

    fn not_a_link(&self, id: NodeId, neighbor: &N) -> RoomError<N> {
        let peer = self.name(id).cloned().unwrap_or_else(|| neighbor.clone());
        RoomError::NotALink { peer, neighbor: neighbor.clone() }
    }
}

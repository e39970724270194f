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
use names::Names;
pub use rules::{Links, Liveness, Rules};
use view::exists;
pub use view::{Link, Peer};

use crate::{
    Graph, NodeId, RoomError,
    graph::{Flags, Half},
};

/// A report about a link that has ceased to exist is kept while its peer is connected, in case the other end announces the link again;
/// not by a peer with more links and reports than this, so that reports cannot pile up.
const REPORTS: usize = 1024;

/// What the room keeps for a peer beside its links.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Standing announcements that name it.
    named: u32,
    connected: bool,
}

/// One room. `N` is the type of names.
#[derive(Debug, Clone)]
pub struct Room<N> {
    rules: Rules,
    graph: Graph,
    names: Names<N>,
    states: Vec<State>,
    connected: usize,
    links: usize,
    /// Who may have become unreferenced; settled before the next change, so that [`Changes`] can be read in between.
    loose: Vec<NodeId>,
    /// Memory for one call at a time.
    told: Vec<NodeId>,
    near: Vec<Half>,
}

impl<N> Default for Room<N> {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            graph: Graph::new(),
            names: Names::default(),
            states: Vec::new(),
            connected: 0,
            links: 0,
            loose: Vec::new(),
            told: Vec::new(),
            near: Vec::new(),
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
        if self.state(id).connected {
            self.disconnect(id, changes);
        }
        self.states[id.index()].connected = true;
        self.connected += 1;
        self.each_half(id, |room, half| {
            if half.flags().has(Flags::DOWN) {
                room.edit(id, NodeId(half.peer()), changes, |ab, ba| (ab.with(Flags::DOWN, false), ba));
            }
        });
        self.refresh_presence(id, changes);
        id
    }

    /// A peer's connection has ended: its announcements go, and paths no longer run through it.
    pub fn leave(&mut self, id: NodeId, changes: &mut Changes) {
        self.settle();
        if self.state(id).connected {
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
        let mut refused = None;
        for name in neighbors {
            let neighbor = match self.rules.links {
                Links::Open => self.intern(name),
                Links::Declared => match self.id(name) {
                    Some(neighbor) if neighbor == id || self.graph.flags(id, neighbor).has(Flags::SEED) => {
                        neighbor
                    }
                    _ => {
                        refused = Some(self.not_a_link(id, name));
                        break;
                    }
                },
            };
            if neighbor != id {
                told.push(neighbor);
            }
        }
        if refused.is_none() {
            told.sort_unstable();
            told.dedup();
            self.replace_announcement(id, &told, changes);
        }
        self.told = told;
        refused.map_or(Ok(()), Err)
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
        let other = self
            .id(neighbor)
            .filter(|&other| self.has_link(id, other) || self.graph.flags(id, other).has(Flags::DOWN))
            .ok_or_else(|| self.not_a_link(id, neighbor))?;
        self.edit(id, other, changes, |ab, ba| (ab.with(Flags::DOWN, !up), ba));
        Ok(())
    }

    fn replace_announcement(&mut self, id: NodeId, told: &[NodeId], changes: &mut Changes) {
        for &neighbor in told {
            self.set_announced(id, neighbor, true, changes);
        }
        self.each_half(id, |room, half| {
            let neighbor = NodeId(half.peer());
            if told.binary_search(&neighbor).is_ok() {
                return;
            }
            room.set_announced(id, neighbor, false, changes);
            // It no longer speaks of this link; nor does anyone else: then its report is over too.
            if !room.has_link(id, neighbor) {
                room.edit(id, neighbor, changes, |ab, ba| (ab.with(Flags::DOWN, false), ba));
            }
        });
    }

    fn set_announced(&mut self, id: NodeId, neighbor: NodeId, on: bool, changes: &mut Changes) {
        if self.graph.flags(id, neighbor).has(Flags::ANNOUNCED) == on {
            return;
        }
        let named = &mut self.states[neighbor.index()].named;
        *named = if on { *named + 1 } else { *named - 1 };
        self.edit(id, neighbor, changes, |ab, ba| (ab.with(Flags::ANNOUNCED, on), ba));
        self.refresh_presence(neighbor, changes);
    }

    fn disconnect(&mut self, id: NodeId, changes: &mut Changes) {
        self.states[id.index()].connected = false;
        self.connected -= 1;
        self.each_half(id, |room, half| {
            let neighbor = NodeId(half.peer());
            room.set_announced(id, neighbor, false, changes);
            // Also where nothing was announced: a report without a link ends here.
            room.edit(id, neighbor, changes, |ab, ba| (ab, ba));
        });
        self.refresh_presence(id, changes);
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
        let (mut ab, mut ba) = say(before.0, before.1);
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
            self.loose.extend([a, b]);
        }
    }

    fn keeps_reports(&self, id: NodeId) -> bool {
        self.state(id).connected && self.graph.degree(id) <= REPORTS
    }

    fn refresh_presence(&mut self, id: NodeId, changes: &mut Changes) {
        let state = self.state(id);
        let present = state.connected || (self.rules.liveness == Liveness::Announced && state.named > 0);
        if self.graph.set_active(id, present) {
            changes.peers.push(PeerChange { peer: id, present });
        }
    }

    /// Calls `with` for each half of a peer as it is now; `with` may change the room.
    fn each_half(&mut self, id: NodeId, mut with: impl FnMut(&mut Self, Half)) {
        let mut near = std::mem::take(&mut self.near);
        near.clear();
        near.extend(self.graph.halves(id));
        for &half in &near {
            with(self, half);
        }
        self.near = near;
    }

    /// The number of a name, a new one if need be: not connected, not present, referred to by nothing yet.
    fn intern(&mut self, name: &N) -> NodeId {
        if let Some(id) = self.names.id(name) {
            return id;
        }
        let id = self.graph.add_node();
        self.graph.set_active(id, false);
        self.names.insert(id, name.clone());
        if self.states.len() <= id.index() {
            if self.states.capacity() <= id.index() {
                self.states.reserve_exact(id.index() / 4 + 4);
            }
            self.states.resize(id.index() + 1, State::default());
        }
        self.states[id.index()] = State::default();
        id
    }

    /// Frees the numbers that nothing refers to any more.
    fn settle(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        while let Some(id) = self.loose.pop() {
            if self.graph.contains(id) && !self.state(id).connected && self.graph.degree(id) == 0 {
                self.graph.free(id);
                self.names.remove(id);
            }
        }
        if self.graph.is_empty() {
            self.names = Names::default();
            self.states = Vec::new();
        }
    }

    fn state(&self, id: NodeId) -> State {
        self.states.get(id.index()).copied().unwrap_or_default()
    }

    fn check_connected(&self, id: NodeId) -> Result<(), RoomError<N>> {
        if self.state(id).connected { Ok(()) } else { Err(RoomError::NotConnected(id.index())) }
    }

    fn not_a_link(&self, id: NodeId, neighbor: &N) -> RoomError<N> {
        let peer = self.name(id).cloned().unwrap_or_else(|| neighbor.clone());
        RoomError::NotALink { peer, neighbor: neighbor.clone() }
    }
}

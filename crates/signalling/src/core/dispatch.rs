//! Finding the way for a request, or anew for one whose path was lost, and telling everyone on it; telling everyone that a
//! route is no more.

use std::time::Duration;

use hopcast_protocol::{ContentId, ErrorCode, PeerName, RouteId, ServerMessage};
use hopcast_routing::NodeId;

use super::{
    Room,
    lost::{FRAME, Former, MEND_EVERY, Quest, SEARCH, WORK},
    output::{Dialect, Event, Outputs, PathEvent, RouteDownEvent, Tally},
    parse::Fault,
    room::Member,
    routes::{Asked, Route},
};
use crate::frame::Frame;

/// Why a path is broadcast.
enum Why {
    /// It was asked for, with this `id`.
    Asked(Option<u64>),
    /// Another one was lost.
    Lost(Former),
}

impl Room {
    pub(super) fn request(
        &mut self,
        from: NodeId,
        quest: Quest,
        id: Option<u64>,
        now: Duration,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        self.find(from, &quest)?;
        if let Some(member) = self.member(from) {
            let key = (member.connection, quest);
            self.lost.remove(&key);
            self.broadcast(key.1, &Why::Asked(id), now, out);
        }
        Ok(())
    }

    /// Tells of ended routes what was to be told later, finds anew what was lost, as much as one round may cost, and tells
    /// everyone. Returns when to call again; `None`: nothing waits.
    pub fn mend(&mut self, now: Duration, out: &mut Outputs) -> Option<Duration> {
        let untold = self.tell_untold(now, out);
        let unmended = self.mend_lost(now, out);
        untold.into_iter().chain(unmended).min()
    }

    fn mend_lost(&mut self, now: Duration, out: &mut Outputs) -> Option<Duration> {
        if self.lost.is_empty() {
            return None;
        }
        let wait = self.lost.begin(now);
        if !wait.is_zero() {
            return Some(wait);
        }
        let mut work = 0;
        while work < WORK
            && let Some(((connection, quest), former)) = self.lost.pop()
        {
            let Some(&from) = self.nodes.get(&connection) else { continue }; // it has left, too
            let found = self.find(from, &quest);
            work += SEARCH + self.visited;
            out.tally.push(Tally::Mended(found.is_ok()));
            match found {
                Ok(()) => {
                    work += FRAME * self.path.len();
                    self.broadcast(quest, &Why::Lost(former), now, out);
                }
                Err(fault) => self.tell_lost(from, fault, former, out),
            }
        }
        self.lost.end(work);
        (!self.lost.is_empty()).then_some(MEND_EVERY)
    }

    /// There is no other way. A client of the original is not told: it could take this for the answer to a request.
    fn tell_lost(&mut self, from: NodeId, fault: Fault, former: Former, out: &mut Outputs) {
        let Some(member) = self.member(from).filter(|member| member.dialect == Dialect::Hopcast) else {
            return;
        };
        let Fault { code, message, .. } = fault;
        out.tally.push(Tally::Error(code));
        let error = ServerMessage::Error { code, message, id: None, route: former.route };
        out.send(member.connection, Frame::json(&error));
    }

    /// The way into `self.path`, and what it cost into `self.visited`.
    fn find(&mut self, from: NodeId, quest: &Quest) -> Result<(), Fault> {
        self.visited = 0;
        match quest {
            Quest::Peer(target) => self.find_peer(from, target),
            Quest::Content { content, exclude, avoid } => self.find_holder(from, content, exclude, avoid),
        }
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        self.members.get(node.index()).copied().flatten()
    }

    fn find_peer(&mut self, from: NodeId, target: &PeerName) -> Result<(), Fault> {
        let to = self.graph.id(target).filter(|&to| self.graph.is_present(to)).ok_or_else(|| {
            let sentence = format!("`{target}` is not connected in room `{}`", self.name);
            Fault::new(ErrorCode::UnknownPeer, sentence)
        })?;
        let path = self.graph.path(&mut self.search, from, to);
        self.path.clear();
        self.path.extend_from_slice(path.unwrap_or_default());
        self.visited = self.search.visited();
        if self.path.is_empty() {
            let sentence = format!("no path leads to `{target}` in room `{}` now", self.name);
            return Err(Fault::new(ErrorCode::NoPath, sentence));
        }
        Ok(())
    }

    fn find_holder(
        &mut self,
        from: NodeId,
        content: &ContentId,
        exclude: &[PeerName],
        avoid: &[PeerName],
    ) -> Result<(), Fault> {
        let ids =
            |names: &[PeerName]| -> Vec<_> { names.iter().filter_map(|name| self.graph.id(name)).collect() };
        let (mut excluded, avoided) = (ids(exclude), ids(avoid));
        excluded.push(from); // who asks does not have it
        let kept = self.read_off(from, &excluded, &avoided);
        // Beside what was read off only a nearer holder counts; where it says nothing, any, gateways too.
        let (gateways, hops) = match kept {
            Some(0) => (None, usize::MAX),
            Some(hops) => (None, hops - 1),
            None => (Some(self.holdings.gateways()), usize::MAX),
        };
        let holders = self.holdings.holders(content).chain(gateways.into_iter().flatten());
        let search = &mut self.search;
        let found = self.graph.nearest_avoiding(search, from, holders, &excluded, &avoided, hops);
        if let Some(path) = found {
            self.path.clear();
            self.path.extend_from_slice(path);
        }
        let found = found.is_some() || kept.is_some_and(|hops| hops > 0);
        self.visited = self.kept.visited() + self.search.visited();
        if kept.is_none() {
            self.kept.earn(self.search.visited());
        }
        if found {
            return Ok(());
        }
        let sentence = format!("nobody who can be reached in room `{}` holds {content}", self.name);
        Err(Fault::new(ErrorCode::NoHolder, sentence))
    }

    /// The way to the nearest gateway into `self.path`, off the tree that is kept: its hops, 0 where no gateway can be
    /// reached. `None`: there is no tree, or its way touches who is excluded or to be avoided; one that does not is the
    /// shortest of those that may be taken, too.
    fn read_off(&mut self, from: NodeId, excluded: &[NodeId], avoided: &[NodeId]) -> Option<usize> {
        if !self.kept.prepare(self.graph.graph(), self.holdings.gateways()) {
            return None;
        }
        if !self.kept.path(from, &mut self.path) {
            return Some(0);
        }
        let ends_well = self.path.last().is_some_and(|holder| !excluded.contains(holder));
        let may_be_taken = ends_well && !self.path[1..].iter().any(|hop| avoided.contains(hop));
        may_be_taken.then_some(self.path.len() - 1)
    }

    /// Sends `self.path` to everyone on it, the holder first and the requester last: when the requester's first request
    /// comes by, the hops know the route.
    fn broadcast(&mut self, quest: Quest, why: &Why, now: Duration, out: &mut Outputs) {
        let path = std::mem::take(&mut self.path);
        let told = path.iter().any(|&node| self.member(node).is_some_and(|m| m.dialect == Dialect::Hopcast));
        let lasting = self.member(path[0]).is_some_and(|member| member.dialect == Dialect::Original);
        let (id, replaces, used) = match why {
            Why::Asked(id) => (*id, None, now),
            Why::Lost(former) => (None, former.route.clone(), former.used),
        };
        let content = quest.content().cloned();
        // A path to oneself is lost with oneself only: nothing to remember it for where it has no id.
        let route = (told || path.len() > 1).then(|| {
            let asked = Asked { quest, used, told, lasting };
            self.routes.along(&path, asked, &self.epoch, &mut self.gone)
        });
        let route = route.filter(|_| told);
        self.tell_gone(out);
        let names: Vec<PeerName> = path.iter().map(|&node| self.peer(node)).collect();
        let mut shared: Option<Frame> = None;
        for at in (0..path.len()).rev() {
            let Some(member) = self.member(path[at]) else { continue };
            let requester = at == 0;
            let frame = match member.dialect {
                Dialect::Original => shared.get_or_insert_with(|| Frame::json(&plain(names.clone()))).clone(),
                Dialect::Hopcast => Frame::json(&ServerMessage::Path {
                    path: if requester { names.clone() } else { Vec::new() },
                    route: route.clone(),
                    room: Some(self.name.clone()),
                    prev: at.checked_sub(1).map(|before| names[before].clone()),
                    next: names.get(at + 1).cloned(),
                    hops: Some((path.len() - 1 - at) as u32),
                    id: id.filter(|_| requester),
                    replaces: replaces.clone().filter(|_| requester),
                    content: content.clone().filter(|_| requester && matches!(why, Why::Lost(_))),
                }),
            };
            out.send(member.connection, frame);
        }
        out.tally.push(Tally::Path(path.len() - 1));
        out.event(|| {
            Event::Path(PathEvent { route, room: self.name.clone(), path: names, content, replaces })
        });
        self.path = path;
    }

    /// Tells the members of routes that have been forgotten.
    pub(super) fn tell_gone(&mut self, out: &mut Outputs) {
        let mut gone = std::mem::take(&mut self.gone);
        gone.drain(..).for_each(|route| self.tell_down(route, out));
        self.gone = gone;
    }

    fn tell_down(&self, route: Route, out: &mut Outputs) {
        if !route.told {
            return; // only clients of the original were on it: they know no routes
        }
        let frame = Frame::json(&ServerMessage::RouteDown { route: route.id.clone() });
        for &node in route.path.iter() {
            if let Some(member) = self.member(node)
                && member.dialect == Dialect::Hopcast
            {
                out.send(member.connection, frame.clone());
            }
        }
        out.tally.push(Tally::RouteDown);
        out.event(|| Event::RouteDown(RouteDownEvent { route: route.id, room: self.name.clone() }));
    }

    /// What was lost is to be found anew, for requesters that are still here. Its members are told, now or where they are
    /// many by [`Room::mend`].
    pub(super) fn lose(&mut self, out: &mut Outputs) {
        for route in &self.gone {
            if let Some(member) = self.members.get(route.path[0].index()).copied().flatten() {
                let former = Former { route: route.told.then(|| route.id.clone()), used: route.used() };
                self.lost.push((member.connection, route.quest.clone()), former);
            }
        }
        if !self.untold.take(&mut self.gone) {
            self.tell_gone(out);
        }
    }

    /// Tells of routes that were to be told of later; how long it is until then.
    fn tell_untold(&mut self, now: Duration, out: &mut Outputs) -> Option<Duration> {
        let wait = self.untold.wait(now)?;
        if wait.is_zero() {
            self.untold.drain().for_each(|route| self.tell_down(route, out));
            return None;
        }
        Some(wait)
    }
}

/// The original's message.
fn plain(path: Vec<PeerName>) -> ServerMessage {
    ServerMessage::Path {
        path,
        route: None::<RouteId>,
        room: None,
        prev: None,
        next: None,
        hops: None,
        id: None,
        replaces: None,
        content: None,
    }
}

//! The room's state, and what each input does to it.
//!
//! A peer's place is its number in the routing graph; [`Member`] is its connection. Order within one call: the graph
//! changes, routes over what went are ended and told (where that is much, later: [`untold`](super::untold)), then the call's own answer. Whoever calls then calls
//! [`Room::mend`], which finds other ways for those routes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hopcast_protocol::{
    ClientMessage, ContentId, ErrorCode, PeerName, RoomName, RouteId, ServerMessage,
    limits::{CLOSE_REPLACED, DEAD_AFTER, HELD, PING_EVERY},
};
use hopcast_routing::{Bounds, Changes, Kept, Links, Liveness, NodeId, RoomError, Rules, Search};

use super::{
    holdings::{Holdings, TooMany},
    lost::{Lost, Quest},
    output::{ConnectionId, Cut, Dialect, Event, LinkEvent, Output, Outputs, PeerEvent, Tally},
    parse::{self, Fault},
    routes::{Epoch, Route, Routes},
    untold::Untold,
};
use crate::{
    config::RoomSeed,
    frame::{CLOSE_POLICY, Frame},
};

/// What a room allows.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Which peers a path may run through.
    pub liveness: Liveness,
    /// The file's peers and links; absent: the room is open.
    pub seed: Option<Arc<RoomSeed>>,
    /// Who may say that it holds everything; absent: anyone.
    pub gateways: Option<Arc<HashSet<PeerName>>>,
    /// Most names that an open room knows.
    pub peers: usize,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) connection: ConnectionId,
    pub(super) dialect: Dialect,
    heard: Duration,
    pinged: bool,
}

/// See the module and [`core`](crate::core).
#[derive(Debug)]
pub struct Room {
    pub(super) name: RoomName,
    pub(super) policy: Policy,
    pub(super) graph: hopcast_routing::Room<PeerName>,
    pub(super) search: Search,
    /// The ways to the nearest gateway, where many ask.
    pub(super) kept: Kept,
    /// By number.
    pub(super) members: Vec<Option<Member>>,
    pub(super) nodes: HashMap<ConnectionId, NodeId>,
    pub(super) holdings: Holdings,
    pub(super) routes: Routes,
    pub(super) lost: Lost,
    pub(super) untold: Untold,
    pub(super) epoch: Arc<Epoch>,
    /// Memory for one call at a time.
    changes: Changes,
    pub(super) gone: Vec<Route>,
    pub(super) path: Vec<NodeId>,
    /// Peers that were looked at for the last path.
    pub(super) visited: usize,
}

impl Room {
    /// A room without connections.
    pub fn new(name: RoomName, policy: Policy, epoch: Arc<Epoch>) -> Self {
        let links = if policy.seed.is_some() { Links::Declared } else { Links::Open };
        let mut room = Self {
            name,
            graph: hopcast_routing::Room::new(Rules { links, liveness: policy.liveness }),
            policy,
            search: Search::new(),
            kept: Kept::new(Bounds::default()),
            members: Vec::new(),
            nodes: HashMap::new(),
            holdings: Holdings::default(),
            routes: Routes::default(),
            lost: Lost::default(),
            untold: Untold::default(),
            epoch,
            changes: Changes::new(),
            gone: Vec::new(),
            path: Vec::new(),
            visited: 0,
        };
        room.declare_links();
        room.changes.clear(); // they were there before anyone could watch
        room
    }

    /// Its name.
    pub fn name(&self) -> &RoomName {
        &self.name
    }

    /// Connections.
    pub fn connections(&self) -> usize {
        self.nodes.len()
    }

    /// Routes that somebody may still use.
    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// Whether [`Room::mend`] has something to do, now or later.
    pub fn is_mending(&self) -> bool {
        !(self.lost.is_empty() && self.untold.is_empty())
    }

    /// Whether it can be forgotten: nobody is here, and no file names it.
    pub fn is_idle(&self) -> bool {
        self.nodes.is_empty() && self.policy.seed.is_none()
    }

    /// A peer has connected; an older connection under its name is replaced. The error: an open room is full, or the
    /// file has no such peer here (it may have changed since the client was admitted).
    pub fn connect(
        &mut self,
        connection: ConnectionId,
        peer: &PeerName,
        dialect: Dialect,
        now: Duration,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if self.policy.seed.as_ref().is_some_and(|seed| !seed.peers.contains(peer)) {
            let sentence = format!("the topology has no peer `{peer}` in room `{}`", self.name);
            return Err(Fault::new(ErrorCode::UnknownPeer, sentence));
        }
        let known = self.graph.id(peer);
        if known.is_none() && self.policy.seed.is_none() && self.graph.len() >= self.policy.peers {
            let sentence =
                format!("room `{}` has as many peers as it takes, {}", self.name, self.policy.peers);
            return Err(Fault::new(ErrorCode::Full, sentence));
        }
        if let Some(node) = known
            && let Some(old) = self.forget_member(node)
        {
            let reason = "replaced by a newer connection under the same name";
            out.frames.push(Output::Close { to: old.connection, code: CLOSE_REPLACED, reason });
        }
        let node = self.graph.join(peer, &mut self.changes);
        self.settle(out);
        if self.members.len() <= node.index() {
            self.members.resize(node.index() + 1, None);
        }
        self.members[node.index()] = Some(Member { connection, dialect, heard: now, pinged: false });
        self.nodes.insert(connection, node);
        out.event(|| Event::Peer(PeerEvent { peer: peer.clone(), room: self.name.clone(), connected: true }));
        Ok(())
    }

    /// A connection has ended. One that was replaced before is ignored: the newer one stays untouched.
    pub fn disconnect(&mut self, connection: ConnectionId, out: &mut Outputs) {
        let Some(&node) = self.nodes.get(&connection) else { return };
        let peer = self.peer(node);
        self.forget_member(node);
        self.graph.leave(node, &mut self.changes);
        self.settle(out);
        out.event(|| Event::Peer(PeerEvent { peer, room: self.name.clone(), connected: false }));
    }

    /// A frame of any kind came.
    pub fn alive(&mut self, connection: ConnectionId, now: Duration) {
        let Some(&node) = self.nodes.get(&connection) else { return };
        if let Some(member) = &mut self.members[node.index()] {
            member.heard = now;
            member.pinged = false;
        }
    }

    /// The clock: pings who has been silent, cuts who has been silent for too long, ends routes that nobody uses.
    pub fn tick(&mut self, now: Duration, out: &mut Outputs) {
        let mut dead = Vec::new();
        for member in self.members.iter_mut().flatten() {
            let silent = now.saturating_sub(member.heard);
            if silent >= DEAD_AFTER {
                dead.push(member.connection);
            } else if silent >= PING_EVERY && !member.pinged {
                member.pinged = true;
                out.send(member.connection, Frame::ping());
            }
        }
        for connection in dead {
            out.frames.push(Output::Cut { to: connection, why: Cut::Dead });
            self.disconnect(connection, out);
        }
        self.routes.remove_idle(now, &mut self.gone);
        self.tell_gone(out);
    }

    /// The file has changed: other peers, links or gateways.
    pub fn reseed(&mut self, policy: Policy, out: &mut Outputs) {
        self.policy = policy;
        self.declare_links();
        self.settle(out);
        let Some(seed) = self.policy.seed.clone() else { return };
        let leaving: Vec<_> = self
            .nodes
            .iter()
            .filter(|&(_, &node)| !seed.peers.contains(&self.peer(node)))
            .map(|(&connection, _)| connection)
            .collect();
        for connection in leaving {
            self.expel(connection, "this peer is no longer in the room", out);
        }
        let former: Vec<_> = match &self.policy.gateways {
            Some(gateways) => {
                self.holdings.gateways().filter(|&node| !gateways.contains(&self.peer(node))).collect()
            }
            None => Vec::new(),
        };
        for node in former {
            self.set_gateway(node, false);
            // Unasked: it believes that it is one, and says so again, in case the file takes that back.
            let fault = no_gateway(&self.peer(node));
            self.refuse(node, fault, out);
        }
    }

    /// The room is no more.
    pub fn close(&mut self, out: &mut Outputs) {
        let everyone: Vec<_> = self.nodes.keys().copied().collect();
        for connection in everyone {
            self.expel(connection, "this room is no more", out);
        }
    }

    fn expel(&mut self, connection: ConnectionId, reason: &'static str, out: &mut Outputs) {
        out.frames.push(Output::Close { to: connection, code: CLOSE_POLICY, reason });
        self.disconnect(connection, out);
    }

    /// The operator ends a route. `false`: there is none of that number.
    pub fn retire(&mut self, route: &RouteId, out: &mut Outputs) -> bool {
        let Some(route) = self.epoch.number(route).and_then(|number| self.routes.remove(number)) else {
            return false;
        };
        self.gone.push(route);
        self.tell_gone(out);
        true
    }

    /// A message beyond the bound came: not read, but answered.
    pub fn too_large(&mut self, connection: ConnectionId, bound: usize, out: &mut Outputs) {
        if let Some(&node) = self.nodes.get(&connection) {
            let sentence = format!("a message may have {bound} bytes at most");
            self.refuse(node, Fault::new(ErrorCode::TooLarge, sentence), out);
        }
    }

    /// A message. Whatever it is, it is carried out or answered with an error.
    pub fn message(&mut self, connection: ConnectionId, payload: &[u8], now: Duration, out: &mut Outputs) {
        let Some(&node) = self.nodes.get(&connection) else { return };
        let dialect = self.members[node.index()].map_or(Dialect::Original, |member| member.dialect);
        let handled = parse::parse(payload).and_then(|message| {
            out.tally.push(Tally::Message(parse::kind(&message)));
            match (message, dialect) {
                (ClientMessage::Announce { peer, room, neighbors }, _) => {
                    self.announce(node, &peer, &room, &neighbors, out)
                }
                (ClientMessage::RequestPath { target, .. }, Dialect::Original) => {
                    quest(target, None, Vec::new(), Vec::new())
                        .and_then(|quest| self.request(node, quest, None, now, out))
                }
                (ClientMessage::RequestPath { target, content, exclude, avoid, id }, Dialect::Hopcast) => {
                    quest(target, content, exclude, avoid)
                        .and_then(|quest| self.request(node, quest, id, now, out))
                        .map_err(|fault| fault.of(id))
                }
                (message, Dialect::Original) => Err(parse::unknown_type(parse::kind(&message))),
                (ClientMessage::Hold { contents, all }, _) => self.hold(node, &contents, all),
                (ClientMessage::Drop { contents, all }, _) => {
                    self.holdings.release(node, &contents);
                    if all {
                        self.set_gateway(node, false);
                    }
                    Ok(())
                }
                (ClientMessage::Link { neighbor, up }, _) => {
                    let reported = self.graph.report(node, &neighbor, up, &mut self.changes);
                    self.settle(out);
                    reported.map_err(|error| refused(&error))
                }
                (ClientMessage::Use { routes }, _) => {
                    // One that has just ended, or is of the epoch before, is no fault of whoever used it.
                    for number in routes.iter().filter_map(|route| self.epoch.number(route)) {
                        self.routes.refresh(number, node, now);
                    }
                    Ok(())
                }
            }
        });
        if let Err(fault) = handled {
            self.refuse(node, fault, out);
        }
    }

    fn announce(
        &mut self,
        node: NodeId,
        peer: &PeerName,
        room: &RoomName,
        neighbors: &[PeerName],
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let own = self.peer(node);
        if *peer != own {
            let sentence = format!("this connection is `{own}`, it cannot announce for `{peer}`");
            return Err(Fault::new(ErrorCode::PeerMismatch, sentence));
        }
        if *room != self.name {
            let sentence =
                format!("this connection is in room `{}`, it cannot announce in `{room}`", self.name);
            return Err(Fault::new(ErrorCode::RoomMismatch, sentence));
        }
        if self.policy.seed.is_none() {
            let new = neighbors.iter().filter(|name| self.graph.id(name).is_none()).count();
            if self.graph.len() + new > self.policy.peers {
                let sentence = format!("room `{room}` takes {} peers, no more", self.policy.peers);
                return Err(Fault::new(ErrorCode::Full, sentence));
            }
        }
        let announced = self.graph.announce(node, neighbors, &mut self.changes);
        self.settle(out);
        announced.map_err(|error| refused(&error))
    }

    fn hold(&mut self, node: NodeId, contents: &[ContentId], all: bool) -> Result<(), Fault> {
        if all {
            let peer = self.peer(node);
            if self.policy.gateways.as_ref().is_some_and(|gateways| !gateways.contains(&peer)) {
                return Err(no_gateway(&peer));
            }
            self.set_gateway(node, true);
        } else if contents.iter().any(|content| matches!(content, ContentId::Manifest(_))) {
            let sentence = "manifests are held by gateways alone: send {\"type\":\"hold\",\"all\":true}";
            return Err(Fault::new(ErrorCode::NotAGateway, sentence));
        }
        self.holdings.hold(node, contents).map_err(|TooMany(total)| {
            let sentence =
                format!("you would hold {total} contents, at most {HELD} are taken: drop some first");
            Fault::new(ErrorCode::TooLarge, sentence)
        })
    }

    fn set_gateway(&mut self, node: NodeId, gateway: bool) {
        self.holdings.set_gateway(node, gateway);
        self.kept.set_source(self.graph.graph(), node, gateway);
    }

    fn refuse(&mut self, node: NodeId, fault: Fault, out: &mut Outputs) {
        let Some(member) = self.members.get(node.index()).copied().flatten() else { return };
        let Fault { code, message, id } = fault;
        let id = id.filter(|_| member.dialect == Dialect::Hopcast);
        out.tally.push(Tally::Error(code));
        out.send(member.connection, Frame::json(&ServerMessage::Error { code, message, id, route: None }));
    }

    fn declare_links(&mut self) {
        if let Some(seed) = &self.policy.seed {
            let links = seed.links.iter().filter(|(a, b)| a != b).map(|(a, b)| (a, b));
            self.graph.reseed(links, &mut self.changes).expect("links of a peer to itself are left out");
        }
    }

    /// Ends what went with the changes of the graph.
    fn settle(&mut self, out: &mut Outputs) {
        self.kept.follow(self.graph.graph(), &self.changes);
        let changes = std::mem::take(&mut self.changes);
        for change in &changes.links {
            if !change.up {
                self.routes.remove_link(change.a, change.b, &mut self.gone);
            }
            out.event(|| {
                let (a, b) = (self.peer(change.a), self.peer(change.b));
                let (a, b) = if a <= b { (a, b) } else { (b, a) };
                Event::Link(LinkEvent { room: self.name.clone(), a, b, up: change.up })
            });
        }
        for change in changes.peers.iter().filter(|change| !change.present) {
            self.routes.remove_peer(change.peer, &mut self.gone);
        }
        self.changes = changes;
        self.changes.clear();
        self.lose(out);
    }

    /// Takes the connection off a peer's place; its routes and holdings end with it, whoever comes next.
    fn forget_member(&mut self, node: NodeId) -> Option<Member> {
        let member = self.members.get_mut(node.index())?.take()?;
        self.nodes.remove(&member.connection);
        self.holdings.clear(node);
        self.kept.set_source(self.graph.graph(), node, false);
        self.routes.remove_peer(node, &mut self.gone);
        Some(member)
    }

    /// The name of a number that the graph knows, or knew until the last change.
    pub(super) fn peer(&self, node: NodeId) -> PeerName {
        self.graph.name(node).expect("numbers in use have names until the graph's next change").clone()
    }
}

/// What a `request_path` asks for.
fn quest(
    target: Option<PeerName>,
    content: Option<ContentId>,
    exclude: Vec<PeerName>,
    avoid: Vec<PeerName>,
) -> Result<Quest, Fault> {
    match (target, content) {
        (Some(target), None) => Ok(Quest::Peer(target)),
        (None, Some(content)) => Ok(Quest::Content { content, exclude, avoid }),
        (None, None) => Err(Fault::new(ErrorCode::BadMessage, "`target` is missing")),
        (Some(_), Some(_)) => {
            Err(Fault::new(ErrorCode::BadMessage, "`target` and `content` exclude each other"))
        }
    }
}

fn no_gateway(peer: &PeerName) -> Fault {
    let sentence = format!("`{peer}` is no gateway: only a gateway may say that it holds everything");
    Fault::new(ErrorCode::NotAGateway, sentence)
}

fn refused(error: &RoomError<PeerName>) -> Fault {
    Fault::new(ErrorCode::NotALink, error.to_string())
}

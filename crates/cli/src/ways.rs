//! The plan's rooms as graphs: paths while nothing runs, and which peer is farthest from any edge.

use std::collections::HashMap;

use hopcast_protocol::{PeerName, RoomName};
use hopcast_routing::{
    Graph, NodeId, Search,
    analysis::{self, Failure},
};
use hopcast_topology::{
    Plan,
    plan::{Peer, Room},
};

use crate::commands::check::{RoomAnalysis, Weakness};

/// One room of the plan, with every peer present and every link up.
pub(crate) struct RoomWays<'a> {
    room: &'a Room,
    graph: Graph,
    ids: HashMap<&'a PeerName, NodeId>,
    names: Vec<&'a PeerName>,
}

impl<'a> RoomWays<'a> {
    /// The room's peers and the links between them.
    pub(crate) fn new(plan: &'a Plan, room: &'a Room) -> Self {
        let mut graph = Graph::new();
        let mut ids = HashMap::with_capacity(room.peers.len());
        for name in &room.peers {
            ids.insert(name, graph.add_node());
        }
        for link in plan.room_links(&room.name) {
            if let (Some(&a), Some(&b)) = (ids.get(&link.a), ids.get(&link.b)) {
                graph.add_link(a, b);
            }
        }
        // Ids are given from 0 on, in the order of addition.
        Self { room, graph, ids, names: room.peers.iter().collect() }
    }

    /// The shortest path, both ends included.
    pub(crate) fn path(&self, search: &mut Search, from: &PeerName, to: &PeerName) -> Option<Vec<PeerName>> {
        let path = search.path(&self.graph, *self.ids.get(from)?, *self.ids.get(to)?)?;
        Some(path.iter().map(|&id| self.name(id)).collect())
    }

    /// The path to the nearest gateway, both ends included.
    pub(crate) fn to_gateway(
        &self,
        search: &mut Search,
        plan: &Plan,
        from: &PeerName,
    ) -> Option<Vec<PeerName>> {
        let gateways = plan.gateways().filter_map(|peer| self.ids.get(&peer.name).copied());
        let path = search.nearest(&self.graph, *self.ids.get(from)?, gateways, &[])?;
        Some(path.iter().map(|&id| self.name(id)).collect())
    }

    /// What the room is like, and what a single failure would do to it.
    pub(crate) fn analyse(&self, plan: &Plan) -> RoomAnalysis {
        let gateways: Vec<_> = plan.gateways().filter_map(|peer| self.ids.get(&peer.name).copied()).collect();
        let names = |ids: Vec<NodeId>| ids.into_iter().map(|id| self.name(id)).collect::<Vec<_>>();
        let weaknesses = analysis::weaknesses(&self.graph, &gateways)
            .into_iter()
            .map(|weakness| Weakness {
                kind: match weakness.failure {
                    Failure::Peer(_) => "peer",
                    Failure::Link(..) => "link",
                },
                failure: match weakness.failure {
                    Failure::Peer(peer) => vec![self.name(peer)],
                    Failure::Link(a, b) => vec![self.name(a), self.name(b)],
                },
                cut_off: names(analysis::cut_off(&self.graph, weakness.failure, &gateways)),
            })
            .collect();
        let diameter = analysis::diameter(&self.graph);
        RoomAnalysis {
            room: self.room.name.clone(),
            peers: self.graph.len(),
            links: self.graph.links().count(),
            diameter: diameter.map_or(0, |diameter| diameter.lower),
            ends: diameter.map(|diameter| (self.name(diameter.ends.0), self.name(diameter.ends.1))),
            farthest: analysis::farthest(&self.graph, gateways.iter().copied())
                .map(|(peer, hops)| (self.name(peer), hops)),
            weaknesses,
        }
    }

    fn name(&self, id: NodeId) -> PeerName {
        self.names[id.index()].clone()
    }
}

/// A peer and its way to the nearest edge.
pub(crate) struct Farthest<'a> {
    /// The peer.
    pub peer: &'a Peer,
    /// The room of the shortest way.
    pub room: &'a RoomName,
    /// From the peer to a gateway, both included.
    pub path: Vec<PeerName>,
}

impl Farthest<'_> {
    /// Links between the peer and the gateway.
    pub(crate) fn hops(&self) -> usize {
        self.path.len() - 1
    }
}

/// The peer with the longest way to its nearest gateway, among those that share one of `rooms`; the lowest number of
/// several. A peer in several rooms takes the shortest of its ways, as it does when it fetches.
pub(crate) fn farthest<'a>(plan: &'a Plan, rooms: &[RoomName]) -> Option<Farthest<'a>> {
    let mut search = Search::new();
    let ways: Vec<_> = plan
        .rooms
        .iter()
        .filter(|room| rooms.contains(&room.name))
        .map(|room| (&room.name, RoomWays::new(plan, room)))
        .collect();
    let mut farthest: Option<Farthest<'a>> = None;
    for peer in &plan.peers {
        let nearest = ways
            .iter()
            .filter_map(|(room, ways)| Some((*room, ways.to_gateway(&mut search, plan, &peer.name)?)))
            .min_by_key(|(_, path)| path.len());
        if let Some((room, path)) = nearest
            && farthest.as_ref().is_none_or(|known| known.path.len() < path.len())
        {
            farthest = Some(Farthest { peer, room, path });
        }
    }
    farthest
}

/// Names as a person writes them: runs of consecutive numbers as `peer-1..peer-8`.
pub(crate) fn ranges(plan: &Plan, names: &[PeerName]) -> String {
    let numbers: HashMap<_, _> = plan.peers.iter().map(|peer| (&peer.name, peer.number)).collect();
    let mut runs: Vec<(&PeerName, &PeerName)> = Vec::new();
    for name in names {
        let number = numbers.get(name);
        match runs.last_mut() {
            Some((_, last)) if numbers.get(*last).map(|last| last + 1) == number.copied() => *last = name,
            _ => runs.push((name, name)),
        }
    }
    let runs: Vec<_> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}..{last}") })
        .collect();
    runs.join(", ")
}

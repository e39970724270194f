//! Reading a room for `/api`: changes nothing, broadcasts nothing.

use std::collections::BTreeSet;

use hopcast_protocol::{ErrorCode, PeerName, RoomName};
use serde::Serialize;

use super::{Room, parse::Fault};

/// A room of `/api/rooms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomView {
    /// Its name.
    pub name: RoomName,
    /// How many peers it knows: of the file, connected, or announced.
    pub peers: usize,
    /// How many links it knows, up or down.
    pub links: usize,
    /// Who is connected, in the order of names.
    pub connected: Vec<PeerName>,
}

/// A room of `/api/graph`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphView {
    /// Its name.
    pub name: RoomName,
    /// In the order of names.
    pub peers: Vec<PeerView>,
    /// In the order of names.
    pub links: Vec<LinkView>,
}

/// A peer of a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PeerView {
    /// Its name.
    pub name: PeerName,
    /// Whether it has a connection.
    pub connected: bool,
}

/// A link of a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LinkView {
    /// The end whose name comes first.
    pub a: PeerName,
    /// The other.
    pub b: PeerName,
    /// Whether neither end reports it down.
    pub up: bool,
}

/// The answer of `/api/path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Both ends included.
    pub path: Vec<PeerName>,
}

impl Room {
    /// For `/api/rooms`.
    pub fn view(&self) -> RoomView {
        let peers = self.peers();
        RoomView {
            name: self.name.clone(),
            peers: peers.len(),
            links: self.graph.link_count(),
            connected: peers.into_iter().filter(|peer| peer.connected).map(|peer| peer.name).collect(),
        }
    }

    /// For `/api/graph`.
    pub fn graph_view(&self) -> GraphView {
        let mut links: Vec<_> = self
            .graph
            .links()
            .map(|link| {
                let (a, b) = (self.peer(link.a), self.peer(link.b));
                let (a, b) = if a <= b { (a, b) } else { (b, a) };
                LinkView { a, b, up: link.up }
            })
            .collect();
        links.sort_unstable();
        GraphView { name: self.name.clone(), peers: self.peers(), links }
    }

    /// For `/api/path`.
    pub fn way(&mut self, from: &PeerName, to: &PeerName) -> Result<Way, Fault> {
        let place = |peer: &PeerName| {
            self.graph.id(peer).filter(|&id| self.graph.is_present(id)).ok_or_else(|| {
                let sentence = format!("`{peer}` is not connected in room `{}`", self.name);
                Fault::new(ErrorCode::UnknownPeer, sentence)
            })
        };
        let (from_id, to_id) = (place(from)?, place(to)?);
        let path = self.graph.path(&mut self.search, from_id, to_id).ok_or_else(|| {
            let sentence = format!("no path leads from `{from}` to `{to}` in room `{}` now", self.name);
            Fault::new(ErrorCode::NoPath, sentence)
        })?;
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(Way { path: self.path.iter().map(|&node| self.peer(node)).collect() })
    }

    fn peers(&self) -> Vec<PeerView> {
        let known: BTreeSet<_> = self
            .graph
            .peers()
            .filter(|peer| peer.connected || self.graph.links_of(peer.id).next().is_some())
            .map(|peer| PeerView { name: peer.name.clone(), connected: peer.connected })
            .collect();
        let Some(seed) = &self.policy.seed else { return known.into_iter().collect() };
        let named: BTreeSet<_> = known.iter().map(|peer| &peer.name).collect();
        let away = seed
            .peers
            .iter()
            .filter(|name| !named.contains(name))
            .map(|name| PeerView { name: name.clone(), connected: false });
        let away: Vec<_> = away.collect();
        let mut all: Vec<_> = known.into_iter().chain(away).collect();
        all.sort_unstable();
        all
    }
}

//! The plan: what a topology file means, with nothing left to decide.
//!
//! `hopcast plan --json` prints it. The form is versioned ([`PLAN_VERSION`]): a field may be added within a version;
//! one that is removed or changes its meaning makes a new version.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use hopcast_protocol::{
    DatabaseName, Emulation, MeshName, NetworkName, NodeName, PeerName, RoomName, SongName,
};
use serde::{Deserialize, Serialize};

/// The version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 1;

/// A whole mesh, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Label and state-directory name.
    pub mesh: MeshName,
    /// In the order of their numbers.
    pub peers: Vec<Peer>,
    /// In the file's order.
    pub rooms: Vec<Room>,
    /// Each once, `a` before `b` in the order of `peers`; sorted by that order.
    pub links: Vec<Link>,
    /// The origin database.
    pub origin: Origin,
    /// In the file's order.
    pub edges: Vec<Edge>,
    /// In the file's order.
    pub songs: Vec<Song>,
    /// What each peer may take.
    pub limits: Limits,
    /// Database names and roles.
    pub postgres: Postgres,
    /// The signalling server.
    pub signalling: Signalling,
    /// Local processes.
    pub local: Local,
    /// Docker.
    pub docker: Docker,
    /// NixOS VMs.
    pub nixos: Nixos,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// `peer-7`.
    pub name: PeerName,
    /// 7. Numbers start at 1 and have no gaps.
    pub number: u32,
    /// Its rooms, in the file's order.
    pub rooms: Vec<RoomName>,
    /// Its neighbours, in the order of their numbers.
    pub neighbors: Vec<PeerName>,
    /// The edges it is a gateway of, in the file's order.
    pub edges: Vec<DatabaseName>,
    /// Where it listens locally; it dials from that address too.
    pub local: SocketAddr,
    /// Its fixed address in the peer network of Docker: first address + 1 + number.
    pub docker: SocketAddr,
    /// Which NixOS VM runs it, from 1, and on which port.
    pub nixos: NixosPeer,
}

/// Where a peer runs among the NixOS VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NixosPeer {
    /// VM number, from 1.
    pub host: u32,
    /// `peers.port` + the peer's number.
    pub port: u16,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// `rock`.
    pub name: RoomName,
    /// In the order of their numbers.
    pub peers: Vec<PeerName>,
}

/// One link, usable both ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The end with the lower number.
    pub a: PeerName,
    /// The other end.
    pub b: PeerName,
    /// The rooms that both ends are in, in the file's order; may be empty (a link that no room uses).
    pub rooms: Vec<RoomName>,
    /// What it is made to feel like.
    pub emulation: Emulation,
}

/// The origin database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// `origin-db`.
    pub name: DatabaseName,
    /// `origin-net`.
    pub network: NetworkName,
    /// Where it listens locally.
    pub local: SocketAddr,
    /// Its own network of Docker; every edge has an address in it too.
    pub docker: DatabaseNetwork,
}

/// An edge database and its edge-peer set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// `edge-db-a`.
    pub name: DatabaseName,
    /// `edge-a-net`.
    pub network: NetworkName,
    /// Its gateways, in the order of their numbers.
    pub peers: Vec<PeerName>,
    /// Where it listens locally.
    pub local: SocketAddr,
    /// Its own network of Docker; its gateways have an address in it too.
    pub docker: DatabaseNetwork,
    /// Its address in the origin's network of Docker.
    pub docker_origin: Ipv4Addr,
}

/// The network of Docker that a database owns. Its first usable address is the engine's own (the "gateway").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseNetwork {
    /// Its subnet's first address.
    pub subnet: Ipv4Addr,
    /// Its subnet's prefix length.
    pub prefix: u8,
    /// Where the database listens in it: its first address + 2.
    pub address: SocketAddr,
    /// The addresses of the peers in it, in the order of [`Edge::peers`]: first address + 3 and up. Empty for the origin.
    pub peers: Vec<Ipv4Addr>,
}

/// A song that `up` ingests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Song {
    /// From `name`, else from the path's last part without its extension.
    pub name: SongName,
    /// An HLS folder or an audio file; relative paths are resolved against the topology file's directory.
    pub path: PathBuf,
    /// The rooms that may hear it, in the file's order.
    pub rooms: Vec<RoomName>,
}

/// What each peer may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The port that peers listen on (NixOS apart).
    pub port: u16,
    /// Hard cap of a container, in bytes.
    pub memory: u64,
    /// Share of CPUs.
    pub cpus: f64,
    /// Most processes and threads.
    pub pids: u32,
    /// Bytes of segments kept.
    pub cache: u64,
    /// Longest segment, in bytes.
    pub max_segment: u64,
    /// How long a player's request is held, in milliseconds.
    pub patience_ms: u64,
}

/// Database names and roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Postgres {
    /// The database that holds the songs.
    pub database: String,
    /// The owner; a superuser of its cluster, as in the official image.
    pub user: String,
    /// The port that every database listens on.
    pub port: u16,
    /// `password_file` of the file; the password itself is never part of the plan.
    pub password_file: Option<PathBuf>,
}

/// The signalling server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signalling {
    /// Where it listens in a container or VM.
    pub listen: SocketAddr,
    /// Where it listens locally.
    pub local: SocketAddr,
    /// Its fixed address in the peer network of Docker: the last usable one.
    pub docker: SocketAddr,
}

/// Local processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// First address of the mesh's network.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Where the door listens.
    pub door: SocketAddr,
}

/// Docker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Docker {
    /// The peers' network.
    pub network: NetworkName,
    /// The first address of the peers' network: the lower half of the file's `subnet`.
    pub subnet: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// The peers' image.
    pub peer_image: String,
    /// The signalling server's image.
    pub signalling_image: String,
    /// The signalling server's container.
    pub signalling_name: NodeName,
    /// The databases' image.
    pub postgres_image: String,
}

/// NixOS VMs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nixos {
    /// The VMs among which the peers are spread.
    pub peer_hosts: u32,
}

impl Plan {
    /// The peer of that name.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name.as_str() == name)
    }

    /// The room of that name.
    pub fn room(&self, name: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.name.as_str() == name)
    }

    /// The links inside a room.
    pub fn room_links<'a>(&'a self, room: &'a RoomName) -> impl Iterator<Item = &'a Link> {
        self.links.iter().filter(move |link| link.rooms.contains(room))
    }

    /// Every peer that is a gateway of some edge, in the order of their numbers.
    pub fn gateways(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.edges.is_empty())
    }

    /// Each peer's links, for whoever asks for all of them.
    pub fn links_by_peer(&self) -> HashMap<&PeerName, Vec<&Link>> {
        let mut by_peer: HashMap<_, Vec<_>> = HashMap::with_capacity(self.peers.len());
        for link in &self.links {
            by_peer.entry(&link.a).or_default().push(link);
            by_peer.entry(&link.b).or_default().push(link);
        }
        by_peer
    }

    /// First and last local address of the peers; `None` without peers.
    pub fn local_range(&self) -> Option<(IpAddr, IpAddr)> {
        Some((self.peers.first()?.local.ip(), self.peers.last()?.local.ip()))
    }
}

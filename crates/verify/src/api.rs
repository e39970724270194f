//! The signalling server's HTTP answers (docs/protocol.md), as far as they are needed here.

use hopcast_protocol::{PeerName, RoomName};
use serde::Deserialize;

/// `GET /api/graph`.
#[derive(Debug, Deserialize)]
pub(crate) struct Graph {
    pub(crate) rooms: Vec<Room>,
}

/// One room of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Room {
    pub(crate) name: RoomName,
    pub(crate) peers: Vec<Member>,
    pub(crate) links: Vec<Link>,
}

/// A peer in a room.
#[derive(Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: PeerName,
    pub(crate) connected: bool,
}

/// A link in a room.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) a: PeerName,
    pub(crate) b: PeerName,
    pub(crate) up: bool,
}

/// `GET /api/path`, 200.
#[derive(Debug, Deserialize)]
pub(crate) struct Path {
    pub(crate) path: Vec<PeerName>,
}

/// `GET /api/path`, 404.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
}

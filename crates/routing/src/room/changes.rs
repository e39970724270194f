//! What a change of a room changed.

use crate::NodeId;

/// What one or several calls changed, in order; a buffer to be cleared and used again.
///
/// A caller recomputes the routes that use a link that went down or a peer that went away, and no others: a
/// link that comes up never breaks a route. Numbers stay valid, and [`Room::name`](crate::Room::name) answers for them,
/// until the next call that changes the room, even where the peer is now forgotten.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Links that came up or went down. A link of a peer that went away is here only if the link itself went too.
    pub links: Vec<LinkChange>,
    /// Peers that paths may now run through, or no longer.
    pub peers: Vec<PeerChange>,
}

impl Changes {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.peers.is_empty()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.links.clear();
        self.peers.clear();
    }
}

/// A link that came up or went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkChange {
    /// One end: the one whose doing it was, except for a seed link.
    pub a: NodeId,
    /// The other end.
    pub b: NodeId,
    /// Up means: it exists, and neither end reports it down. Its peers may be away nevertheless.
    pub up: bool,
}

/// A peer that paths may now run through, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerChange {
    /// The peer.
    pub peer: NodeId,
    /// Whether paths may run through it.
    pub present: bool,
}

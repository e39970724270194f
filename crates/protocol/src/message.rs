//! The signalling messages: JSON in WebSocket text frames, `type` first.
//!
//! `announce`, `request_path` with a `target`, `path` and `error` are the original's and stay field for field. The rest
//! is for clients that offered the subprotocol [`crate::limits::SUBPROTOCOL`].

use serde::{Deserialize, Serialize};

use crate::{
    content::ContentId,
    name::{PeerName, RoomName, RouteId},
};

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PeerName>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// From a peer to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// "These are my neighbours in this room." Replaces what this peer announced before.
    Announce {
        /// The sender; must be the connection's own name.
        peer: PeerName,
        /// The room; must be the connection's own.
        room: RoomName,
        /// All neighbours, in any order. Go writes an empty list as `null`; that is taken, too.
        #[serde(default, deserialize_with = "null_is_empty")]
        neighbors: Vec<PeerName>,
    },
    /// "What is the way to this peer", or (`hopcast.1`) "to the nearest holder of this content". Exactly one of the two.
    RequestPath {
        /// A peer of the room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<PeerName>,
        /// `hopcast.1`: a content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<ContentId>,
        /// `hopcast.1`: holders that must not be chosen.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<PeerName>,
        /// `hopcast.1`: peers that the way must not touch, neither as holder nor as hop.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        avoid: Vec<PeerName>,
        /// `hopcast.1`: comes back in the answer, `path` or `error`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// `hopcast.1`: "I hold these now."
    Hold {
        /// At most [`crate::limits::HOLD_BATCH`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentId>,
        /// "I am a gateway: I can get anything."
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// `hopcast.1`: "I no longer hold these."
    Drop {
        /// At most [`crate::limits::HOLD_BATCH`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentId>,
        /// "I am no longer a gateway."
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// `hopcast.1`: "My link to this neighbour does (not) work."
    Link {
        /// The other end.
        neighbor: PeerName,
        /// False after a failed connect, a reset or a stall; true when it works again.
        up: bool,
    },
    /// `hopcast.1`: "These routes, which I asked for, have carried bytes since you last heard of them." Said at most every
    /// [`crate::limits::USE_EVERY`]; a request along a route says it as well.
    Use {
        /// At most [`crate::limits::ROUTE_TABLE`].
        routes: Vec<RouteId>,
    },
}

/// From the server to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// A path. Clients of the original get `path` alone. With `hopcast.1` every peer on it gets the compact form
    /// (`route`, `room`, `prev`, `next`, `hops`), and the requester also gets `path` and its own `id`.
    Path {
        /// Requester first, target last.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        path: Vec<PeerName>,
        /// The route's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<RouteId>,
        /// The room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomName>,
        /// The hop towards the requester; absent at the requester.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<PeerName>,
        /// The hop towards the holder; absent at the holder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<PeerName>,
        /// Hops from here to the holder; 0 at the holder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hops: Option<u32>,
        /// The request's `id`; absent where the server recomputed the path by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// To the requester of a path that the server recomputed by itself: the route that was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<RouteId>,
        /// Beside `replaces`: the content that the path leads to, where the request had asked for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<ContentId>,
    },
    /// `hopcast.1`: this route is no more.
    RouteDown {
        /// The route.
        route: RouteId,
    },
    /// What was wrong with a message, or why there is no path.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: one sentence.
        message: String,
        /// `hopcast.1`: the request's `id`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// `hopcast.1`, unasked: this route was lost, and there is no other way. The request that it answered is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<RouteId>,
    },
}

/// The codes of [`ServerMessage::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The target is not connected in this room.
    UnknownPeer,
    /// Both are there, but no path leads from one to the other.
    NoPath,
    /// Nobody reachable holds the content.
    NoHolder,
    /// `announce.peer` is not the connection's own.
    PeerMismatch,
    /// `announce.room` is not the connection's own.
    RoomMismatch,
    /// Not JSON, or a field is missing or of the wrong kind.
    BadMessage,
    /// A `type` that this connection may not use.
    UnknownType,
    /// A neighbour that the topology file does not link to this peer.
    NotALink,
    /// The message, a list in it, or what the sender holds is beyond its bound.
    TooLarge,
    /// The server has as many connections, rooms or peers as it takes.
    Full,
    /// Only a gateway of the topology file may say that it holds everything.
    NotAGateway,
}

impl ErrorCode {
    /// The code as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPeer => "unknown_peer",
            Self::NoPath => "no_path",
            Self::NoHolder => "no_holder",
            Self::PeerMismatch => "peer_mismatch",
            Self::RoomMismatch => "room_mismatch",
            Self::BadMessage => "bad_message",
            Self::UnknownType => "unknown_type",
            Self::NotALink => "not_a_link",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::NotAGateway => "not_a_gateway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Vec<PeerName> {
        names.iter().map(|name| PeerName::new(name).unwrap()).collect()
    }

    #[test]
    fn the_originals_messages_stay_byte_for_byte() {
        let announce = r#"{"type":"announce","peer":"peer-1","room":"rock","neighbors":["peer-2","peer-5"]}"#;
        let request = r#"{"type":"request_path","target":"peer-30"}"#;
        for text in [announce, request] {
            let message: ClientMessage = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
        }
        let path = ServerMessage::Path {
            path: peers(&["peer-1", "peer-6", "peer-18", "peer-30"]),
            route: None,
            room: None,
            prev: None,
            next: None,
            hops: None,
            id: None,
            replaces: None,
            content: None,
        };
        let text = r#"{"type":"path","path":["peer-1","peer-6","peer-18","peer-30"]}"#;
        assert_eq!(serde_json::to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_go_client_without_neighbours_announces_null() {
        let text = r#"{"type":"announce","peer":"peer-1","room":"rock","neighbors":null}"#;
        let ClientMessage::Announce { neighbors, .. } = serde_json::from_str(text).unwrap() else { panic!() };
        assert!(neighbors.is_empty());
    }

    #[test]
    fn a_link_report_reads_as_the_design_writes_it() {
        let text = r#"{"type":"link","neighbor":"peer-5","up":false}"#;
        let message: ClientMessage = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }

    #[test]
    fn a_use_reads_as_the_protocol_page_writes_it() {
        let text = r#"{"type":"use","routes":["e3f1-12","e3f1-14"]}"#;
        let message: ClientMessage = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }

    #[test]
    fn codes_are_the_same_as_text_and_in_json() {
        use ErrorCode::*;
        for code in [
            UnknownPeer,
            NoPath,
            NoHolder,
            PeerMismatch,
            RoomMismatch,
            BadMessage,
            UnknownType,
            NotALink,
            TooLarge,
            Full,
            NotAGateway,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}

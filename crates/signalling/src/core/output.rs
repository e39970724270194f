//! What a room wants done, and what it wants known.

use std::fmt;

use hopcast_protocol::{ContentId, ErrorCode, PeerName, RoomName, RouteId};
use serde::Serialize;

use crate::frame::Frame;

/// One connection of this server's life; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `announce`, `request_path`, `path`, `error`: the original's.
    Original,
    /// Everything: the client offered `hopcast.1`.
    Hopcast,
}

/// Why a connection is cut without a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// It does not read.
    Slow,
    /// It has been silent for too long.
    Dead,
}

/// To one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Queue this frame.
    Send {
        /// For whom.
        to: ConnectionId,
        /// What.
        frame: Frame,
    },
    /// After what is queued, close.
    Close {
        /// Whom.
        to: ConnectionId,
        /// Close code.
        code: u16,
        /// Close reason.
        reason: &'static str,
    },
    /// End it now, whatever is queued.
    Cut {
        /// Whom.
        to: ConnectionId,
        /// Why.
        why: Cut,
    },
}

/// For whoever watches: the events of `/api/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A path was broadcast.
    Path(PathEvent),
    /// A peer came or went.
    Peer(PeerEvent),
    /// A link came up or went down.
    Link(LinkEvent),
    /// A route ended.
    RouteDown(RouteDownEvent),
}

/// A path was broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathEvent {
    /// Absent where nobody on the path speaks `hopcast.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteId>,
    /// The room.
    pub room: RoomName,
    /// Requester first.
    pub path: Vec<PeerName>,
    /// What was asked for, if it was a content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentId>,
    /// The route that was lost, where the server recomputed the path by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<RouteId>,
}

/// A peer came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerEvent {
    /// Who.
    pub peer: PeerName,
    /// Where.
    pub room: RoomName,
    /// Which of the two.
    pub connected: bool,
}

/// A link came up or went down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkEvent {
    /// The room.
    pub room: RoomName,
    /// The end whose name comes first.
    pub a: PeerName,
    /// The other.
    pub b: PeerName,
    /// Which of the two.
    pub up: bool,
}

/// A route ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteDownEvent {
    /// Which.
    pub route: RouteId,
    /// Where.
    pub room: RoomName,
}

impl Event {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Peer(_) => "peer",
            Self::Link(_) => "link",
            Self::RouteDown(_) => "route_down",
        }
    }

    /// Its data: one line of JSON.
    pub fn data(&self) -> String {
        match self {
            Self::Path(event) => serde_json::to_string(event),
            Self::Peer(event) => serde_json::to_string(event),
            Self::Link(event) => serde_json::to_string(event),
            Self::RouteDown(event) => serde_json::to_string(event),
        }
        .expect("events are structs of strings, which JSON can always say")
    }
}

/// For the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tally {
    /// A message of this type was read.
    Message(&'static str),
    /// An error was answered.
    Error(ErrorCode),
    /// A path of so many hops was broadcast.
    Path(usize),
    /// A route was ended.
    RouteDown,
    /// A path that was lost was computed anew; whether there was one.
    Mended(bool),
}

/// What calls have put out; a buffer to be drained and used again.
#[derive(Debug, Default)]
pub struct Outputs {
    /// In this order, over all connections.
    pub frames: Vec<Output>,
    /// Filled only while [`Outputs::watched`].
    pub events: Vec<Event>,
    /// Whether somebody wants the events.
    pub watched: bool,
    /// For the counters.
    pub tally: Vec<Tally>,
}

impl Outputs {
    pub(super) fn send(&mut self, to: ConnectionId, frame: Frame) {
        self.frames.push(Output::Send { to, frame });
    }

    pub(super) fn event(&mut self, event: impl FnOnce() -> Event) {
        if self.watched {
            self.events.push(event());
        }
    }
}

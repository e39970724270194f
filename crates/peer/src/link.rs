//! One link: the neighbour's kept-alive connections, what the link feels like, and what a failure over it means.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use hopcast_protocol::{
    Emulation, LinkKey, NeighborConfig, PeerName, RoomName,
    limits::{NO_PROGRESS, NO_PROGRESS_PER_HOP},
};
use http::{HeaderValue, StatusCode};
use tokio::{sync::Notify, time::Instant};

use crate::{conn::Conn, emulation::Pace, net::DialError, wire::Wire};

/// Idle connections kept to one neighbour.
const IDLE: usize = 4;
/// An idle connection older than this is not used again; the other side closes it at 75 s.
const KEEP: Duration = Duration::from_secs(60);

/// How long a hop waits for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For a neighbour that shows no other sign of life.
    pub(crate) silent: Duration,
    /// For one that does: what is slow lies behind it.
    pub(crate) most: Duration,
}

/// The patience of a hop with `hops` hops between it and the holder. A neighbour that answers a probe is waited for: it gives
/// up itself, and says so, when the hop behind it is the fault. Of hops that wait for a neighbour that lives and never
/// does either, the one beside it gives up first.
pub(crate) fn patience(hops: u32, link: &Emulation) -> Patience {
    let there_and_back = Duration::from_micros((link.latency_us + link.jitter_us).saturating_mul(2));
    let silent = NO_PROGRESS + NO_PROGRESS_PER_HOP * hops.saturating_sub(1);
    Patience { silent, most: silent * 3 + there_and_back.saturating_mul(hops) }
}

/// Why a neighbour did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] DialError),
    /// No progress in time.
    #[error("no progress")]
    Stalled,
    /// The connection broke before the end.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The link was removed.
    #[error("the link was removed")]
    Cut,
    /// The emulated link lost the request.
    #[error("the emulated link lost the request")]
    Lost,
    /// The answer cannot be used.
    #[error("an answer that cannot be used: {0}")]
    Malformed(&'static str),
}

impl HopError {
    /// The error's name in `Proxy-Status` (RFC 9209 2.3).
    pub fn token(&self) -> &'static str {
        match self {
            Self::Connect(DialError::Name(..)) => "dns_error",
            Self::Connect(DialError::Refused(..)) => "connection_refused",
            Self::Connect(DialError::Silent(_)) => "connection_timeout",
            Self::Stalled => "http_response_timeout",
            Self::Broken(_) | Self::Lost => "connection_terminated",
            Self::Cut => "destination_unavailable",
            Self::Malformed(_) => "http_protocol_error",
        }
    }

    /// What the hop before is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Stalled | Self::Connect(DialError::Silent(_)) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What it says about the link.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Connect(_) | Self::Stalled => Blame::Link,
            Self::Broken(_) => Blame::Perhaps,
            Self::Cut | Self::Lost | Self::Malformed(_) => Blame::Nobody,
        }
    }
}

/// What a failure says about the link that it happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The link is down: report it at once.
    Link,
    /// A body that ends early: the neighbour may be well and pass on what happened further along. Probe it first.
    Perhaps,
    /// Nothing.
    Nobody,
}

#[derive(Debug)]
struct Idle {
    wire: Wire,
    since: Instant,
}

/// A link to one neighbour.
#[derive(Debug)]
pub struct Link {
    /// The neighbour.
    pub name: PeerName,
    /// `host:port`
    pub endpoint: String,
    /// The same for `Host`.
    pub(crate) host: HeaderValue,
    /// The link's key.
    pub key: LinkKey,
    rooms: RefCell<Vec<RoomName>>,
    emulation: Cell<Emulation>,
    /// The rate of this direction.
    pub pace: Pace,
    idle: RefCell<Vec<Idle>>,
    inbound: RefCell<Vec<Weak<Conn>>>,
    gone: Cell<bool>,
    cut: Notify,
    up: Cell<bool>,
    /// Set while something probes the neighbour; also wakes a probe that waits.
    pub(crate) probing: Cell<bool>,
    pub(crate) probe_now: Notify,
}

impl Link {
    /// A link that works, as far as anybody knows.
    pub fn new(config: &NeighborConfig) -> Rc<Self> {
        Rc::new(Self {
            name: config.name.clone(),
            endpoint: config.endpoint.clone(),
            // What is no header's value is no address that could be connected to either.
            host: HeaderValue::from_str(&config.endpoint).unwrap_or(HeaderValue::from_static("")),
            key: config.key.clone(),
            rooms: RefCell::new(config.rooms.clone()),
            emulation: Cell::new(config.emulation),
            pace: Pace::new(Instant::now()),
            idle: RefCell::default(),
            inbound: RefCell::default(),
            gone: Cell::new(false),
            cut: Notify::new(),
            up: Cell::new(true),
            probing: Cell::new(false),
            probe_now: Notify::new(),
        })
    }

    /// True where a new configuration still means this link, perhaps with another feel or in other rooms.
    pub fn is_same(&self, config: &NeighborConfig) -> bool {
        self.name == config.name && self.endpoint == config.endpoint && self.key == config.key
    }

    /// Takes over what may change without a new link.
    pub fn update(&self, config: &NeighborConfig) {
        self.emulation.set(config.emulation);
        self.rooms.borrow_mut().clone_from(&config.rooms);
    }

    /// What it feels like.
    pub fn emulation(&self) -> Emulation {
        self.emulation.get()
    }

    /// True if both ends are in the room.
    pub fn is_in(&self, room: &RoomName) -> bool {
        self.rooms.borrow().contains(room)
    }

    /// True as long as the link is not reported down.
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.set(up);
    }

    /// Removes the link: everything under way over it ends now.
    pub fn cut(&self) {
        self.gone.set(true);
        self.cut.notify_waiters();
        self.idle.borrow_mut().clear();
        for conn in self.inbound.borrow_mut().drain(..) {
            if let Some(conn) = conn.upgrade() {
                conn.kill();
            }
        }
    }

    /// True after [`Link::cut`].
    pub fn is_cut(&self) -> bool {
        self.gone.get()
    }

    /// Waits for [`Link::cut`].
    pub async fn was_cut(&self) {
        let notified = self.cut.notified();
        if !self.gone.get() {
            notified.await;
        }
    }

    /// The neighbour has authenticated itself on this accepted connection.
    pub fn accepted(&self, conn: &Rc<Conn>) {
        let mut inbound = self.inbound.borrow_mut();
        inbound.retain(|conn| conn.strong_count() > 0);
        if !inbound.iter().any(|known| known.as_ptr() == Rc::as_ptr(conn)) {
            inbound.push(Rc::downgrade(conn));
        }
    }

    /// An idle connection that is still open.
    pub(crate) fn take_idle(&self, now: Instant) -> Option<Wire> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.wire.is_closed() && now.saturating_duration_since(idle.since) < KEEP);
        idle.pop().map(|idle| idle.wire)
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put_idle(&self, wire: Wire, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.wire.is_closed());
        if !self.gone.get() && idle.len() < IDLE {
            wire.rest();
            idle.push(Idle { wire, since: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hop_beside_the_fault_is_the_first_to_give_up() {
        let fast = Emulation::default();
        assert_eq!(patience(1, &fast).silent, NO_PROGRESS);
        for hops in 1..50 {
            assert!(patience(hops, &fast).silent < patience(hops + 1, &fast).silent);
            assert!(patience(hops, &fast).most < patience(hops + 1, &fast).most);
        }
        assert_eq!(patience(0, &fast), patience(1, &fast));
    }

    #[test]
    fn emulated_latency_is_no_stall() {
        let (fast, slow) = (
            Emulation::default(),
            Emulation { latency_us: 300_000, jitter_us: 50_000, ..Emulation::default() },
        );
        assert_eq!(patience(4, &slow).silent, patience(4, &fast).silent, "a probe is not emulated");
        assert_eq!(patience(4, &slow).most, patience(4, &fast).most + Duration::from_millis(2800));
    }

    #[test]
    fn only_a_failure_beside_this_peer_is_the_links_fault() {
        assert_eq!(HopError::Stalled.blame(), Blame::Link);
        assert_eq!(HopError::Connect(DialError::Silent("x".into())).blame(), Blame::Link);
        assert_eq!(HopError::Broken(String::new()).blame(), Blame::Perhaps);
        assert_eq!(HopError::Lost.blame(), Blame::Nobody);
        assert_eq!(HopError::Cut.blame(), Blame::Nobody);
    }
}

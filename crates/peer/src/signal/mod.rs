//! The signalling side of a peer: one connection for each room, and what is said over it.
//!
//! [`outbox`] decides what to say, [`socket`] owns the connection and the task that keeps it; this module is what the
//! rest of the peer calls. Nothing here waits for the network but [`Room::ask`], which has a deadline.

mod assembly;
pub mod outbox;
pub mod socket;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use hopcast_protocol::{ContentId, ErrorCode, PeerName, RoomMembership, RoomName, ServerMessage, Sha256};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use self::outbox::Outbox;
use crate::routes::{Route, Routes};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// After the first refusal of what a peer says of itself it is said again.
const INTRODUCE_FIRST: Duration = Duration::from_millis(500);
/// And after later ones.
const INTRODUCE_MOST: Duration = Duration::from_secs(64);

/// Where the server is: `ws://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`
    pub authority: String,
    /// `/ws`
    pub path: String,
}

/// Why a URL is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Another scheme.
    #[error("expected ws://host:port/ws")]
    Scheme,
    /// No host, or a port that is none.
    #[error("no host and port")]
    Authority,
    /// A query: it is the peer's to add.
    #[error("leave out what follows `?`; the peer adds its name and room")]
    Query,
}

impl Endpoint {
    /// Reads a URL. Without a port 80, without a path `/ws`.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let rest = url.strip_prefix("ws://").ok_or(EndpointError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(EndpointError::Query);
        }
        let (authority, path) = rest.find('/').map_or((rest, "/ws"), |at| rest.split_at(at));
        let authority: http::uri::Authority = authority.parse().map_err(|_| EndpointError::Authority)?;
        let port = authority.port_u16();
        let bare = authority.as_str() == authority.host();
        if authority.host().is_empty() || authority.as_str().contains('@') || (port.is_none() && !bare) {
            return Err(EndpointError::Authority);
        }
        let path = if path == "/" { "/ws" } else { path };
        let port = port.unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), path: path.to_owned() })
    }
}

/// Why there is no way to a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// No connection to the server.
    Offline,
    /// No answer in time.
    Silent,
    /// Nobody reachable holds it.
    NoHolder,
    /// Anything else that the server said.
    Refused(String),
}

type Answer = Result<Rc<Route>, AskError>;

/// One room, as the rest of the peer sees it.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    membership: RoomMembership,
    outbox: RefCell<Outbox>,
    wake: Notify,
    connected: Cell<bool>,
    stopping: Cell<bool>,
    pending: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
    next_id: Cell<u64>,
    // Of what this peer said of itself: how often in a row, when last, and whether it is about to be said again.
    refusals: Cell<u32>,
    refused: Cell<Option<Instant>>,
    introducing: Cell<bool>,
}

impl Room {
    /// A room that is not connected yet.
    pub fn new(
        peer: &PeerName,
        membership: RoomMembership,
        neighbors: Vec<PeerName>,
        gateway: bool,
    ) -> Rc<Self> {
        let name = membership.name.clone();
        let mut outbox = Outbox::new(peer.clone(), name.clone());
        outbox.set_neighbors(neighbors);
        outbox.set_gateway(gateway);
        Rc::new(Self {
            name,
            membership,
            outbox: RefCell::new(outbox),
            wake: Notify::new(),
            connected: Cell::new(false),
            stopping: Cell::new(false),
            pending: RefCell::default(),
            next_id: Cell::new(1),
            refusals: Cell::new(0),
            refused: Cell::new(None),
            introducing: Cell::new(false),
        })
    }

    /// Name and token.
    pub fn membership(&self) -> &RoomMembership {
        &self.membership
    }

    /// True while the server can be asked.
    pub fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// Changes what the server should know, and lets the connection's task say it.
    pub fn tell(&self, change: impl FnOnce(&mut Outbox)) {
        change(&mut self.outbox.borrow_mut());
        self.wake.notify_one();
    }

    /// Whether the server may still believe that this peer holds it.
    pub fn is_told(&self, sha256: &Sha256) -> bool {
        self.outbox.borrow().is_told(sha256)
    }

    /// The server has refused what this peer said of itself: after how long that is to be said again, ever more rarely. `None`:
    /// it is about to be said already.
    fn introduce_in(&self, now: Instant) -> Option<Duration> {
        if self.introducing.replace(true) {
            return None;
        }
        let last = self.refused.replace(Some(now));
        let in_a_row = last.is_some_and(|last| now.saturating_duration_since(last) < 2 * INTRODUCE_MOST);
        let refusals = if in_a_row { self.refusals.get() } else { 0 };
        self.refusals.set(refusals + 1);
        Some((INTRODUCE_FIRST * (1 << refusals.min(7))).min(INTRODUCE_MOST))
    }

    /// Says it again.
    fn introduce(&self) {
        self.introducing.set(false);
        self.tell(Outbox::introduce_again);
    }

    /// This peer, or the server, may be another one now: what is refused from here on is soon said again.
    pub(crate) fn forget_refusals(&self) {
        self.refused.set(None);
        self.introducing.set(false);
    }

    /// Closes the connection for good.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.wake.notify_one();
    }

    /// Asks for the way to the nearest holder that is not in `exclude`, through nobody in `avoid`.
    pub async fn ask(&self, content: &ContentId, exclude: &[PeerName], avoid: &[PeerName]) -> Answer {
        if !self.connected.get() {
            return Err(AskError::Offline);
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (reply, answer) = oneshot::channel();
        if !self.outbox.borrow_mut().ask(content.clone(), exclude.to_vec(), avoid.to_vec(), id) {
            return Err(AskError::Refused("too many requests wait to be sent".to_owned()));
        }
        self.pending.borrow_mut().insert(id, reply);
        self.wake.notify_one();
        let _forget = Forget { room: self, id };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::Offline),
            Err(_) => Err(AskError::Silent),
        }
    }

    /// Takes a message of the server's. Returns the route that it brought, for whoever waits for a broadcast.
    fn receive(&self, message: ServerMessage, routes: &mut Routes, now: Instant) -> Received {
        match message {
            ServerMessage::Path {
                path,
                route: Some(id),
                room: _,
                prev,
                next,
                hops: Some(hops),
                id: asked,
                replaces,
                content,
            } => {
                let route = Route { id, room: self.name.clone(), prev, next, hops, path: path.into() };
                let route = routes.insert(route, now);
                if let (Some(lost), Some(content)) = (replaces, content) {
                    routes.succeed(lost, route.id.clone(), content);
                }
                if let Some(reply) = asked.and_then(|id| self.pending.borrow_mut().remove(&id)) {
                    let _ = reply.send(Ok(route)); // whoever asked may have left
                }
                Received::Route
            }
            ServerMessage::Path { .. } => Received::Nothing, // the original's form carries no route
            ServerMessage::RouteDown { route } => {
                routes.retire(&route);
                Received::Retired
            }
            // What was lost, and cannot be replaced now, is asked for again by whoever needs it.
            ServerMessage::Error { message, route: Some(route), .. } => {
                tracing::debug!(room = %self.name, %route, "{message}");
                Received::Nothing
            }
            ServerMessage::Error { code, message, id, route: None } => {
                if let Some(reply) = id.and_then(|id| self.pending.borrow_mut().remove(&id)) {
                    let _ = reply.send(Err(match code {
                        ErrorCode::NoHolder | ErrorCode::NoPath | ErrorCode::UnknownPeer => {
                            AskError::NoHolder
                        }
                        _ => AskError::Refused(message),
                    }));
                    return Received::Nothing;
                }
                tracing::warn!(room = %self.name, code = code.as_str(), "{message}");
                match code {
                    ErrorCode::NotALink | ErrorCode::Full | ErrorCode::NotAGateway => Received::Refused,
                    _ => Received::Nothing,
                }
            }
        }
    }

    fn disconnected(&self) {
        self.connected.set(false);
        self.outbox.borrow_mut().disconnected();
        self.pending.borrow_mut().clear(); // whoever waits sees that its sender is gone
    }
}

/// What a message of the server's changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Route,
    Retired,
    Refused,
    Nothing,
}

struct Forget<'a> {
    room: &'a Room,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.room.pending.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{GOODBYE, Space};

    #[test]
    fn urls() {
        let parse = |url| Endpoint::parse(url).map(|e| (e.authority, e.path));
        assert_eq!(parse("ws://signalling:7080/ws"), Ok(("signalling:7080".into(), "/ws".into())));
        assert_eq!(parse("ws://127.0.0.1:7080"), Ok(("127.0.0.1:7080".into(), "/ws".into())));
        assert_eq!(parse("ws://[::1]:7080/a/ws"), Ok(("[::1]:7080".into(), "/a/ws".into())));
        assert_eq!(parse("http://x/ws"), Err(EndpointError::Scheme));
        assert_eq!(parse("ws:///ws"), Err(EndpointError::Authority));
        assert_eq!(parse("ws://a:b/ws"), Err(EndpointError::Authority));
        assert_eq!(parse("ws://a/ws?x=1"), Err(EndpointError::Query));
    }

    #[test]
    fn an_eviction_waits_until_the_server_was_told() {
        crate::testing::paused(async {
            let node = crate::testing::node(vec![]);
            let membership = RoomMembership { name: RoomName::new("rock").unwrap(), token: None };
            let room = Room::new(&node.config().name, membership, vec![], false);
            node.set_rooms([room.clone()].into());
            node.cache.borrow_mut().set_limit(10);
            let keep = |number: u8| {
                node.keep(
                    Sha256([number; 32]),
                    &bytes::Bytes::from(vec![0; 10]),
                    std::slice::from_ref(&room.name),
                );
            };
            let speak = || std::iter::from_fn(|| room.outbox.borrow_mut().next_message()).count();

            keep(1);
            speak();
            let Space::Goodbye(until) = node.make_room(10) else { panic!("nothing was said") };
            assert_eq!(until, Instant::now() + GOODBYE);
            assert_eq!(speak(), 1, "the drop is on its way");
            assert_eq!(node.make_room(10), Space::Goodbye(until));
            assert_eq!(node.cache.borrow().len(), 1);
            room.outbox.borrow_mut().said();
            assert_eq!(node.make_room(10), Space::Free);
            assert!(node.cache.borrow().is_empty());

            keep(2);
            speak();
            assert!(matches!(node.make_room(10), Space::Goodbye(_)));
            tokio::time::sleep(GOODBYE).await;
            assert_eq!(node.make_room(10), Space::Free, "a server that takes nothing holds nothing up");

            keep(3);
            speak();
            room.disconnected();
            assert_eq!(node.make_room(10), Space::Free, "nobody is there to be told");
        });
    }

    #[test]
    fn what_is_refused_is_said_again_by_one_timer_ever_more_rarely() {
        let membership = RoomMembership { name: RoomName::new("rock").unwrap(), token: None };
        let room = Room::new(&PeerName::new("peer-1").unwrap(), membership, vec![], true);
        let mut now = Instant::now();
        let mut waits = vec![];
        for _ in 0..10 {
            // The announcement and `hold` of everything, both refused.
            let wait = room.introduce_in(now).expect("nothing is about to be said");
            assert_eq!(room.introduce_in(now), None);
            waits.push(wait.as_millis());
            now += wait;
            room.introduce();
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]);
        assert_eq!(room.introduce_in(now + 2 * INTRODUCE_MOST), Some(INTRODUCE_FIRST), "long ago");
        room.introduce();
        room.introduce_in(now);
        room.introduce();
        room.forget_refusals();
        assert_eq!(room.introduce_in(now), Some(INTRODUCE_FIRST));
    }

    #[test]
    fn answers_find_who_asked() {
        let peer = PeerName::new("peer-1").unwrap();
        let membership = RoomMembership { name: RoomName::new("rock").unwrap(), token: None };
        let room = Room::new(&peer, membership, vec![], false);
        let (mut routes, now) = (Routes::default(), Instant::now());
        let (reply, mut answer) = oneshot::channel();
        room.pending.borrow_mut().insert(7, reply);
        let text = r#"{"type":"path","route":"e-1","room":"rock","path":["peer-1","peer-2"],"next":"peer-2","hops":1,"id":7}"#;
        let received = room.receive(serde_json::from_str(text).unwrap(), &mut routes, now);
        assert_eq!(received, Received::Route);
        assert_eq!(answer.try_recv().unwrap().unwrap().holder().unwrap().as_str(), "peer-2");
        assert!(routes.get("e-1", now).is_some());

        let (reply, mut answer) = oneshot::channel();
        room.pending.borrow_mut().insert(8, reply);
        let text = r#"{"type":"error","code":"no_holder","message":"nobody","id":8}"#;
        room.receive(serde_json::from_str(text).unwrap(), &mut routes, now);
        assert_eq!(answer.try_recv().unwrap(), Err(AskError::NoHolder));

        for code in ["not_a_link", "full", "not_a_gateway"] {
            let text =
                format!(r#"{{"type":"error","code":"{code}","message":"the file is not reread yet"}}"#);
            let received = room.receive(serde_json::from_str(&text).unwrap(), &mut routes, now);
            assert_eq!(received, Received::Refused, "{code}");
        }

        // Unasked, in the place of a lost one.
        let text = r#"{"type":"path","route":"e-2","room":"rock","path":["peer-1","peer-2"],"next":"peer-2","hops":1,"replaces":"e-1","content":"manifest:demo"}"#;
        assert_eq!(room.receive(serde_json::from_str(text).unwrap(), &mut routes, now), Received::Route);
        let lost = hopcast_protocol::RouteId::new("e-1").unwrap();
        let content = "manifest:demo".parse().unwrap();
        assert_eq!(routes.successor(&lost, &content, now).unwrap().id.as_str(), "e-2");
        let text = r#"{"type":"error","code":"no_holder","message":"nobody","route":"e-1"}"#;
        assert_eq!(room.receive(serde_json::from_str(text).unwrap(), &mut routes, now), Received::Nothing);

        let text = r#"{"type":"route_down","route":"e-1"}"#;
        assert_eq!(room.receive(serde_json::from_str(text).unwrap(), &mut routes, now), Received::Retired);
        assert!(routes.is_retired("e-1"));
    }
}

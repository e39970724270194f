//! What the signalling server broadcasts, read from `/api/events` by one task that lives as long as [`Events`].
//!
//! Everything kept is bounded: the newest [`ROUTES_KEPT`] routes. An event that was missed (the reader fell behind, or the
//! stream ended) is remembered, so that a missing broadcast is not blamed on a peer.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hopcast_protocol::{PeerName, RoomName, RouteId};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::{sync::Notify, time::timeout};

use crate::http::{self, HttpError, Task};

/// Routes that are remembered.
pub(crate) const ROUTES_KEPT: usize = 65_536;
/// Longest single event.
const EVENT_LIMIT: usize = 1 << 20;

/// A path as it was broadcast.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Broadcast {
    pub(crate) route: RouteId,
    pub(crate) room: RoomName,
    /// Requester first, holder last.
    pub(crate) path: Vec<PeerName>,
    #[serde(default)]
    pub(crate) content: Option<String>,
}

#[derive(Deserialize)]
struct Down {
    route: RouteId,
}

#[derive(Deserialize)]
struct Lagged {
    missed: u64,
}

#[derive(Debug, Default)]
struct State {
    routes: HashMap<RouteId, Broadcast>,
    order: VecDeque<RouteId>,
    down: HashSet<RouteId>,
    /// One id, two paths: against the protocol.
    ambiguous: Vec<RouteId>,
    missed: u64,
    ended: Option<String>,
}

impl State {
    fn take(&mut self, event: &str, data: &str) {
        match event {
            "path" => {
                let Ok(new) = serde_json::from_str::<Broadcast>(data) else {
                    self.missed += 1;
                    return;
                };
                let id = new.route.clone();
                match self.routes.insert(id.clone(), new) {
                    Some(old) => {
                        if old.path != self.routes[&id].path && self.ambiguous.len() < ROUTES_KEPT {
                            self.ambiguous.push(id);
                        }
                    }
                    None => self.order.push_back(id),
                }
                while self.order.len() > ROUTES_KEPT {
                    if let Some(oldest) = self.order.pop_front() {
                        self.routes.remove(&oldest);
                        self.down.remove(&oldest);
                    }
                }
            }
            "route_down" => {
                if let Ok(Down { route }) = serde_json::from_str(data)
                    && self.routes.contains_key(&route)
                {
                    self.down.insert(route);
                }
            }
            "lagged" => self.missed += serde_json::from_str::<Lagged>(data).map_or(1, |lagged| lagged.missed),
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held can only come from a failed allocation; the state stays readable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's broadcasts since this was opened.
#[derive(Debug)]
pub(crate) struct Events {
    shared: Arc<Shared>,
    _reader: Task,
    _connection: Task,
}

impl Events {
    /// Subscribes.
    pub(crate) async fn open(signalling: SocketAddr, within: Duration) -> Result<Self, HttpError> {
        let (body, connection) = http::stream(signalling, "/api/events", within).await?;
        let shared = Arc::new(Shared::default());
        let reader = Task(tokio::spawn(read(body, Arc::clone(&shared))));
        Ok(Self { shared, _reader: reader, _connection: connection })
    }

    /// Waits until `look` finds what it looks for in the state.
    async fn wait<T>(&self, within: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = look(&self.shared.state()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(within, found).await.ok()
    }

    /// The path that was broadcast under this id. The broadcast and the bytes come over different connections: it may
    /// still be on its way.
    pub(crate) async fn route(&self, id: &str, within: Duration) -> Option<Broadcast> {
        self.wait(within, |state| state.routes.get(id).cloned()).await
    }

    /// True once the server has said that this route is no more.
    pub(crate) async fn went_down(&self, id: &str, within: Duration) -> bool {
        self.wait(within, |state| state.down.contains(id).then_some(())).await.is_some()
    }

    /// The routes that stand, newest first.
    pub(crate) fn standing(&self) -> Vec<Broadcast> {
        let state = self.shared.state();
        let standing = state.order.iter().rev().filter(|id| !state.down.contains(*id));
        standing.filter_map(|id| state.routes.get(id).cloned()).collect()
    }

    /// Why a broadcast may be missing here without anybody's fault.
    pub(crate) fn gaps(&self) -> Option<String> {
        let state = self.shared.state();
        match (&state.ended, state.missed) {
            (Some(why), _) => Some(format!("the event stream ended: {why}")),
            (None, 0) => None,
            (None, missed) => Some(format!("the event stream lost {missed} events")),
        }
    }

    /// Route ids that were broadcast with two different paths.
    pub(crate) fn ambiguous(&self) -> Vec<RouteId> {
        self.shared.state().ambiguous.clone()
    }
}

async fn read(mut body: Incoming, shared: Arc<Shared>) {
    let mut parser = Parser::default();
    let why = loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let fed = parser.feed(&data, |event, data| shared.state().take(event, data));
                shared.changed.notify_waiters();
                if let Err(why) = fed {
                    break why.to_owned();
                }
            }
            Some(Err(error)) => break error.to_string(),
            None => break "the server closed it".to_owned(),
        }
    };
    shared.state().ended = Some(why);
    shared.changed.notify_waiters();
}

/// Server-sent events (HTML standard, 9.2.6) out of pieces of any size.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: String,
    data: String,
}

impl Parser {
    fn feed(&mut self, bytes: &Bytes, mut take: impl FnMut(&str, &str)) -> Result<(), &'static str> {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > EVENT_LIMIT || self.data.len() > EVENT_LIMIT {
                    return Err("an event of more than 1 MiB");
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            self.line(line.trim_end_matches('\r'), &mut take);
        }
        Ok(())
    }

    fn line(&mut self, line: &str, take: &mut impl FnMut(&str, &str)) {
        if line.is_empty() {
            if !self.data.is_empty() {
                take(&self.event, &self.data);
            }
            self.event.clear();
            self.data.clear();
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {} // comments keep the connection open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str, piece: usize) -> State {
        let (mut parser, mut state) = (Parser::default(), State::default());
        for bytes in text.as_bytes().chunks(piece) {
            parser.feed(&Bytes::copy_from_slice(bytes), |event, data| state.take(event, data)).unwrap();
        }
        state
    }

    const TEXT: &str = ": hello\n\nevent: path\ndata: {\"route\":\"e-1\",\"room\":\"rock\",\"path\":[\"a\",\"b\"],\"content\":\"manifest:demo\"}\n\n\
        event: peer\ndata: {\"peer\":\"a\",\"room\":\"rock\",\"connected\":true}\n\n\
        event: route_down\r\ndata: {\"route\":\"e-1\",\"room\":\"rock\"}\r\n\r\n\
        event: route_down\ndata: {\"route\":\"never-seen\",\"room\":\"rock\"}\n\n";

    #[test]
    fn events_are_read_whatever_pieces_they_come_in() {
        for piece in [1, 2, 7, 4096] {
            let state = state(TEXT, piece);
            assert_eq!(state.routes["e-1"].path.len(), 2);
            assert_eq!(state.routes["e-1"].content.as_deref(), Some("manifest:demo"));
            assert!(state.down.contains("e-1") && state.down.len() == 1);
            assert_eq!((state.missed, state.ambiguous.len()), (0, 0));
        }
    }

    #[test]
    fn an_id_with_two_paths_and_lost_events_are_remembered() {
        let text = "event: path\ndata: {\"route\":\"e-1\",\"room\":\"r\",\"path\":[\"a\",\"b\"]}\n\n\
            event: path\ndata: {\"route\":\"e-1\",\"room\":\"r\",\"path\":[\"a\",\"b\"]}\n\n\
            event: path\ndata: {\"route\":\"e-1\",\"room\":\"r\",\"path\":[\"a\",\"c\",\"b\"]}\n\n\
            event: lagged\ndata: {\"missed\":3}\n\n\
            event: path\ndata: nonsense\n\n";
        let state = state(text, 64);
        assert_eq!(state.ambiguous, [RouteId::new("e-1").unwrap()]);
        assert_eq!(state.missed, 4);
    }

    #[test]
    fn the_number_of_routes_kept_is_bounded() {
        let mut state = State::default();
        for i in 0..ROUTES_KEPT + 10 {
            state.take("path", &format!("{{\"route\":\"e-{i}\",\"room\":\"r\",\"path\":[\"a\"]}}"));
        }
        assert_eq!((state.routes.len(), state.order.len()), (ROUTES_KEPT, ROUTES_KEPT));
        assert!(!state.routes.contains_key("e-9") && state.routes.contains_key("e-10"));
    }
}

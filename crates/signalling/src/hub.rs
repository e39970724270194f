//! All rooms of the server, and who may enter them.
//!
//! Each room has its own lock, held only while one input is worked on and its frames are queued: never across an await,
//! and queueing never waits. Rooms therefore run on several cores, and a slow reader costs its own connection only. What
//! serves a room's connections is one task, so that rooms take turns whatever their sizes; a large room has one for each core.
//! Lock order: the table of rooms, then one room; no two rooms at once.

mod delivery;
mod session;
mod view;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hopcast_protocol::{ErrorCode, PeerName, RoomName, RouteId, keys::TokenKey};
pub use session::Session;
use tokio::{sync::Notify, time::Instant};

use crate::{
    config::{Limits, Seeds, Settings},
    core::{ConnectionId, Dialect, Epoch, MEND_EVERY, Outputs, Policy, Room},
    events::Events,
    frame::Frame,
    group::Group,
    metrics::Metrics,
    outbox::Outbox,
};

/// Why a client may not enter a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No or a wrong token.
    #[error("a token for this peer in this room is needed: Authorization: Bearer <token>")]
    Unauthorized,
    /// The file does not have this peer in this room.
    #[error("{0}")]
    Unknown(String),
    /// There are as many rooms, or peers in the room, as are taken.
    #[error("{0}")]
    Full(String),
}

/// What may change while the server runs.
#[derive(Debug, Clone)]
struct Access {
    token_key: Option<TokenKey>,
    seeds: Option<Arc<Seeds>>,
}

/// Connections of a room that are worked on before other rooms are.
const TURN: usize = 32;
/// Connections that are worked on by one processor at a time: a larger room takes more of them. What one of these does to
/// another of them wakes no other thread.
const TOGETHER: usize = 512;
/// Somebody looks at the clock at least twice a second. Where nobody did for longer than this, the whole server stood still (stopped,
/// or its machine busy with others): nobody was pinged meanwhile, and what peers sent is not read yet.
const STANDSTILL: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Cell {
    state: Mutex<CellState>,
}

#[derive(Debug)]
struct CellState {
    room: Room,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    outputs: Outputs,
    /// What serves its connections: as many as its largest crowd needed, at most one for each processor.
    groups: Vec<Group>,
    /// Taken out of the table: whoever still has it must look again.
    retired: bool,
}

/// The time of all rooms. It never goes back, and does not pass while the server stands still.
#[derive(Debug)]
struct Clock {
    started: Instant,
    /// When somebody last looked at it.
    seen: Instant,
}

impl Clock {
    fn look(&mut self) -> Duration {
        let now = Instant::now();
        let since = now - self.seen;
        if since > STANDSTILL {
            self.started += since;
        }
        self.seen = now;
        now - self.started
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    access: RwLock<Access>,
    settings: Settings,
    rooms: RwLock<HashMap<RoomName, Arc<Cell>>>,
    epoch: Arc<Epoch>,
    next_connection: AtomicU64,
    processors: usize,
    clock: Mutex<Clock>,
    /// Closed for good: who still enters is sent away with this.
    closed: OnceLock<Frame>,
    /// Some room has lost paths that wait to be found anew.
    mending: Notify,
    /// Counters.
    pub metrics: Metrics,
    /// For `/api/events`.
    pub events: Events,
}

impl Hub {
    /// The rooms of the settings' seeds, and nobody in them.
    pub fn new(settings: &Settings) -> Result<Self, getrandom::Error> {
        let hub = Self {
            access: RwLock::new(Access { token_key: None, seeds: None }),
            rooms: RwLock::default(),
            epoch: Arc::new(Epoch::random()?),
            next_connection: AtomicU64::new(1),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            clock: Mutex::new(Clock { started: Instant::now(), seen: Instant::now() }),
            closed: OnceLock::new(),
            mending: Notify::new(),
            metrics: Metrics::new(settings.mesh.as_ref()),
            events: Events::new(settings.limits.event_readers),
            settings: settings.clone(),
        };
        hub.reload(settings);
        Ok(hub)
    }

    /// The server's bounds.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn now(&self) -> Duration {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).look()
    }

    fn access(&self) -> Access {
        self.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        let mut cells: Vec<_> = rooms.iter().map(|(name, cell)| (name.clone(), cell.clone())).collect();
        cells.sort_by(|(a, _), (b, _)| a.cmp(b));
        cells.into_iter().map(|(_, cell)| cell).collect()
    }

    fn cell(&self, room: &RoomName) -> Option<Arc<Cell>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(room).cloned()
    }

    fn policy(&self, room: &RoomName, access: &Access) -> Policy {
        Policy {
            liveness: self.settings.liveness,
            seed: access.seeds.as_ref().map(|seeds| seeds.rooms.get(room).cloned().unwrap_or_default()),
            gateways: access.seeds.as_ref().map(|seeds| seeds.gateways.clone()),
            peers: self.settings.limits.peers,
        }
    }

    fn new_cell(&self, room: &RoomName, access: &Access) -> Arc<Cell> {
        let room = Room::new(room.clone(), self.policy(room, access), self.epoch.clone());
        let state = CellState {
            room,
            outboxes: HashMap::new(),
            outputs: Outputs::default(),
            groups: Vec::new(),
            retired: false,
        };
        Arc::new(Cell { state: Mutex::new(state) })
    }

    /// Whether a client may enter.
    pub fn admit(&self, peer: &PeerName, room: &RoomName, bearer: Option<&str>) -> Result<(), Refusal> {
        let access = self.access();
        if let Some(key) = &access.token_key
            && !bearer.is_some_and(|bearer| key.token(peer, room).matches(bearer))
        {
            return Err(Refusal::Unauthorized);
        }
        let Some(seeds) = &access.seeds else { return Ok(()) };
        let Some(seed) = seeds.rooms.get(room) else {
            return Err(Refusal::Unknown(format!("the topology has no room `{room}`")));
        };
        if !seed.peers.contains(peer) {
            return Err(Refusal::Unknown(format!("the topology has no peer `{peer}` in room `{room}`")));
        }
        Ok(())
    }

    /// Enters a room. The session ends when it is dropped.
    pub fn enter(
        self: &Arc<Self>,
        peer: &PeerName,
        room: &RoomName,
        dialect: Dialect,
    ) -> Result<Session, Refusal> {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::new(self.settings.limits.outbox));
        loop {
            let cell = self.room_to_enter(room)?;
            let entered = self.with(&cell, |state| {
                if state.retired {
                    return None;
                }
                let CellState { room, outputs, outboxes, groups, .. } = state;
                let entered = room.connect(connection, peer, dialect, self.now(), outputs);
                Some(entered.map(|()| {
                    if let Some(close) = self.closed.get() {
                        outbox.finish(Some(close.clone()));
                    }
                    outboxes.insert(connection, outbox.clone());
                    let wanted = self.processors.min(1 + outboxes.len() / TOGETHER);
                    while groups.len() < wanted {
                        groups.push(Group::new(TURN));
                    }
                    groups[connection.0 as usize % wanted].clone()
                }))
            });
            match entered {
                None => {} // it went as we came
                Some(Err(fault)) => {
                    self.retire_if_idle(&cell);
                    return Err(match fault.code {
                        ErrorCode::UnknownPeer => Refusal::Unknown(fault.message),
                        _ => Refusal::Full(fault.message),
                    });
                }
                Some(Ok(group)) => {
                    self.metrics.accepted.inc();
                    self.metrics.connections.inc();
                    return Ok(Session { hub: self.clone(), cell, connection, outbox, group });
                }
            }
        }
    }

    fn room_to_enter(&self, room: &RoomName) -> Result<Arc<Cell>, Refusal> {
        if let Some(cell) = self.cell(room) {
            return Ok(cell);
        }
        let access = self.access();
        if access.seeds.is_some() {
            return Err(Refusal::Unknown(format!("the topology has no room `{room}`")));
        }
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = rooms.get(room) {
            return Ok(cell.clone());
        }
        if rooms.len() >= self.settings.limits.rooms {
            return Err(Refusal::Full(format!("this server takes {} rooms, no more", rooms.len())));
        }
        let cell = self.new_cell(room, &access);
        rooms.insert(room.clone(), cell.clone());
        Ok(cell)
    }

    fn retire_if_idle(&self, cell: &Arc<Cell>) {
        if !lock(cell).room.is_idle() {
            return;
        }
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock(cell);
        if state.room.is_idle() && !state.retired {
            state.retired = true;
            rooms.remove(state.room.name());
        }
    }

    /// Takes over other rooms, links, gateways and tokens.
    pub fn reload(&self, settings: &Settings) {
        let access = Access { token_key: settings.token_key.clone(), seeds: settings.seeds.clone() };
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access.clone();
        let Some(seeds) = &access.seeds else { return };
        let mut closed = Vec::new();
        {
            let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
            rooms.retain(|name, cell| {
                let stays = seeds.rooms.contains_key(name);
                if !stays {
                    lock(cell).retired = true;
                    closed.push(cell.clone());
                }
                stays
            });
            for name in seeds.rooms.keys() {
                rooms.entry(name.clone()).or_insert_with(|| self.new_cell(name, &access));
            }
        }
        for cell in closed {
            self.with(&cell, |state| state.room.close(&mut state.outputs));
        }
        for cell in self.cells() {
            self.with(&cell, |state| {
                let policy = self.policy(state.room.name(), &access);
                state.room.reseed(policy, &mut state.outputs);
            });
        }
    }

    /// The clock, about twice a second.
    pub fn tick(&self) {
        let now = self.now();
        for cell in self.cells() {
            self.with(&cell, |state| state.room.tick(now, &mut state.outputs));
        }
    }

    /// Works on what [`Room::mend`] left for later; never ends. One call at a time.
    pub async fn keep_mending(&self) {
        loop {
            self.mending.notified().await;
            tokio::time::sleep(MEND_EVERY).await;
            for cell in self.cells() {
                if lock(&cell).room.is_mending() {
                    self.with(&cell, |_| ()); // which mends, and calls again if there is more
                }
            }
        }
    }

    /// Closes every connection after what is queued for it.
    pub fn close_all(&self, code: u16, reason: &str) {
        let _ = self.closed.set(Frame::close(code, reason)); // before the rooms: who enters now finds one or the other
        for cell in self.cells() {
            for outbox in lock(&cell).outboxes.values() {
                outbox.finish(Some(Frame::close(code, reason)));
            }
        }
    }

    /// Whether there is an operator, that is, tokens.
    pub fn has_operator(&self) -> bool {
        self.access().token_key.is_some()
    }

    /// Whether this is the operator's token.
    pub fn is_operator(&self, bearer: &str) -> bool {
        self.access().token_key.is_some_and(|key| key.operator_token().matches(bearer))
    }

    /// Ends a route; false if there is none of that id.
    pub fn retire_route(&self, route: &RouteId) -> bool {
        self.cells().iter().any(|cell| self.with(cell, |state| state.room.retire(route, &mut state.outputs)))
    }
}

fn lock(cell: &Cell) -> MutexGuard<'_, CellState> {
    cell.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use hopcast_protocol::{
        SignallingConfig,
        config::{CONFIG_VERSION, RoomConfig},
        limits::DEAD_AFTER,
    };

    use super::*;
    use crate::connection::Handler as _;

    #[tokio::test]
    async fn a_room_that_is_at_work_holds_up_no_other() {
        let hub = Arc::new(Hub::new(&Settings::open("127.0.0.1:0".parse().unwrap())).unwrap());
        let (rock, soul) = (RoomName::new("rock").unwrap(), RoomName::new("soul").unwrap());
        let peer = PeerName::new("a").unwrap();
        let at_work = hub.enter(&peer, &rock, Dialect::Original).unwrap();
        let held = lock(&at_work.cell);
        let (done, finished) = mpsc::channel();
        let other = hub.clone();
        std::thread::spawn(move || {
            // In and out of another room under the same name, asking in between.
            let mut session = other.enter(&peer, &soul, Dialect::Original).unwrap();
            session.message(br#"{"type":"request_path","target":"a"}"#, true);
            drop(session);
            let _ = done.send(other.cell(&soul).is_none());
        });
        assert_eq!(
            finished.recv_timeout(Duration::from_secs(20)),
            Ok(true),
            "the other room waited, or is kept"
        );
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stood_still_cuts_nobody_for_it() {
        let hub = Arc::new(Hub::new(&Settings::open("127.0.0.1:0".parse().unwrap())).unwrap());
        let (rock, peer) = (RoomName::new("rock").unwrap(), PeerName::new("a").unwrap());
        let session = hub.enter(&peer, &rock, Dialect::Hopcast).unwrap();
        hub.tick();
        tokio::time::advance(DEAD_AFTER * 3).await;
        hub.tick();
        assert!(!session.outbox.is_aborted(), "it was not even pinged");
        let alive = (1..).take_while(|_| !session.outbox.is_aborted());
        let mut ticks = 0;
        for _ in alive {
            tokio::time::advance(Duration::from_millis(500)).await;
            hub.tick();
            ticks += 1;
        }
        assert_eq!(ticks, DEAD_AFTER.as_millis() / 500, "and what does stay silent goes");
    }

    #[tokio::test]
    async fn who_enters_a_server_that_goes_away_is_sent_away() {
        let hub = Arc::new(Hub::new(&Settings::open("127.0.0.1:0".parse().unwrap())).unwrap());
        let rock = RoomName::new("rock").unwrap();
        let enter = |name: &str| hub.enter(&PeerName::new(name).unwrap(), &rock, Dialect::Original).unwrap();
        let before = enter("a");
        assert!(!before.outbox.is_ending());
        hub.close_all(1001, "the server is going away");
        assert!(before.outbox.is_ending() && enter("b").outbox.is_ending());
    }

    #[test]
    fn who_was_admitted_before_the_file_changed_does_not_enter_after_it() {
        let settings = |names: &[&str]| {
            let peers: Vec<PeerName> = names.iter().map(|name| name.parse().unwrap()).collect();
            let rooms = vec![RoomConfig { name: "rock".parse().unwrap(), peers, links: vec![] }];
            Settings::from_config(SignallingConfig {
                version: CONFIG_VERSION,
                mesh: "test".parse().unwrap(),
                listen: ([127, 0, 0, 1], 0).into(),
                token_key: None,
                rooms,
                gateways: vec![],
                door: None,
            })
            .unwrap()
        };
        let hub = Arc::new(Hub::new(&settings(&["a", "b"])).unwrap());
        let (rock, [a, b]) = ("rock".parse().unwrap(), ["a", "b"].map(|name| name.parse().unwrap()));
        assert_eq!([hub.admit(&a, &rock, None), hub.admit(&b, &rock, None)], [Ok(()), Ok(())]);
        hub.reload(&settings(&["b"]));
        assert!(matches!(hub.enter(&a, &rock, Dialect::Hopcast), Err(Refusal::Unknown(_))));
        assert!(hub.enter(&b, &rock, Dialect::Hopcast).is_ok());
    }
}

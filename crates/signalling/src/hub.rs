//! All rooms of the server, and who may enter them.
//!
//! Each room has its own lock, held only while one input is worked on and its frames are queued: never across an await,
//! and queueing never waits. Rooms therefore run on several cores, and a slow reader costs its own connection only.
//! Lock order: the table of rooms, then one room; no two rooms at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hopcast_protocol::{PeerName, RoomName, RouteId, keys::TokenKey};
use tokio::time::Instant;

use crate::{
    config::{Limits, Seeds, Settings},
    connection::Handler,
    core::{
        ConnectionId, Cut, Dialect, Epoch, Fault, GraphView, Output, Outputs, Policy, Room, RoomView, Way,
    },
    events::Events,
    frame::Frame,
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

#[derive(Debug)]
struct Cell {
    state: Mutex<CellState>,
}

#[derive(Debug)]
struct CellState {
    room: Room,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    outputs: Outputs,
    /// Taken out of the table: whoever still has it must look again.
    retired: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    access: RwLock<Access>,
    settings: Settings,
    rooms: RwLock<HashMap<RoomName, Arc<Cell>>>,
    epoch: Arc<Epoch>,
    next_connection: AtomicU64,
    started: Instant,
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
            started: Instant::now(),
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
        self.started.elapsed()
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
        let state = CellState { room, outboxes: HashMap::new(), outputs: Outputs::default(), retired: false };
        Arc::new(Cell { state: Mutex::new(state) })
    }

    /// Works on one room, then delivers what it put out.
    fn with<T>(&self, cell: &Cell, work: impl FnOnce(&mut CellState) -> T) -> T {
        let mut state = lock(cell);
        state.outputs.watched = self.events.watched();
        let result = work(&mut state);
        self.deliver(&mut state);
        result
    }

    fn deliver(&self, state: &mut CellState) {
        let CellState { room, outboxes, outputs, .. } = state;
        loop {
            let mut slow = Vec::new();
            for output in outputs.frames.drain(..) {
                match output {
                    Output::Send { to, frame } => {
                        self.metrics.frames.inc();
                        if outboxes.get(&to).is_some_and(|outbox| outbox.push(frame).is_err()) {
                            slow.push(to);
                        }
                    }
                    Output::Close { to, code, reason } => {
                        self.metrics.closed(code);
                        if let Some(outbox) = outboxes.remove(&to) {
                            outbox.finish(Some(Frame::close(code, reason)));
                        }
                    }
                    Output::Cut { to, why } => {
                        self.metrics.cut(why);
                        if let Some(outbox) = outboxes.remove(&to) {
                            outbox.abort();
                        }
                    }
                }
            }
            for connection in slow {
                // Once only: a second full queue of the same connection finds it gone.
                if let Some(outbox) = outboxes.remove(&connection) {
                    self.metrics.cut(Cut::Slow);
                    outbox.abort();
                    room.disconnect(connection, outputs);
                }
            }
            if outputs.frames.is_empty() {
                break;
            }
        }
        for tally in outputs.tally.drain(..) {
            self.metrics.tally(tally);
        }
        for event in outputs.events.drain(..) {
            self.events.publish(&event);
        }
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
                let CellState { room, outputs, outboxes, .. } = state;
                let entered = room.connect(connection, peer, dialect, self.now(), outputs);
                if entered.is_ok() {
                    outboxes.insert(connection, outbox.clone());
                }
                Some(entered)
            });
            match entered {
                None => {} // it went as we came
                Some(Err(fault)) => {
                    self.retire_if_idle(&cell);
                    return Err(Refusal::Full(fault.message));
                }
                Some(Ok(())) => {
                    self.metrics.accepted.inc();
                    self.metrics.connections.inc();
                    return Ok(Session { hub: self.clone(), cell, connection, outbox });
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

    /// Closes every connection after what is queued for it.
    pub fn close_all(&self, code: u16, reason: &str) {
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

    /// For `/api/rooms`.
    pub fn rooms(&self) -> Vec<RoomView> {
        self.cells().iter().map(|cell| lock(cell).room.view()).collect()
    }

    /// For `/api/graph`; of one room, or of all.
    pub fn graphs(&self, room: Option<&RoomName>) -> Option<Vec<GraphView>> {
        let cells = match room {
            Some(room) => vec![self.cell(room)?],
            None => self.cells(),
        };
        Some(cells.iter().map(|cell| lock(cell).room.graph_view()).collect())
    }

    /// For `/api/path`; `None`: there is no such room.
    pub fn way(&self, room: &RoomName, from: &PeerName, to: &PeerName) -> Option<Result<Way, Fault>> {
        self.cell(room).map(|cell| lock(&cell).room.way(from, to))
    }

    /// For `/metrics`.
    pub fn metrics_text(&self) -> String {
        let cells = self.cells();
        self.metrics.rooms.set(cells.len() as i64);
        self.metrics.routes.set(cells.iter().map(|cell| lock(cell).room.routes() as i64).sum());
        self.metrics.text()
    }
}

fn lock(cell: &Cell) -> MutexGuard<'_, CellState> {
    cell.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client in one room. Dropping it leaves the room.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
    cell: Arc<Cell>,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
}

impl Session {
    /// What waits for the client.
    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }
}

impl Handler for Session {
    fn alive(&mut self) {
        let now = self.hub.now();
        lock(&self.cell).room.alive(self.connection, now);
    }

    fn message(&mut self, payload: &[u8], _text: bool) {
        let now = self.hub.now();
        self.hub.with(&self.cell, |state| {
            state.room.alive(self.connection, now);
            state.room.message(self.connection, payload, &mut state.outputs);
        });
    }

    fn too_large(&mut self) {
        let bound = self.hub.settings.limits.connection.message;
        self.hub.with(&self.cell, |state| state.room.too_large(self.connection, bound, &mut state.outputs));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.metrics.connections.dec();
        self.hub.with(&self.cell, |state| {
            state.outboxes.remove(&self.connection);
            state.room.disconnect(self.connection, &mut state.outputs);
        });
        self.hub.retire_if_idle(&self.cell);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

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
}

//! What the parts of a peer share. One thread, so `Rc` and `RefCell`; no borrow lives across an await.
//!
//! Tasks: one for each room (`signal::socket`), one for each accepted connection (`server`), one for each neighbour's
//! connection (`upstream`), one for each fetch (`flight`), one for each link that is down (`health`), and one that
//! tidies up when the peer goes idle (here).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use hopcast_protocol::{
    PeerConfig, PeerName, RoomName, Sha256,
    limits::{TRANSFERS, USE_EVERY},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until},
};

use crate::{
    cache::{Cache, Space},
    flight::Flights,
    gateway::Gateway,
    link::Link,
    manifests::Manifests,
    metrics::{Metrics, count},
    random::Random,
    routes::Routes,
    signal::Room,
    trace::LastHops,
};

/// Responses to players under way at a time; more wait their turn.
const PLAYERS: usize = 16;
/// How long after the last transfer memory is given back.
const IDLE: Duration = Duration::from_secs(1);

/// Why a peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Stopped,
    /// A newer connection has its name.
    Replaced,
}

/// A running peer's state.
pub struct Node {
    config: RefCell<Rc<PeerConfig>>,
    links: RefCell<Rc<[Rc<Link>]>>,
    rooms: RefCell<Rc<[Rc<Room>]>>,
    gateway: RefCell<Option<Rc<Gateway>>>,
    /// Routes that were broadcast to this peer.
    pub routes: RefCell<Routes>,
    /// Wakes whoever waits for a route to come or to go.
    pub route_news: Notify,
    /// How many relay requests wait for a broadcast.
    pub route_waiters: Cell<usize>,
    /// Blobs.
    pub cache: RefCell<Cache>,
    /// Wakes whoever waits for room in the cache: readers have left, or a `drop` has.
    pub released: Notify,
    /// Fetches under way.
    pub flights: Flights,
    /// Manifests.
    pub manifests: Manifests,
    /// The way of the last segment, for the page.
    pub last: RefCell<LastHops>,
    /// Places for transfers to neighbours.
    pub transfers: Arc<Semaphore>,
    /// Places for responses to players.
    pub players: Arc<Semaphore>,
    /// Accepted connections.
    pub connections: Cell<usize>,
    /// What is counted.
    pub metrics: Metrics,
    /// Random numbers.
    pub random: Random,
    // The rooms of the songs that the kept blobs belong to.
    held: RefCell<HashMap<Sha256, Rc<[RoomName]>>>,
    activity: Notify,
    sweeping: Cell<bool>,
    exit: watch::Sender<Option<Exit>>,
    me: Weak<Self>,
}

impl Node {
    /// A node that does nothing yet; see `Peer::start`.
    pub(crate) fn new(config: PeerConfig, gateway: Option<Rc<Gateway>>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            cache: RefCell::new(Cache::new(config.limits.cache)),
            config: RefCell::new(Rc::new(config)),
            links: RefCell::new(Rc::new([])),
            rooms: RefCell::new(Rc::new([])),
            gateway: RefCell::new(gateway),
            routes: RefCell::default(),
            route_news: Notify::new(),
            route_waiters: Cell::new(0),
            released: Notify::new(),
            flights: Flights::default(),
            manifests: Manifests::default(),
            last: RefCell::default(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            players: Arc::new(Semaphore::new(PLAYERS)),
            connections: Cell::new(0),
            metrics: Metrics::default(),
            random: Random::seeded(),
            held: RefCell::default(),
            activity: Notify::new(),
            sweeping: Cell::new(false),
            exit: watch::Sender::new(None),
            me: me.clone(),
        })
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Rc<PeerConfig> {
        self.config.borrow().clone()
    }

    pub(crate) fn set_config(&self, config: Rc<PeerConfig>) {
        *self.config.borrow_mut() = config;
    }

    /// This peer's links.
    pub fn links(&self) -> Rc<[Rc<Link>]> {
        self.links.borrow().clone()
    }

    pub(crate) fn set_links(&self, links: Rc<[Rc<Link>]>) {
        *self.links.borrow_mut() = links;
    }

    /// The link to a neighbour.
    pub fn link(&self, name: &PeerName) -> Option<Rc<Link>> {
        self.links.borrow().iter().find(|link| link.name == *name).cloned()
    }

    /// This peer's rooms, in the file's order.
    pub fn rooms(&self) -> Rc<[Rc<Room>]> {
        self.rooms.borrow().clone()
    }

    pub(crate) fn set_rooms(&self, rooms: Rc<[Rc<Room>]>) {
        *self.rooms.borrow_mut() = rooms;
    }

    /// The databases, if this peer is a gateway.
    pub fn gateway(&self) -> Option<Rc<Gateway>> {
        self.gateway.borrow().clone()
    }

    pub(crate) fn set_gateway(&self, gateway: Option<Rc<Gateway>>) {
        *self.gateway.borrow_mut() = gateway;
    }

    /// Itself, for a task.
    pub fn rc(&self) -> Rc<Self> {
        self.me.upgrade().expect("`self` is borrowed from the Rc that it is made in")
    }

    /// Starts a task of this peer.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    /// Ends the peer.
    pub fn exit(&self, why: Exit) {
        self.exit.send_if_modified(|exit| exit.is_none() && exit.replace(why).is_none());
    }

    /// Waits for [`Node::exit`].
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        let exit = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        exit.ok().flatten().unwrap_or(Exit::Stopped)
    }

    /// The room's server is there and will be told everything.
    pub(crate) fn signal_connected(&self, room: &Room) {
        count(&self.metrics.signal_connects);
        tracing::info!(room = %room.name, "signalling connected");
        crate::memory::forget_code(); // what starting and connecting needed
    }

    /// How many transfers to neighbours are under way.
    pub fn transfers_active(&self) -> usize {
        TRANSFERS.saturating_sub(self.transfers.available_permits())
    }

    /// Waits until nothing is under way any more and all rooms have said good-bye.
    pub(crate) async fn drained(&self) {
        let _all = self.transfers.acquire_many(TRANSFERS as u32).await;
        let _all = self.players.acquire_many(PLAYERS as u32).await;
        loop {
            let released = self.released.notified();
            if !self.rooms().iter().any(|room| room.is_connected()) {
                return;
            }
            released.await;
        }
    }

    /// Keeps a blob and tells the rooms that may hear it.
    pub fn keep(&self, sha256: Sha256, bytes: &bytes::Bytes, rooms: &[RoomName]) {
        if !self.cache.borrow_mut().insert(sha256, bytes.clone()) {
            return;
        }
        self.held.borrow_mut().insert(sha256, rooms.into());
        // A gateway has said once that it can get anything.
        if self.gateway.borrow().is_none() {
            for room in self.rooms().iter().filter(|room| rooms.contains(&room.name)) {
                room.tell(|outbox| outbox.hold(sha256));
            }
        }
        self.active();
    }

    /// A kept blob belongs to a song of these rooms: a gateway keeps what it reads before it knows that.
    pub(crate) fn belongs(&self, sha256: Sha256, rooms: &[RoomName]) {
        if self.cache.borrow().contains(&sha256) {
            self.held.borrow_mut().insert(sha256, rooms.into());
        }
    }

    /// The blobs that were kept for a room.
    pub(crate) fn held_in(&self, room: &RoomName) -> Vec<Sha256> {
        let held = self.held.borrow();
        held.iter().filter(|(_, rooms)| rooms.contains(room)).map(|(sha256, _)| *sha256).collect()
    }

    /// Makes room for `len` bytes, as far as that is possible now. What leaves is first said to be dropped.
    pub fn make_room(&self, len: u64) -> Space {
        let (now, rooms) = (Instant::now(), self.rooms());
        let Some(victims) = self.cache.borrow().victims(len) else { return Space::Full };
        let mut space = Space::Free;
        for sha256 in victims {
            if self.held.borrow_mut().remove(&sha256).is_some() {
                rooms.iter().for_each(|room| room.tell(|outbox| outbox.drop_held(&sha256)));
            }
            let announced = rooms.iter().any(|room| room.is_told(&sha256));
            match self.cache.borrow_mut().leave(&sha256, announced, now) {
                Some(until) => space = Space::Goodbye(until),
                None => count(&self.metrics.evictions),
            }
        }
        space
    }

    /// Something was transferred: when it stays quiet now, memory goes back.
    pub fn active(&self) {
        self.activity.notify_one();
    }

    /// A route came: forget it when it has not been used for long enough, and tell the server while it is.
    pub(crate) fn routes_used(&self) {
        if self.sweeping.replace(true) {
            return;
        }
        let node = self.rc();
        self.spawn(async move {
            let mut next_use = Instant::now() + USE_EVERY;
            loop {
                let now = Instant::now();
                if now >= next_use {
                    next_use = now + USE_EVERY;
                    let used = node.routes.borrow_mut().take_used(now);
                    for (name, route) in used {
                        if let Some(room) = node.rooms().iter().find(|room| room.name == name) {
                            room.tell(|outbox| outbox.used(route));
                        }
                    }
                }
                let due = node.routes.borrow_mut().sweep(now);
                let Some(wait) = due else { break };
                sleep_until((now + wait + Duration::from_secs(1)).min(next_use)).await;
            }
            node.sweeping.set(false);
        });
    }

    /// The task that gives memory back after each burst of work.
    pub(crate) async fn tidy(self: Rc<Self>) {
        loop {
            self.activity.notified().await;
            while tokio::time::timeout(IDLE, self.activity.notified()).await.is_ok() {}
            crate::memory::trim();
            count(&self.metrics.trims);
        }
    }
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::{ClientMessage, RoomMembership, RouteId};

    use tokio::time::sleep;

    use super::*;
    use crate::{routes::Route, testing};

    #[test]
    fn the_server_hears_of_routes_in_use_and_unused_ones_are_forgotten() {
        testing::paused(async {
            let node = testing::node(vec![]);
            let name = |name: &str| PeerName::new(name).unwrap();
            let membership = RoomMembership { name: RoomName::new("rock").unwrap(), token: None };
            let room = Room::new(&name("peer-1"), membership, vec![], false);
            node.set_rooms(Rc::new([room.clone()]));
            for id in ["e-1", "e-2"] {
                let route = Route {
                    id: RouteId::new(id).unwrap(),
                    room: room.name.clone(),
                    prev: None,
                    next: Some(name("peer-2")),
                    hops: 1,
                    path: Rc::new([name("peer-1"), name("peer-2")]),
                };
                node.routes.borrow_mut().insert(route, Instant::now());
            }
            node.routes_used();
            let said = || {
                let mut said = vec![];
                room.tell(|outbox| said.extend(std::iter::from_fn(|| outbox.next_message())));
                said.retain(|message| matches!(message, ClientMessage::Use { .. }));
                said
            };
            sleep(Duration::from_secs(1)).await;
            assert!(said().is_empty(), "the server has just broadcast them");
            let transfer = node.routes.borrow_mut().get("e-1", Instant::now());
            for _ in 0..4 {
                sleep(USE_EVERY).await;
                assert_eq!(said(), [ClientMessage::Use { routes: vec![RouteId::new("e-1").unwrap()] }]);
            }
            assert_eq!(node.routes.borrow().len(), 1);
            drop(transfer);
            sleep(USE_EVERY * 4).await;
            assert!(node.routes.borrow().is_empty() && !node.sweeping.get());
        });
    }
}

//! One fetch for all who want the same content, and its life: it belongs to no listener, and ends 5 s after the last
//! one left.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use hopcast_protocol::{ContentId, PeerName, RouteId};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    fetch::{self, Wish},
    headers::Trail,
    node::Node,
};

/// Fetches that run at a time; more wait their turn.
const RUNNING: usize = 8;
/// Fetches at a time, those included that wait and those that nobody listens to any more: more than players may have
/// connections, so only asking and leaving at once, again and again, reaches it.
const MOST: usize = 128;
/// How long a fetch goes on when nobody listens any more.
const GRACE: Duration = Duration::from_secs(5);

/// What was fetched, verified.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// How they came here, this peer included.
    pub(crate) trail: Rc<Trail>,
    /// The route that they came over; `None` out of a gateway's own database.
    pub(crate) route: Option<RouteId>,
}

/// Why there is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No gateway knows it.
    NotFound,
    /// Not now: the error's name in `Proxy-Status`, and the neighbour it is about.
    Unavailable {
        /// RFC 9209 2.3.
        error: String,
        /// The neighbour.
        next: Option<PeerName>,
    },
}

impl Failure {
    /// Not now.
    pub fn unavailable(error: &str, next: Option<&PeerName>) -> Self {
        Self::Unavailable { error: error.to_owned(), next: next.cloned() }
    }
}

/// The last thing that went wrong with a fetch that still runs.
pub(crate) type LastFailure = Rc<RefCell<Failure>>;

struct Flight {
    result: Shared<LocalBoxFuture<'static, Result<Fetched, Failure>>>,
    listeners: Cell<usize>,
    left: Notify,
    failure: LastFailure,
}

/// All fetches under way.
pub struct Flights {
    by_content: RefCell<HashMap<ContentId, Rc<Flight>>>,
    /// Places of fetches that run.
    pub places: Semaphore,
}

impl Default for Flights {
    fn default() -> Self {
        Self { by_content: RefCell::default(), places: Semaphore::new(RUNNING) }
    }
}

impl Flights {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_content.borrow().len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a fetch, which is started unless it runs already. The flag says whether somebody else had started it.
    pub(crate) async fn join(
        &self,
        node: &Rc<Node>,
        wish: Wish,
        deadline: Instant,
    ) -> Result<(Fetched, bool), Failure> {
        let known = self.by_content.borrow().get(&wish.content).cloned();
        let collapsed = known.is_some();
        if !collapsed && self.len() >= MOST {
            return Err(Failure::unavailable("connection_limit_reached", None));
        }
        let flight = known.unwrap_or_else(|| self.start(node, wish));
        let _listener = Listener::new(&flight);
        match timeout_at(deadline, flight.result.clone()).await {
            Ok(result) => result.map(|fetched| (fetched, collapsed)),
            Err(_) => Err(flight.failure.borrow().clone()),
        }
    }

    fn start(&self, node: &Rc<Node>, wish: Wish) -> Rc<Flight> {
        let content = wish.content.clone();
        let failure: LastFailure = Rc::new(RefCell::new(Failure::unavailable("http_response_timeout", None)));
        let flight = Rc::new(Flight {
            result: fetch::run(node.clone(), wish, failure.clone()).boxed_local().shared(),
            listeners: Cell::new(0),
            left: Notify::new(),
            failure,
        });
        self.by_content.borrow_mut().insert(content.clone(), flight.clone());
        let (node, keeper) = (node.clone(), flight.clone());
        node.clone().spawn(async move {
            tokio::select! {
                _ = keeper.result.clone() => {}
                () = abandoned(&keeper) => {}
            }
            node.flights.by_content.borrow_mut().remove(&content);
            node.active();
        });
        flight
    }
}

/// Waits until nobody has listened for [`GRACE`].
async fn abandoned(flight: &Flight) {
    loop {
        flight.left.notified().await;
        // Each one that comes and leaves in the meantime begins the time anew.
        while flight.listeners.get() == 0 {
            let quiet = timeout(GRACE, flight.left.notified()).await.is_err();
            if quiet && flight.listeners.get() == 0 {
                return;
            }
        }
    }
}

struct Listener<'a>(&'a Flight);

impl<'a> Listener<'a> {
    fn new(flight: &'a Flight) -> Self {
        flight.listeners.set(flight.listeners.get() + 1);
        Self(flight)
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.listeners.set(self.0.listeners.get() - 1);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::Sha256;
    use tokio::time::sleep;

    use super::*;
    use crate::testing;

    fn wish(sha256: Sha256) -> Wish {
        let song = hopcast_protocol::SongName::new("demo").unwrap();
        Wish { content: ContentId::Blob(sha256), song, length: Some(10), rooms: vec![] }
    }

    #[test]
    fn a_fetch_ends_five_seconds_after_its_last_listener_left() {
        testing::paused(async {
            let node = testing::node(vec![]);
            let wish = || wish(Sha256([1; 32]));
            let soon = || Instant::now() + Duration::from_secs(1);
            let (first, second) = tokio::join!(
                node.flights.join(&node, wish(), soon()),
                node.flights.join(&node, wish(), soon() + Duration::from_secs(1)),
            );
            let reason = Failure::unavailable("destination_unavailable", None);
            assert_eq!((first.unwrap_err(), second.unwrap_err()), (reason.clone(), reason));
            assert_eq!(node.flights.len(), 1);
            sleep(Duration::from_millis(4990)).await;
            assert_eq!(node.flights.len(), 1, "a listener may come back");
            assert!(
                node.flights.join(&node, wish(), Instant::now() + Duration::from_millis(1)).await.is_err()
            );
            sleep(Duration::from_millis(4990)).await;
            assert_eq!(node.flights.len(), 1, "it did, so the time begins anew");
            sleep(Duration::from_millis(20)).await;
            assert!(node.flights.is_empty());
            assert_eq!(node.cache.borrow().bytes(), 0, "nothing stays set aside");
        });
    }

    #[test]
    fn fetches_that_were_left_do_not_pile_up() {
        testing::paused(async {
            let node = testing::node(vec![]);
            let join = |number: usize| {
                let mut sha256 = [0; 32];
                sha256[..8].copy_from_slice(&number.to_be_bytes());
                let wish = wish(Sha256(sha256));
                let deadline = Instant::now() + Duration::from_millis(1);
                let node = node.clone();
                async move { node.flights.join(&node, wish, deadline).await.unwrap_err() }
            };
            for number in 0..MOST {
                join(number).await;
            }
            let refused = Failure::unavailable("connection_limit_reached", None);
            assert_eq!(join(MOST).await, refused);
            assert_eq!(node.flights.len(), MOST);
            assert_ne!(join(0).await, refused, "one that is under way already can be joined");
            sleep(GRACE + Duration::from_secs(1)).await;
            assert!(node.flights.is_empty());
            assert_ne!(join(MOST).await, refused);
        });
    }
}

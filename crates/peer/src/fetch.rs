//! Fetching one content over the mesh: find a way, ask along it, believe nothing but the hash, try another way.
//!
//! A fetch only ends with the content, or with the certainty that it does not exist; its listeners have the patience.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use hopcast_protocol::{ContentId, PeerName, RoomName, RouteId, SongName};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    backoff::Backoff,
    cache::Space,
    flight::{Failure, Fetched, LastFailure},
    headers::{Trail, missed},
    metrics::count,
    node::Node,
    routes::Route,
    search::{Ask, Nobody, Search},
    transfer::{self, Fault, Part},
    way::{self, NoWay},
};

/// What to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The content.
    pub(crate) content: ContentId,
    /// The song that it belongs to.
    pub(crate) song: SongName,
    /// Its length, where the manifest says it.
    pub(crate) length: Option<u32>,
    /// The rooms that may be asked.
    pub(crate) rooms: Vec<RoomName>,
}

/// An attempt that was not the last.
struct Again {
    /// In `Proxy-Status`.
    error: String,
    /// The neighbour it is about.
    next: Option<PeerName>,
    /// False where another holder can be asked at once.
    wait: bool,
}

impl Again {
    fn later() -> Self {
        Self { error: "destination_unavailable".to_owned(), next: None, wait: true }
    }
}

/// Fetches until it has the content.
pub(crate) async fn run(node: Rc<Node>, wish: Wish, failure: LastFailure) -> Result<Fetched, Failure> {
    let mut fetch = Fetch {
        node: &node,
        wish: &wish,
        failure: &failure,
        began: Instant::now(),
        search: Search::default(),
        part: Part::default(),
        begun_by: None,
        mixed: false,
        careful: false,
        room: None,
        route: None,
    };
    let mut backoff = Backoff::new(Duration::from_millis(30), Duration::from_secs(1));
    loop {
        if let Some(fetched) = fetch.read_database().await {
            return Ok(fetched);
        }
        let Again { error, next, wait } = match fetch.over_the_mesh().await? {
            Ok(fetched) => return Ok(fetched),
            Err(again) => again,
        };
        tracing::debug!(content = %wish.content, error, "trying again");
        *failure.borrow_mut() = Failure::Unavailable { error, next };
        count(&node.metrics.retries);
        if wait {
            let _ = timeout(backoff.next(node.random.unit()), fetch.succeeded()).await;
        }
    }
}

struct Fetch<'a> {
    node: &'a Rc<Node>,
    wish: &'a Wish,
    failure: &'a LastFailure,
    began: Instant,
    search: Search,
    part: Part,
    /// Whose bytes `part` begins with.
    begun_by: Option<PeerName>,
    /// True where others went on with it.
    mixed: bool,
    /// Set once such a whole was wrong: from then on nobody goes on with what another began.
    careful: bool,
    room: Option<Reserved>,
    /// The last one that was tried.
    route: Option<RouteId>,
}

impl Fetch<'_> {
    /// A gateway serves itself, without a route.
    async fn read_database(&mut self) -> Option<Fetched> {
        let (node, content) = (self.node, &self.wish.content);
        match node.gateway()?.read(node, content).await {
            Ok(Some(bytes)) => {
                match content {
                    ContentId::Manifest(_) => drop(node.manifests.accept(node, content, &bytes)?),
                    ContentId::Blob(sha256) => node.belongs(*sha256, &self.wish.rooms),
                }
                Some(self.fetched(bytes, Trail::default(), None))
            }
            Ok(None) => {
                self.search.missing_here();
                None
            }
            Err(_) => None,
        }
    }

    async fn over_the_mesh(&mut self) -> Result<Result<Fetched, Again>, Failure> {
        let asked = self.search.ask();
        let found = match self.successor(&asked) {
            Some(route) => Ok(route),
            None => way::find(self.node, self.wish, &asked).await,
        };
        let route = match found {
            Ok(route) => route,
            Err(NoWay::Nobody) => {
                return match (self.search.nobody(), &self.wish.content) {
                    (Nobody::Denied, ContentId::Manifest(_)) => Err(Failure::NotFound),
                    (Nobody::AskAgain, _) => Ok(Err(Again { wait: false, ..Again::later() })),
                    // A segment is in a signed manifest, so it exists, whatever the gateways say now.
                    (Nobody::Denied | Nobody::Later, _) => Ok(Err(Again::later())),
                };
            }
            Err(NoWay::Unasked) => return Ok(Err(Again::later())),
        };
        let Some(holder) = route.holder().or(route.next.as_ref()).cloned() else {
            return Ok(Err(Again::later()));
        };
        self.route = Some(route.id.clone());
        self.make_room().await;
        self.continue_from(&holder);
        let outcome = {
            let _place = self.node.flights.places.acquire().await.expect("it is never closed");
            transfer::run(self.node, &route, self.wish, &mut self.part).await
        };
        let (error, wait) = match outcome {
            Ok(trail) => {
                if let Some(bytes) = self.accept() {
                    count(&self.node.metrics.fetches);
                    return Ok(Ok(self.fetched(bytes, trail, Some(route.id.clone()))));
                }
                count(&self.node.metrics.corrupt);
                tracing::warn!(content = %self.wish.content, %holder, via = trail.via, "wrong bytes");
                // Which of several it was, nobody can tell from here: the next whole is of one holder.
                if self.mixed {
                    self.careful = true;
                } else {
                    self.search.lied(&route.path);
                }
                ("http_response_incomplete".to_owned(), false)
            }
            Err(Fault::NotHeld) => {
                self.search.not_held(&holder);
                if self.search.denied() && matches!(self.wish.content, ContentId::Manifest(_)) {
                    return Err(Failure::NotFound);
                }
                ("destination_not_found".to_owned(), false)
            }
            Err(Fault::Unable(error)) => {
                self.search.unable(&holder);
                (error, false)
            }
            Err(Fault::Way { error, by }) => {
                self.search.failed(&holder, by.as_ref());
                (error, true)
            }
        };
        if self.part.bytes.is_empty() {
            self.part.clear();
            self.room = None;
        }
        // The server takes a bounded list: one beyond it comes again, and is not asked again at once.
        let wait = wait || asked.exclude.contains(&holder);
        Ok(Err(Again { error, next: route.next.clone(), wait }))
    }

    /// What the server has put, unasked, in the place of the route that was tried last and is lost.
    fn successor(&self, asked: &Ask) -> Option<Rc<Route>> {
        let mut routes = self.node.routes.borrow_mut();
        let route = routes.successor(self.route.as_ref()?, &self.wish.content, Instant::now())?;
        let link = self.node.link(route.next.as_ref()?)?;
        let wanted = route.holder().is_some_and(|holder| !asked.exclude.contains(holder))
            && !route.path.iter().skip(1).any(|peer| asked.avoid.contains(peer));
        // It is the nearest holder's, and no gateway's where one is wanted.
        (link.is_up() && wanted && !asked.gateway).then_some(route)
    }

    /// Waits for one.
    async fn succeeded(&self) {
        let asked = self.search.ask();
        loop {
            let news = self.node.route_news.notified();
            if self.successor(&asked).is_some() {
                return;
            }
            news.await;
        }
    }

    /// Whether this holder goes on with what has come, or begins.
    fn continue_from(&mut self, holder: &PeerName) {
        let another = self.begun_by.as_ref().is_some_and(|by| by != holder);
        if another && self.careful {
            self.part.clear();
        }
        if self.part.bytes.is_empty() {
            self.begun_by = Some(holder.clone());
            self.mixed = false;
        } else {
            self.mixed |= another;
        }
    }

    /// Sets the content's length aside in the cache; waits while slow readers hold all of it.
    async fn make_room(&mut self) {
        let Some(len) = self.wish.length.map(u64::from).filter(|_| self.room.is_none()) else { return };
        loop {
            let released = self.node.released.notified();
            let look_again = match self.node.make_room(len) {
                Space::Free => break,
                Space::Goodbye(until) => until,
                Space::Full => {
                    *self.failure.borrow_mut() = Failure::unavailable("connection_limit_reached", None);
                    // A reader's end is not always told (hyper holds the last pieces), so look again now and then.
                    Instant::now() + Duration::from_millis(50)
                }
            };
            let _ = timeout_at(look_again, released).await;
        }
        self.node.cache.borrow_mut().reserve(len);
        self.room = Some(Reserved { node: self.node.clone(), len });
    }

    /// The bytes, if they are what they should be; they are kept then.
    fn accept(&mut self) -> Option<Bytes> {
        let (bytes, hash) = self.part.take();
        let bytes = Bytes::from(bytes);
        match &self.wish.content {
            ContentId::Blob(sha256) if hash == sha256.0 => {
                self.room = None; // from here on the cache itself counts them
                self.node.keep(*sha256, &bytes, &self.wish.rooms);
                Some(bytes)
            }
            ContentId::Blob(_) => None,
            ContentId::Manifest(_) => {
                self.node.manifests.accept(self.node, &self.wish.content, &bytes)?;
                Some(bytes)
            }
        }
    }

    fn fetched(&self, bytes: Bytes, trail: Trail, route: Option<RouteId>) -> Fetched {
        let me = &self.node.config().name;
        let stored = match &self.wish.content {
            ContentId::Blob(sha256) => self.node.cache.borrow().contains(sha256),
            ContentId::Manifest(_) => true,
        };
        let trail = trail.cached(me, missed(stored)).hop(me, self.began.elapsed());
        Fetched { bytes, trail: Rc::new(trail), route }
    }
}

/// Gives back what was set aside in the cache.
struct Reserved {
    node: Rc<Node>,
    len: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.node.cache.borrow_mut().release(self.len);
        self.node.released.notify_waiters();
    }
}

//! Fetching one content over the mesh: find a way, ask along it, go on from the byte where it broke, believe nothing
//! but the hash.
//!
//! A fetch only ends with the content, or with the certainty that it does not exist; its listeners have the patience.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use hopcast_protocol::{ContentId, RoomName};
use http::{Method, StatusCode, header};
use sha2::Digest as _;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    backoff::Backoff,
    flight::{Failure, Fetched, LastFailure},
    headers::{HOPCAST_ERROR, PROXY_STATUS, Trail},
    link,
    metrics::count,
    node::Node,
    range,
    routes::Route,
    search::Search,
    upstream::{self, Upstream},
    way::{self, NoWay},
};

/// How long a transfer over a route that was retired may stand still: the way is known to be broken.
const RETIRED: Duration = Duration::from_millis(250);

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The content.
    pub content: ContentId,
    /// Its length, where the manifest says it.
    pub length: Option<u32>,
    /// The rooms that may be asked.
    pub rooms: Vec<RoomName>,
}

/// What has arrived so far.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    hasher: sha2::Sha256,
}

impl Part {
    fn clear(&mut self) {
        self.bytes.clear();
        self.hasher = sha2::Sha256::default();
    }

    fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.hasher.update(piece);
    }
}

/// Why a transfer did not bring everything.
enum Fault {
    NotHeld,
    /// The holder itself answered, but not with the content.
    Unable(String),
    /// Something on the way.
    Way(String),
}

/// Fetches until it has the content.
pub async fn run(node: Rc<Node>, wish: Wish, failure: LastFailure) -> Result<Fetched, Failure> {
    let began = Instant::now();
    let _place = node.flights.places.acquire().await.expect("it is never closed");
    let _room = make_room(&node, &wish, &failure).await;
    let (mut search, mut part) = (Search::default(), Part::default());
    let mut backoff = Backoff::new(Duration::from_millis(30), Duration::from_secs(1));
    loop {
        if let Some(fetched) = from_database(&node, &wish, &mut search, began).await {
            return Ok(fetched);
        }
        let (error, next, wait) = match way::find(&node, &wish.rooms, &wish.content, &search.exclude()).await {
            Err(NoWay::Nobody) => {
                // A segment is in a signed manifest, so it exists, whatever the gateways say now.
                if search.nobody_left() && matches!(wish.content, ContentId::Manifest(_)) {
                    return Err(Failure::NotFound);
                }
                ("destination_unavailable".to_owned(), None, true)
            }
            Err(NoWay::Unasked) => ("destination_unavailable".to_owned(), None, true),
            Ok(route) => {
                let holder = route.holder().or(route.next.as_ref()).cloned();
                let Some(holder) = holder else { continue };
                match transfer(&node, &route, &wish, &mut part).await {
                    Ok(trail) => match accept(&node, &wish, &mut part) {
                        Some(bytes) => {
                            count(&node.metrics.fetches);
                            let me = &node.config().name;
                            let trail = trail.cached(me, "fwd=uri-miss; stored").hop(me, began.elapsed());
                            keep(&node, &wish, &bytes);
                            return Ok(Fetched { bytes, trail: Rc::new(trail), route: Some(route.id.clone()) });
                        }
                        None => {
                            count(&node.metrics.corrupt);
                            tracing::warn!(content = %wish.content, %holder, via = trail.via, "wrong bytes");
                            search.lied(&holder);
                            part.clear();
                            ("http_response_incomplete".to_owned(), route.next.clone(), false)
                        }
                    },
                    Err(Fault::NotHeld) => {
                        search.not_held(&holder);
                        ("destination_not_found".to_owned(), route.next.clone(), false)
                    }
                    Err(Fault::Unable(error)) => {
                        search.unable(&holder);
                        (error, route.next.clone(), false)
                    }
                    Err(Fault::Way(error)) => {
                        search.failed(&holder);
                        (error, route.next.clone(), true)
                    }
                }
            }
        };
        tracing::debug!(content = %wish.content, error, "trying again");
        *failure.borrow_mut() = Failure::Unavailable { error, next };
        count(&node.metrics.retries);
        if wait {
            sleep(backoff.next(node.random.unit())).await;
        }
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

/// Sets the content's length aside in the cache; waits while slow readers hold all of it.
async fn make_room(node: &Rc<Node>, wish: &Wish, failure: &LastFailure) -> Option<Reserved> {
    let len = u64::from(wish.length?);
    while !node.make_room(len) {
        *failure.borrow_mut() = Failure::unavailable("connection_limit_reached", None);
        // A reader's end is not always told (hyper holds the last pieces), so look again now and then.
        let _ = timeout(Duration::from_millis(50), node.released.notified()).await;
    }
    node.cache.borrow_mut().reserve(len);
    Some(Reserved { node: node.clone(), len })
}

async fn from_database(node: &Rc<Node>, wish: &Wish, search: &mut Search, began: Instant) -> Option<Fetched> {
    let gateway = node.gateway()?;
    match gateway.read(node, &wish.content).await {
        Ok(Some(bytes)) => {
            if let ContentId::Manifest(_) = wish.content
                && node.manifests.accept(node, &wish.content, &bytes).is_none()
            {
                count(&node.metrics.corrupt);
                return None;
            }
            let me = &node.config().name;
            let trail = Trail::default().cached(me, "fwd=uri-miss; stored").hop(me, began.elapsed());
            Some(Fetched { bytes, trail: Rc::new(trail), route: None })
        }
        Ok(None) => {
            search.missing_here();
            None
        }
        Err(_) => None,
    }
}

/// The bytes, if they are what they should be.
fn accept(node: &Node, wish: &Wish, part: &mut Part) -> Option<Bytes> {
    let Part { bytes, hasher } = std::mem::take(part);
    match &wish.content {
        ContentId::Blob(sha256) => (<[u8; 32]>::from(hasher.finalize()) == sha256.0).then(|| bytes.into()),
        ContentId::Manifest(_) => {
            let bytes = Bytes::from(bytes);
            node.manifests.accept(node, &wish.content, &bytes).map(|_| bytes)
        }
    }
}

fn keep(node: &Node, wish: &Wish, bytes: &Bytes) {
    if let ContentId::Blob(sha256) = wish.content {
        node.keep(sha256, bytes, &wish.rooms);
    }
}

/// Waits until the route is retired, and a little longer.
async fn retired(node: &Node, route: &Route) {
    loop {
        let news = node.route_news.notified();
        if node.routes.borrow().is_retired(route.id.as_str()) {
            return;
        }
        news.await;
    }
}

async fn transfer(node: &Rc<Node>, route: &Rc<Route>, wish: &Wish, part: &mut Part) -> Result<Trail, Fault> {
    let Some(next) = &route.next else { return Err(Fault::Way("proxy_loop_detected".to_owned())) };
    let Some(link) = node.link(next) else { return Err(Fault::Way("destination_unavailable".to_owned())) };
    let path = format!("/relay/{}/{}", route.id, wish.content.path());
    let range = (!part.bytes.is_empty()).then(|| range::from_byte(part.bytes.len() as u64));
    let ask = upstream::request(node, &link, &Method::GET, &path, range.as_deref(), link::patience(route.hops));
    let gone = async {
        retired(node, route).await;
        sleep(RETIRED).await;
    };
    let mut upstream = tokio::select! {
        answer = ask => answer.map_err(|error| Fault::Way(error.token().to_owned()))?,
        () = gone => return Err(Fault::Way("destination_unavailable".to_owned())),
    };
    begin(node, route, wish, part, &mut upstream)?;
    let trail = Trail::of(&upstream.headers);
    let mut body = upstream.body;
    let most = most(node, wish);
    let mut known_retired = false;
    loop {
        let piece = tokio::select! {
            piece = body.piece() => piece,
            () = retired(node, route), if !known_retired => {
                known_retired = true;
                body.hurry(RETIRED);
                continue;
            }
        };
        match piece {
            None => break,
            Some(Ok(piece)) if part.bytes.len() + piece.len() > most => {
                part.clear();
                return Err(Fault::Unable("http_response_body_size".to_owned()));
            }
            Some(Ok(piece)) => part.push(&piece),
            Some(Err(_)) if wish.length.is_some_and(|length| part.bytes.len() == length as usize) => break,
            Some(Err(error)) => return Err(Fault::Way(error.token().to_owned())),
        }
    }
    node.routes.borrow_mut().get(route.id.as_str(), Instant::now());
    if wish.length.is_some_and(|length| part.bytes.len() != length as usize) {
        return Err(Fault::Way("http_response_incomplete".to_owned()));
    }
    Ok(trail)
}

/// The longest body that is taken.
fn most(node: &Node, wish: &Wish) -> usize {
    let limit = usize::try_from(node.config().limits.max_segment).unwrap_or(usize::MAX);
    wish.length.map_or(limit, |length| length as usize)
}

/// Reads the status line and headers; `Ok` means that the body continues `part`.
fn begin(
    node: &Node,
    route: &Route,
    wish: &Wish,
    part: &mut Part,
    upstream: &mut Upstream,
) -> Result<(), Fault> {
    let text = |name: &http::HeaderName| upstream.headers.get(name).and_then(|value| value.to_str().ok());
    let fault = match upstream.status {
        StatusCode::OK => {
            part.clear();
            part.bytes.reserve_exact(wish.length.unwrap_or_default() as usize);
            return Ok(());
        }
        StatusCode::PARTIAL_CONTENT => {
            let came = text(&header::CONTENT_RANGE).and_then(range::parse_content_range);
            let fits = came.is_some_and(|(start, end, len)| {
                start == part.bytes.len() as u64
                    && end + 1 == len
                    && wish.length.is_none_or(|length| u64::from(length) == len)
            });
            // A part is only continued, never begun, by 206.
            if fits && !part.bytes.is_empty() {
                count(&node.metrics.resumes);
                return Ok(());
            }
            part.clear();
            Fault::Unable("http_protocol_error".to_owned())
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            part.clear();
            Fault::Unable("http_protocol_error".to_owned())
        }
        StatusCode::NOT_FOUND if text(&HOPCAST_ERROR) == Some("not_held") => Fault::NotHeld,
        StatusCode::MISDIRECTED_REQUEST => {
            // Some hop does not know the route: without a new broadcast it is of no use.
            node.routes.borrow_mut().retire(&route.id);
            Fault::Way("destination_unavailable".to_owned())
        }
        StatusCode::FORBIDDEN => Fault::Unable("http_request_denied".to_owned()),
        status => {
            // `<peer>; error=<token>; next-hop=<peer>`: who says so tells holder from relay.
            let reported = text(&PROXY_STATUS).unwrap_or_default();
            let by = reported.split(';').next().unwrap_or_default().trim();
            let error = reported
                .split(';')
                .find_map(|field| field.trim().strip_prefix("error="))
                .filter(|error| !error.is_empty() && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            let error = error.unwrap_or(if status.is_server_error() { "http_response_status" } else { "http_protocol_error" });
            if route.holder().is_some_and(|holder| holder.as_str() == by) {
                Fault::Unable(error.to_owned())
            } else {
                Fault::Way(error.to_owned())
            }
        }
    };
    upstream.body.finish_if_empty();
    Err(fault)
}

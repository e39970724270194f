//! The relay side: a neighbour asks for a content over a route.
//!
//! Order matters: who asks is proven before anything is revealed or waited for. A request is forwarded only along a
//! route that was broadcast to this peer, only for the route's previous hop, only to its next. Relays do not cache.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use hopcast_protocol::{
    ContentId, RelayAuth,
    limits::{ROUTE_WAIT, ROUTE_WAITERS},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use crate::{
    config::is_keyless,
    conn::Conn,
    emulation,
    headers::{HOPCAST_ERROR, PROXY_STATUS, Trail, etag, missed},
    link::{self, Link},
    node::Node,
    payload::{Payload, Reply},
    range::{self, Wanted},
    reply,
    routes::Route,
    upstream,
};

/// A broadcast that comes at all comes at once. Less than the protocol's bound, so that the hop before, which waits
/// for this one, does not give up at the same moment and blame the link.
const WAIT: Duration = Duration::from_millis(1500);
const _: () = assert!(WAIT.as_millis() < ROUTE_WAIT.as_millis());

/// Answers `/relay/...`.
pub(crate) async fn handle(node: &Rc<Node>, conn: &Rc<Conn>, request: &Parts) -> Reply {
    let began = Instant::now();
    let reply = match authenticate(node, request) {
        None => reply::empty(StatusCode::FORBIDDEN),
        Some(link) => {
            conn.is_neighbor();
            link.accepted(conn);
            node.heard_of(&link);
            let reply = answer(node, conn, &link, request, began).await;
            let delay = emulation::delay(&link.emulation(), node.random.unit());
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            reply
        }
    };
    node.metrics.relay_answered(reply.status().as_u16());
    reply
}

/// The link whose neighbour has signed this request.
fn authenticate(node: &Node, request: &Parts) -> Option<Rc<Link>> {
    let text = |name| request.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("\u{0}"));
    let auth = RelayAuth::parse(text(header::AUTHORIZATION)).ok()?;
    let link = node.link(&auth.peer).filter(|link| !is_keyless(&link.key))?;
    let range = text(header::RANGE).unwrap_or_default();
    // The signature covers the path alone, and only one Range.
    if request.uri.query().is_some() || request.headers.get_all(header::RANGE).iter().count() > 1 {
        return None;
    }
    auth.verify(&link.key, request.method.as_str(), request.uri.path(), range, upstream::unix_now()).ok()?;
    Some(link)
}

async fn answer(node: &Rc<Node>, conn: &Rc<Conn>, link: &Rc<Link>, request: &Parts, began: Instant) -> Reply {
    if request.method != Method::GET && request.method != Method::HEAD {
        return reply::method_not_allowed();
    }
    let parsed = request.uri.path().strip_prefix("/relay/").and_then(|rest| rest.split_once('/'));
    let Some((id, Ok(content))) = parsed.map(|(id, path)| (id, ContentId::from_path(path))) else {
        return reply::plain(
            StatusCode::NOT_FOUND,
            "expected /relay/<route>/sha256/<hex> or /relay/<route>/manifest/<song>\n",
        );
    };
    let route = match find_route(node, id).await {
        Some(route) if route.prev.as_ref() == Some(&link.name) => route,
        _ => return reply::no_route(),
    };
    let Ok(place) = node.transfers.clone().try_acquire_owned() else {
        let me = &node.config().name;
        return reply::failed(StatusCode::SERVICE_UNAVAILABLE, me, "connection_limit_reached", None);
    };
    node.active();
    let transfer = Transfer { node, conn, link, place, request, content, began };
    match route.next.clone() {
        None => transfer.hold().await,
        Some(_) => transfer.forward(&route).await,
    }
    .map(|payload| payload.along(route))
}

/// The route, if need be after waiting for its broadcast.
async fn find_route(node: &Node, id: &str) -> Option<Rc<Route>> {
    let deadline = Instant::now() + WAIT;
    let mut waiting = None;
    loop {
        let news = node.route_news.notified();
        if let Some(route) = node.routes.borrow_mut().get(id, Instant::now()) {
            return Some(route);
        }
        if node.routes.borrow().is_retired(id) {
            return None;
        }
        if waiting.is_none() {
            waiting = Some(Waiting::begin(node)?);
        }
        timeout_at(deadline, news).await.ok()?;
    }
}

/// One of the few that wait for a broadcast.
struct Waiting<'a>(&'a Node);

impl<'a> Waiting<'a> {
    fn begin(node: &'a Node) -> Option<Self> {
        let waiters = node.route_waiters.get();
        (waiters < ROUTE_WAITERS).then(|| {
            node.route_waiters.set(waiters + 1);
            Self(node)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.route_waiters.set(self.0.route_waiters.get() - 1);
    }
}

struct Transfer<'a> {
    node: &'a Rc<Node>,
    conn: &'a Rc<Conn>,
    link: &'a Rc<Link>,
    place: OwnedSemaphorePermit,
    request: &'a Parts,
    content: ContentId,
    began: Instant,
}

impl Transfer<'_> {
    /// This peer is the route's end: from the cache, or out of the database of a gateway.
    async fn hold(self) -> Reply {
        let me = &self.node.config().name;
        let cached = match &self.content {
            ContentId::Blob(sha256) => self.node.cache.borrow_mut().get(sha256),
            ContentId::Manifest(_) => None,
        };
        let (bytes, what) = match (cached, self.node.gateway()) {
            (Some(bytes), _) => (bytes, "hit"),
            (None, None) => return reply::not_held(),
            (None, Some(gateway)) => match gateway.read(self.node, &self.content).await {
                Ok(Some(bytes)) => {
                    let cache = self.node.cache.borrow();
                    let stored = matches!(&self.content, ContentId::Blob(sha256) if cache.contains(sha256));
                    (bytes, missed(stored))
                }
                Ok(None) => return reply::not_held(),
                Err(_) => return reply::failed(StatusCode::BAD_GATEWAY, me, "destination_unavailable", None),
            },
        };
        let trail = Trail::default().cached(me, what).hop(me, self.began.elapsed());
        let range = self.request.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let mut reply = part_of(bytes, range);
        if let ContentId::Blob(sha256) = &self.content {
            reply.headers_mut().insert(header::ETAG, etag(sha256));
        }
        trail.write(reply.headers_mut());
        if self.request.method == Method::HEAD {
            return reply::without_body(reply);
        }
        let (link, place, conn) = (self.link.clone(), self.place, self.conn.clone());
        let sent = &self.node.metrics.held_bytes;
        reply.map(|payload| payload.holding(place, conn).over(link).counted(sent))
    }

    /// This peer is a hop: the same request to the next one, the answer back as it comes.
    async fn forward(self, route: &Route) -> Reply {
        let me = &self.node.config().name;
        let Some(next) = &route.next else { return reply::not_held() };
        let Some(link) = self.node.link(next) else {
            return reply::failed(StatusCode::BAD_GATEWAY, me, "destination_unavailable", Some(next));
        };
        let range = self.request.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let uri = self.request.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        let patience = link::patience(route.hops, &link.emulation());
        let asked = upstream::request(self.node, &link, &self.request.method, &uri, range, patience).await;
        let mut upstream = match asked {
            Ok(upstream) => upstream,
            Err(error) => return reply::failed(error.status(), me, error.token(), Some(next)),
        };
        let status = match upstream.status {
            StatusCode::OK
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_FOUND
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::SERVICE_UNAVAILABLE => upstream.status,
            // Between this peer and the next something is wrong that the hop before can do nothing about.
            StatusCode::FORBIDDEN => {
                return reply::failed(StatusCode::BAD_GATEWAY, me, "http_request_denied", Some(next));
            }
            _ => return reply::failed(StatusCode::BAD_GATEWAY, me, "http_protocol_error", Some(next)),
        };
        let mut reply = reply::empty(status);
        pass_on(&upstream.headers, reply.headers_mut());
        Trail::of(&upstream.headers).hop(me, self.began.elapsed()).write(reply.headers_mut());
        if !status.is_success() || self.request.method == Method::HEAD {
            upstream.body.finish_if_empty();
            if status.is_success()
                && let Some(len) = upstream.headers.get(header::CONTENT_LENGTH)
            {
                reply.headers_mut().insert(header::CONTENT_LENGTH, len.clone());
            }
            return reply;
        }
        let len =
            upstream.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        let most = self.node.config().limits.max_segment;
        match len {
            Some(len) if len <= most => {
                let (place, conn, over) = (self.place, self.conn.clone(), self.link.clone());
                let payload = Payload::upstream(upstream.body, len).holding(place, conn).over(over);
                reply.map(|_| payload.counted(&self.node.metrics.relayed_bytes))
            }
            Some(_) => reply::failed(StatusCode::BAD_GATEWAY, me, "http_response_body_size", Some(next)),
            None => reply::failed(StatusCode::BAD_GATEWAY, me, "http_protocol_error", Some(next)),
        }
    }
}

/// Copies what concerns the content and not the connection.
fn pass_on(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [
        header::ETAG,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::CONTENT_TYPE,
        header::RETRY_AFTER,
        PROXY_STATUS,
        HOPCAST_ERROR,
    ] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// 200, 206 or 416 for a range of bytes.
pub(crate) fn part_of(bytes: Bytes, wanted: Option<&str>) -> Reply {
    let len = bytes.len() as u64;
    let (status, bytes, content_range) = match range::wanted(wanted, len) {
        Wanted::Whole => (StatusCode::OK, bytes, None),
        Wanted::Part { start, end } => (
            StatusCode::PARTIAL_CONTENT,
            bytes.slice(start as usize..=end as usize),
            Some(range::content_range(start, end, len)),
        ),
        Wanted::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(format!("bytes */{len}"))),
    };
    let mut reply = reply::empty(status).map(|_| Payload::bytes(bytes));
    let headers = reply.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(text) = content_range {
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&text).expect("digits and signs"));
    }
    reply
}

//! One attempt over one route: ask the next hop, take what comes, go on from the byte where an earlier attempt broke.

use std::{rc::Rc, time::Duration};

use hopcast_protocol::PeerName;
use http::{HeaderName, Method, StatusCode, Uri, header};
use sha2::Digest as _;
use tokio::time::{Instant, sleep};

use crate::{
    fetch::Wish,
    headers::{HOPCAST_ERROR, PROXY_STATUS, Trail},
    link,
    metrics::count,
    node::Node,
    range,
    routes::Route,
    upstream::{self, Upstream},
};

/// How long a transfer over a route that was retired may stand still: the way is known to be broken.
const RETIRED: Duration = Duration::from_millis(250);

/// What has arrived so far, and its hash so far.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    hasher: sha2::Sha256,
}

impl Part {
    /// Begins again from zero.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.hasher.update(piece);
    }

    /// The bytes and their SHA-256; nothing is left.
    pub(crate) fn take(&mut self) -> (Vec<u8>, [u8; 32]) {
        let Self { bytes, hasher } = std::mem::take(self);
        (bytes, hasher.finalize().into())
    }
}

/// Why a transfer did not bring everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The holder does not have it.
    NotHeld,
    /// The holder itself cannot serve; the error's name in `Proxy-Status`.
    Unable(String),
    /// Something on the way failed.
    Way {
        /// The error's name in `Proxy-Status`.
        error: String,
        /// The relay that cannot go on, where one says so.
        by: Option<PeerName>,
    },
}

fn way(error: &str, by: Option<&PeerName>) -> Fault {
    Fault::Way { error: error.to_owned(), by: by.cloned() }
}

/// Asks along a route. `Ok` means that `part` has all that was announced.
pub(crate) async fn run(
    node: &Rc<Node>,
    route: &Rc<Route>,
    wish: &Wish,
    part: &mut Part,
) -> Result<Trail, Fault> {
    let Some(next) = &route.next else { return Err(way("proxy_loop_detected", None)) };
    let Some(link) = node.link(next) else { return Err(way("destination_unavailable", Some(next))) };
    let path = format!("/relay/{}/{}", route.id, wish.content.path());
    let uri = Uri::try_from(path).expect("names, digits and slashes are a path");
    let range = (!part.bytes.is_empty()).then(|| range::from_byte(part.bytes.len() as u64));
    let ask = upstream::request(
        node,
        &link,
        &Method::GET,
        &uri,
        range.as_deref(),
        link::patience(route.hops, &link.emulation()),
    );
    let gone = async {
        retired(node, route).await;
        sleep(RETIRED).await;
    };
    let mut upstream = tokio::select! {
        answer = ask => answer.map_err(|error| way(error.token(), None))?,
        () = gone => return Err(way("destination_unavailable", None)),
    };
    let trail = Trail::of(&upstream.headers);
    if let Err(fault) = begin(node, route, wish, part, &upstream) {
        upstream.body.finish_if_empty();
        return Err(fault);
    }
    receive(node, route, wish, part, upstream).await?;
    // It was of use until now.
    node.routes.borrow_mut().get(route.id.as_str(), Instant::now());
    Ok(trail)
}

async fn receive(
    node: &Node,
    route: &Route,
    wish: &Wish,
    part: &mut Part,
    upstream: Upstream,
) -> Result<(), Fault> {
    let mut body = upstream.body;
    let limit = usize::try_from(node.config().limits.max_segment).unwrap_or(usize::MAX);
    let most = wish.length.map_or(limit, |length| length as usize);
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
            Some(Ok(piece)) if part.bytes.len() + piece.len() > most => {
                part.clear();
                return Err(Fault::Unable("http_response_body_size".to_owned()));
            }
            Some(Ok(piece)) => part.push(&piece),
            // What breaks behind the last byte breaks nothing.
            Some(Err(_)) if wish.length.is_some_and(|length| part.bytes.len() == length as usize) => {
                return Ok(());
            }
            Some(Err(error)) => return Err(way(error.token(), None)),
            None if wish.length.is_some_and(|length| part.bytes.len() != length as usize) => {
                part.clear();
                return Err(Fault::Unable("http_response_incomplete".to_owned()));
            }
            None => return Ok(()),
        }
    }
}

/// Waits until the route is retired.
async fn retired(node: &Node, route: &Route) {
    loop {
        let news = node.route_news.notified();
        if node.routes.borrow().is_retired(route.id.as_str()) {
            return;
        }
        news.await;
    }
}

/// Reads status and headers; `Ok` means that the body continues `part`.
fn begin(node: &Node, route: &Route, wish: &Wish, part: &mut Part, upstream: &Upstream) -> Result<(), Fault> {
    let text = |name: &HeaderName| upstream.headers.get(name).and_then(|value| value.to_str().ok());
    match upstream.status {
        StatusCode::OK => {
            part.clear();
            part.bytes.reserve_exact(wish.length.unwrap_or_default() as usize);
            Ok(())
        }
        StatusCode::PARTIAL_CONTENT => {
            let came = text(&header::CONTENT_RANGE).and_then(range::parse_content_range);
            let fits = came.is_some_and(|(start, end, len)| {
                start == part.bytes.len() as u64
                    && end + 1 == len
                    && wish.length.is_none_or(|length| u64::from(length) == len)
            });
            // A part is only continued, never begun, by 206. Without a length (a manifest) two revisions could mix; the
            // signature would tell.
            if fits && !part.bytes.is_empty() {
                count(&node.metrics.resumes);
                return Ok(());
            }
            part.clear();
            Err(Fault::Unable("http_protocol_error".to_owned()))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            part.clear();
            Err(Fault::Unable("http_protocol_error".to_owned()))
        }
        StatusCode::NOT_FOUND if text(&HOPCAST_ERROR) == Some("not_held") => Err(Fault::NotHeld),
        StatusCode::MISDIRECTED_REQUEST => {
            // Some hop does not know the route: without a new broadcast it is of no use.
            node.routes.borrow_mut().retire(&route.id);
            Err(way("destination_unavailable", None))
        }
        // The next hop and this peer do not agree on their link's key, or on the time.
        StatusCode::FORBIDDEN => Err(of("http_request_denied".to_owned(), route.next.as_ref(), route)),
        status => Err(reported(text(&PROXY_STATUS).unwrap_or_default(), route, status)),
    }
}

/// Reads `<peer>; error=<token>; next-hop=<peer>`: who says so tells the holder from a relay.
fn reported(status: &str, route: &Route, code: StatusCode) -> Fault {
    let mut fields = status.split(';').map(str::trim);
    let by = fields.next().unwrap_or_default();
    let error = fields
        .find_map(|field| field.strip_prefix("error="))
        .filter(|error| {
            !error.is_empty() && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .unwrap_or(if code.is_server_error() { "proxy_internal_response" } else { "http_protocol_error" })
        .to_owned();
    of(error, route.path.iter().skip(1).find(|peer| peer.as_str() == by), route)
}

/// What a peer of the route cannot do: the holder's fault, or a relay's.
fn of(error: String, by: Option<&PeerName>, route: &Route) -> Fault {
    if by.is_some() && by == route.holder() {
        Fault::Unable(error)
    } else {
        Fault::Way { error, by: by.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::{RoomName, RouteId};

    use super::*;

    #[test]
    fn who_reports_a_failure_says_whose_it_is() {
        let peer = |name: &str| PeerName::new(name).unwrap();
        let route = Route {
            id: RouteId::new("e-1").unwrap(),
            room: RoomName::new("rock").unwrap(),
            prev: None,
            next: Some(peer("peer-2")),
            hops: 2,
            path: [peer("peer-3"), peer("peer-2"), peer("peer-1")].into(),
        };
        let read = |text| reported(text, &route, StatusCode::BAD_GATEWAY);
        let second = peer("peer-2");
        let relay = Some(&second);
        assert_eq!(
            read("peer-2; error=connection_refused; next-hop=peer-1"),
            way("connection_refused", relay)
        );
        assert_eq!(
            read("peer-9; error=connection_refused"),
            way("connection_refused", None),
            "none of the route's"
        );
        assert_eq!(of("x".to_owned(), relay, &route), way("x", relay));
        assert_eq!(
            read("peer-1; error=destination_unavailable"),
            Fault::Unable("destination_unavailable".to_owned())
        );
        assert_eq!(read(""), way("proxy_internal_response", None));
        assert_eq!(read("peer-2; error=\"x\r\n"), way("proxy_internal_response", relay));
    }

    #[test]
    fn a_part_is_hashed_as_it_comes() {
        let mut part = Part::default();
        part.push(b"a");
        part.push(b"bc");
        let (bytes, hash) = part.take();
        assert_eq!((bytes.as_slice(), hash), (&b"abc"[..], hopcast_protocol::Sha256::of(b"abc").0));
        assert!(part.bytes.is_empty());
    }
}

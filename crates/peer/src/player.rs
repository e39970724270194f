//! The player side: playlists, and segments out of the cache or fetched while the player waits.
//!
//! A request is held, with nothing sent, until the bytes are here and verified, or the patience is over.

use std::{net::IpAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use hopcast_protocol::{ContentId, PeerConfig, RoomName, RouteId, Sha256, SongName};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use tokio::time::{Instant, timeout_at};

use crate::{
    conn::Conn,
    fetch::Wish,
    flight::Failure,
    headers::{HOPCAST_ROUTE, Trail, etag, none_match},
    hls::{self, Part},
    metrics::count,
    node::Node,
    payload::Reply,
    relay::part_of,
    reply,
    trace::LastHops,
};

/// What scripts of other origins may read of a response.
const EXPOSED: &str = "Via, Server-Timing, Cache-Status, Proxy-Status, Hopcast-Route, ETag, Content-Length, Content-Range, Accept-Ranges";

/// Answers `/hls/...`.
pub(crate) async fn handle(node: &Rc<Node>, conn: &Rc<Conn>, request: &Parts) -> Reply {
    let began = Instant::now();
    let mut reply = if is_other_peer(&node.config(), conn.remote.ip()) {
        reply::plain(StatusCode::FORBIDDEN, "peers ask over routes, not as players\n")
    } else {
        match request.method {
            Method::GET => serve(node, conn, request, began).await,
            Method::HEAD => reply::without_body(serve(node, conn, request, began).await),
            Method::OPTIONS => preflight(),
            _ => reply::method_not_allowed(),
        }
    };
    cors(reply.headers_mut());
    node.metrics.player_answered(reply.status().as_u16());
    reply
}

/// True for an address that only another peer's process dials from.
pub(crate) fn is_other_peer(config: &PeerConfig, remote: IpAddr) -> bool {
    let remote = remote.to_canonical();
    config.peer_addresses.is_some_and(|(first, last)| {
        let own = remote == config.listen.ip() || config.dial_from == Some(remote);
        !own && first <= remote && remote <= last
    })
}

fn cors(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(HeaderName::from_static("timing-allow-origin"), HeaderValue::from_static("*"));
}

fn preflight() -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Range, If-None-Match, If-Range"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    reply
}

async fn serve(node: &Rc<Node>, conn: &Rc<Conn>, request: &Parts, began: Instant) -> Reply {
    let config = node.config();
    let deadline = began + Duration::from_millis(config.limits.patience_ms);
    let Some(wish) = request.uri.path().strip_prefix("/hls/").and_then(hls::parse) else {
        return reply::plain(StatusCode::NOT_FOUND, "expected /hls/<song>/master.m3u8\n");
    };
    if config.public_key.is_none() {
        return reply::plain(StatusCode::NOT_FOUND, "this peer has no manifest key, so it plays no songs\n");
    }
    let playlist = matches!(wish.part, Part::Master | Part::Index(_));
    let mut manifest = match node.manifests.get(node, &wish.song, playlist, deadline).await {
        Ok(manifest) => manifest,
        Err(failure) => return failed(node, &failure),
    };
    if !playlist && hls::blob(&manifest, wish.part).is_none() {
        // Perhaps the song was ingested again a moment ago.
        match node.manifests.renewed(node, &wish.song, deadline).await {
            Ok(newer) => manifest = newer,
            Err(failure) => return failed(node, &failure),
        }
    }
    if !node.rooms().iter().any(|room| manifest.rooms.contains(&room.name)) {
        return reply::plain(StatusCode::NOT_FOUND, "no such song in this peer's rooms\n");
    }
    let text = match wish.part {
        Part::Master => Some(hls::master(&manifest)),
        Part::Index(name) => hls::rendition(&manifest, name).map(hls::index),
        _ => None,
    };
    if let Some(text) = text {
        let mut reply = reply::text(StatusCode::OK, hls::PLAYLIST, text);
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Trail::default().hop(&config.name, began.elapsed()).write(reply.headers_mut());
        return reply;
    }
    let Some((sha256, length, kind)) = hls::blob(&manifest, wish.part) else {
        return reply::plain(StatusCode::NOT_FOUND, "the song has no such part\n");
    };
    let segment =
        Segment { node, conn, request, sha256, length, kind, song: &manifest.song, rooms: &manifest.rooms };
    segment.serve(began, deadline).await
}

fn failed(node: &Node, failure: &Failure) -> Reply {
    match failure {
        Failure::NotFound => reply::plain(StatusCode::NOT_FOUND, "no such song\n"),
        Failure::Unavailable { error, next } => {
            reply::failed(StatusCode::SERVICE_UNAVAILABLE, &node.config().name, error, next.as_ref())
        }
    }
}

struct Segment<'a> {
    node: &'a Rc<Node>,
    conn: &'a Rc<Conn>,
    request: &'a Parts,
    sha256: Sha256,
    length: u32,
    kind: &'static str,
    song: &'a SongName,
    rooms: &'a [RoomName],
}

impl Segment<'_> {
    async fn serve(self, began: Instant, deadline: Instant) -> Reply {
        let tag = etag(&self.sha256);
        let text = |name| self.request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if text(header::IF_NONE_MATCH).is_some_and(|header| none_match(header, &tag)) {
            return self.finish(reply::empty(StatusCode::NOT_MODIFIED), tag);
        }
        // The manifest knows all that HEAD tells.
        if self.request.method == Method::HEAD {
            let mut reply = reply::empty(StatusCode::OK);
            let headers = reply.headers_mut();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.length));
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            Trail::default().hop(&self.node.config().name, began.elapsed()).write(headers);
            return self.finish(reply, tag);
        }
        let (bytes, trail, route) = match self.bytes(began, deadline).await {
            Ok(got) => got,
            Err(failure) => return failed(self.node, &failure),
        };
        let Ok(Ok(place)) = timeout_at(deadline, self.node.players.clone().acquire_owned()).await else {
            return failed(self.node, &Failure::unavailable("connection_limit_reached", None));
        };
        self.note(&trail);
        let range = text(header::RANGE)
            .filter(|_| text(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes()));
        let mut reply = part_of(bytes, range);
        trail.write(reply.headers_mut());
        if let Some(route) = route.and_then(|route| HeaderValue::from_str(route.as_str()).ok()) {
            reply.headers_mut().insert(HOPCAST_ROUTE, route);
        }
        let (conn, sent) = (self.conn.clone(), &self.node.metrics.player_bytes);
        let reply = reply.map(|payload| payload.holding(place, conn).counted(sent));
        self.finish(reply, tag)
    }

    /// Whether the URL is the playlist's, and these bytes' alone.
    fn is_versioned(&self) -> bool {
        self.request.uri.query().is_some_and(|query| query == hls::edition(&self.sha256))
    }

    fn finish(&self, mut reply: Reply, tag: HeaderValue) -> Reply {
        let status = reply.status();
        let headers = reply.headers_mut();
        headers.insert(header::ETAG, tag);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        let caching = if status == StatusCode::RANGE_NOT_SATISFIABLE || !self.is_versioned() {
            "no-cache" // keep it, but ask whether it is still the same (RFC 9111 5.2.2.4)
        } else {
            "public, max-age=31536000, immutable"
        };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        reply
    }

    async fn bytes(
        &self,
        began: Instant,
        deadline: Instant,
    ) -> Result<(Bytes, Trail, Option<RouteId>), Failure> {
        let me = &self.node.config().name;
        let cached = self.node.cache.borrow_mut().get(&self.sha256);
        if let Some(bytes) = cached {
            count(&self.node.metrics.hits);
            return Ok((bytes, Trail::default().cached(me, "hit").hop(me, began.elapsed()), None));
        }
        count(&self.node.metrics.misses);
        if u64::from(self.length) > self.node.config().limits.max_segment {
            return Err(Failure::unavailable("http_response_body_size", None));
        }
        let wish = Wish {
            content: ContentId::Blob(self.sha256),
            song: self.song.clone(),
            length: Some(self.length),
            rooms: self.rooms.to_vec(),
        };
        let (fetched, collapsed) = self.node.flights.join(self.node, wish, deadline).await?;
        let mut trail = (*fetched.trail).clone();
        if collapsed {
            trail.cache.push_str("; collapsed");
        }
        Ok((fetched.bytes, trail, fetched.route))
    }

    fn note(&self, trail: &Trail) {
        let hops: Vec<_> = trail.hops().map(str::to_owned).collect();
        *self.node.last.borrow_mut() = LastHops {
            path: self.request.uri.path().to_owned(),
            // A gateway that read its database is alone on the way, too.
            hit: hops.len() == 1 && trail.cache.ends_with("; hit"),
            hops,
            timing: trail.timing.clone(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_peers_are_no_players_but_this_one_and_everybody_else_are() {
        let mut config =
            crate::config::from_env(|name| (name == "PEER_NAME").then(|| "peer-3".to_owned())).unwrap();
        config.listen = "127.77.0.3:8080".parse().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(!is_other_peer(&config, ip("127.77.0.4")), "without a range nobody is refused");
        config.peer_addresses = Some((ip("127.77.0.1"), ip("127.77.0.160")));
        for (remote, refused) in [
            ("127.77.0.1", true),
            ("127.77.0.160", true),
            ("::ffff:127.77.0.9", true),
            ("127.77.0.3", false),
            ("127.77.0.161", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_other_peer(&config, ip(remote)), refused, "{remote}");
        }
    }
}

//! A mesh in one process that speaks docs/protocol.md just well enough to be verified, and lies on demand.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use hopcast_protocol::{Manifest, PeerName, RelayAuth, Sha256};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::broadcast};

use crate::{graph::RoomGraph, http::Task, target::Target, testing};

/// What the fake does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// Leaves this peer out of every Via.
    Hides(&'static str),
    /// This peer serves bytes with one changed.
    Corrupts(&'static str),
    /// Serves relay requests without looking at their key.
    Trusting,
    /// Serves relay requests whoever the previous hop is.
    AnyPrevious,
    /// Goes on serving retired routes.
    KeepsRetired,
    /// Serves players' requests from peers' addresses.
    AnyPlayer,
    /// This peer does not answer.
    Dead(&'static str),
    /// Answers paths with a detour.
    Detours,
    /// Forgets a link of the plan.
    ForgetsLink,
    /// Broadcasts nothing.
    Silent,
}

struct State {
    routes: HashMap<String, Vec<PeerName>>,
    retired: HashSet<String>,
    cached: HashSet<(String, Sha256)>,
}

struct Mesh {
    target: Target,
    room: RoomGraph,
    lie: Lie,
    state: Mutex<State>,
    events: broadcast::Sender<String>,
    songs: Vec<Manifest>,
}

/// The running fake; it ends when dropped.
pub(crate) struct Fake {
    pub(crate) target: Target,
    pub(crate) songs: Vec<Manifest>,
    mesh: Arc<Mesh>,
    _tasks: Vec<Task>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn bytes_of(segment: usize) -> Vec<u8> {
    format!("segment {segment} ").repeat(100).into_bytes()
}

fn manifest() -> Manifest {
    let segments: Vec<_> = (0..12)
        .map(|i| serde_json::json!({"sha256": Sha256::of(&bytes_of(i)), "length": bytes_of(i).len(), "duration_us": 4_000_000}))
        .collect();
    let manifest = serde_json::json!({
        "version": 1, "song": "demo", "revision": 1, "rooms": ["rock"],
        "renditions": [{"name": "128k", "bandwidth": 140_000, "codecs": "mp4a.40.2", "extension": "ts",
            "target_duration": 4, "first_sequence": 0, "segments": segments}],
    });
    serde_json::from_value(manifest).expect("the test's manifest has the manifest's form")
}

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Bytes>) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into()).boxed()).expect("the fake's headers are headers")
}

fn text(body: impl Into<Bytes>) -> Answer {
    reply(200, &[], body)
}

impl Mesh {
    /// A shortest path, found from the distances to its end.
    fn path(&self, from: &PeerName, to: &PeerName) -> Vec<PeerName> {
        let hops = self.room.hops(self.room.index(to.as_str()));
        let mut path = vec![from.clone()];
        while path.last() != Some(to) {
            let at = path.last().expect("it begins with one");
            let here = hops[self.room.index(at.as_str()).expect("of the room")];
            let planned = self.target.plan.peer(at.as_str()).expect("of the plan");
            let next = planned
                .neighbors
                .iter()
                .find(|n| self.room.index(n.as_str()).is_some_and(|n| hops[n] < here));
            path.push(next.expect("the ring is connected").clone());
        }
        path
    }

    fn send(&self, event: &str, data: &serde_json::Value) {
        if self.lie != Lie::Silent {
            let _ = self.events.send(format!("event: {event}\ndata: {data}\n\n"));
        }
    }

    fn route(&self, peer: &PeerName, content: &str) -> (String, Vec<PeerName>) {
        let path = self.path(peer, &self.target.plan.peers[0].name);
        let mut state = self.state.lock().unwrap();
        let mut id = format!("fake-{peer}");
        while state.retired.contains(&id) {
            id.push('x');
        }
        state.routes.insert(id.clone(), path.clone());
        drop(state);
        self.send(
            "path",
            &serde_json::json!({"route": id, "room": "rock", "path": path, "content": content}),
        );
        (id, path)
    }

    fn hls(&self, peer: &PeerName, path: &str) -> Answer {
        if path == "/hls/demo/master.m3u8" {
            if *peer != self.target.plan.peers[0].name {
                self.route(peer, "manifest:demo");
            }
            return text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=140000\n128k/index.m3u8\n");
        }
        let segments = &self.songs[0].renditions[0].segments;
        if path == "/hls/demo/128k/index.m3u8" {
            let lines: Vec<String> = (0..segments.len()).map(|i| format!("#EXTINF:4,\n{i}.ts\n")).collect();
            return text(format!("#EXTM3U\n{}#EXT-X-ENDLIST\n", lines.concat()));
        }
        let number = path.strip_prefix("/hls/demo/128k/").and_then(|name| name.strip_suffix(".ts"));
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
            return reply(404, &[], "no such thing");
        };
        let (mut bytes, sha256) = (bytes_of(number), segments[number].sha256);
        if matches!(self.lie, Lie::Corrupts(name) if name == peer.as_str()) {
            bytes[7] ^= 1;
        }
        let mut headers = vec![("etag", format!("\"{sha256}\""))];
        let hit = !self.state.lock().unwrap().cached.insert((peer.to_string(), sha256));
        let way = if hit || *peer == self.target.plan.peers[0].name {
            vec![peer.clone()]
        } else {
            let (route, way) = self.route(peer, &format!("sha256:{sha256}"));
            headers.push(("hopcast-route", route));
            way
        };
        let status = if hit { "hit" } else { "fwd=uri-miss; stored" };
        let holder = if way.len() > 1 { format!("{}; hit, ", way[way.len() - 1]) } else { String::new() };
        headers.push(("cache-status", format!("{holder}{peer}; {status}")));
        let names = way
            .iter()
            .rev()
            .filter(|name| !matches!(self.lie, Lie::Hides(hidden) if hidden == name.as_str()));
        headers.push(("via", names.map(|name| format!("1.1 {name}")).collect::<Vec<_>>().join(", ")));
        reply(200, &headers, bytes)
    }

    fn relay(&self, peer: &PeerName, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let auth = RelayAuth::parse(header("authorization"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let sender = auth.and_then(|auth| {
            let key = self.target.secret.link_key(&auth.peer, peer);
            auth.verify(&key, "GET", path, header("range").unwrap_or(""), now).map(|()| auth.peer)
        });
        if sender.is_err() && self.lie != Lie::Trusting {
            return reply(403, &[], "no");
        }
        let id = path.split('/').nth(2).unwrap_or("");
        let state = self.state.lock().unwrap();
        let retired = state.retired.contains(id) && self.lie != Lie::KeepsRetired;
        let Some(way) = state.routes.get(id).filter(|_| !retired) else {
            return reply(421, &[], "no such route");
        };
        let at = way.iter().position(|name| name == peer).unwrap_or(0);
        if at == 0
            || (sender.as_ref() != Ok(&way[at - 1])
                && self.lie != Lie::AnyPrevious
                && self.lie != Lie::Trusting)
        {
            return reply(421, &[], "not from you");
        }
        reply(206, &[], "x")
    }

    fn peer(&self, peer: &PeerName, from: SocketAddr, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let planned = self.target.plan.peer(peer.as_str()).expect("of the plan");
        let from_a_peer = self.target.peers.iter().any(|peer| peer.endpoint.ip() == from.ip());
        match path {
            "/health" => text(format!("{peer}: ok\n")),
            "/name" => text(format!("{peer}\n")),
            "/peers" => text(planned.neighbors.iter().map(PeerName::as_str).collect::<Vec<_>>().join("\n")),
            "/metrics" => text("hopcast_cache_bytes 1200\nhopcast_fetch_corrupt_total 0\n"),
            _ if path.starts_with("/relay/") => self.relay(peer, request),
            _ if from_a_peer && self.lie != Lie::AnyPlayer => reply(403, &[], "a peer"),
            _ => self.hls(peer, path),
        }
    }

    fn graph(&self) -> Answer {
        let plan = &self.target.plan;
        let dead = |name: &str| matches!(self.lie, Lie::Dead(dead) if dead == name);
        let peers: Vec<_> = plan
            .peers
            .iter()
            .map(|peer| serde_json::json!({"name": peer.name, "connected": !dead(peer.name.as_str())}))
            .collect();
        let links: Vec<_> = plan
            .links
            .iter()
            .skip(usize::from(self.lie == Lie::ForgetsLink))
            .map(|link| serde_json::json!({"a": link.a, "b": link.b, "up": !dead(link.a.as_str()) && !dead(link.b.as_str())}))
            .collect();
        text(serde_json::json!({"rooms": [{"name": "rock", "peers": peers, "links": links}]}).to_string())
    }

    fn signalling(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        match path {
            "/api/graph" => self.graph(),
            "/api/path" => {
                let query: HashMap<&str, &str> = request
                    .uri()
                    .query()
                    .unwrap_or("")
                    .split('&')
                    .filter_map(|pair| pair.split_once('='))
                    .collect();
                let name = |key: &str| PeerName::new(query[key]).unwrap();
                let mut path = self.path(&name("from"), &name("to"));
                if self.lie == Lie::Detours && path.len() == 2 {
                    // The other way round the ring.
                    let plan = &self.target.plan.peers;
                    let rest =
                        plan.iter().map(|peer| &peer.name).filter(|name| !path.contains(name)).cloned();
                    path = [vec![path[0].clone()], rest.collect(), vec![path[1].clone()]].concat();
                }
                text(serde_json::json!({"path": path}).to_string())
            }
            "/api/events" => {
                let events = futures_util::stream::unfold(self.events.subscribe(), async |mut events| {
                    let event = events.recv().await.ok()?;
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), events))
                });
                Response::new(StreamBody::new(Box::pin(events)).boxed())
            }
            _ => {
                let route = path.strip_prefix("/api/routes/").unwrap_or("");
                let token = self.target.secret.operator_token().to_string();
                let bearer = request.headers().get("authorization").and_then(|v| v.to_str().ok());
                if request.method() != "DELETE"
                    || bearer.and_then(|b| b.strip_prefix("Bearer ")) != Some(&token)
                {
                    return reply(401, &[], "no");
                }
                self.state.lock().unwrap().retired.insert(route.to_owned());
                self.send("route_down", &serde_json::json!({"route": route, "room": "rock"}));
                reply(204, &[], "")
            }
        }
    }
}

async fn serve(mesh: Arc<Mesh>, listener: TcpListener, peer: Option<PeerName>) {
    while let Ok((stream, from)) = listener.accept().await {
        let (mesh, peer) = (Arc::clone(&mesh), peer.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = match &peer {
                    Some(peer) => mesh.peer(peer, from, &request),
                    None => mesh.signalling(&request),
                };
                async { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Fake {
    /// How many segments all peers together have in their caches.
    pub(crate) fn cached(&self) -> usize {
        self.mesh.state.lock().unwrap().cached.len()
    }

    /// Starts a ring of peers in the block.
    pub(crate) async fn start(block: u8, count: u32, lie: Lie) -> Self {
        let mut target = testing::target_in(block, count);
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        target.signalling = server.local_addr().unwrap();
        let dead = match lie {
            Lie::Dead(peer) => HashSet::from([PeerName::new(peer).expect("a name")]),
            _ => HashSet::new(),
        };
        let room = RoomGraph::new(&target.plan, &target.plan.rooms[0], &dead);
        let songs = vec![manifest()];
        let mesh = Arc::new(Mesh {
            target: target.clone(),
            room,
            lie,
            state: Mutex::new(State {
                routes: HashMap::new(),
                retired: HashSet::new(),
                cached: HashSet::new(),
            }),
            events: broadcast::channel(4096).0,
            songs: songs.clone(),
        });
        let mut tasks = vec![Task(tokio::spawn(serve(Arc::clone(&mesh), server, None)))];
        for peer in &target.peers {
            if dead.contains(&peer.name) {
                continue;
            }
            let listener = TcpListener::bind(peer.endpoint).await.unwrap();
            tasks.push(Task(tokio::spawn(serve(Arc::clone(&mesh), listener, Some(peer.name.clone())))));
        }
        Self { target, songs, mesh, _tasks: tasks }
    }
}

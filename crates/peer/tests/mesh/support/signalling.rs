//! A signalling server written from docs/protocol.md, small and open, that can be told to misbehave.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload};
use hopcast_protocol::{ClientMessage, ContentId, ErrorCode, PeerName, RoomName, RouteId, ServerMessage};
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

/// To one connection: a text, or a close code.
enum Out {
    Text(String),
    Close(u16),
}

#[derive(Default)]
struct Room {
    connections: HashMap<PeerName, (u64, mpsc::UnboundedSender<Out>)>,
    announced: HashMap<PeerName, Vec<PeerName>>,
    down: BTreeSet<(PeerName, PeerName)>,
    held: HashMap<PeerName, BTreeSet<String>>,
    all: BTreeSet<PeerName>,
    routes: Vec<(RouteId, Vec<PeerName>)>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<RoomName, Room>,
    log: Vec<(PeerName, ClientMessage)>,
    /// Peers that are told of no route.
    deaf: BTreeSet<PeerName>,
    /// Lost paths are found anew unasked.
    mends: bool,
    /// What each route was last asked for, with `exclude` and `avoid`.
    asked: HashMap<RouteId, (ContentId, Vec<PeerName>, Vec<PeerName>)>,
    counter: u64,
}

pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    epoch: u32,
}

impl Stub {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut stub = Self { address, state: Arc::default(), running: None, epoch: 0 };
        stub.restart();
        stub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Starts again with an empty memory.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.epoch += 1;
        let log = std::mem::take(&mut self.state().log);
        *self.state() = State { log, counter: u64::from(self.epoch) * 1000, ..State::default() };
        let (address, state) = (self.address, self.state.clone());
        let (stop, stopped) = oneshot::channel();
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind(address).expect("the stub's address is free");
                let listener = socket.listen(64).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = accept(listener, state) => {}
                    _ = stopped => {}
                }
            });
        });
        wait.recv().unwrap();
        self.running = Some((stop, thread));
    }

    /// Ends at once, without a word.
    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    pub(crate) fn knows(&self, peer: &PeerName, room: &RoomName) -> bool {
        self.state().rooms.get(room).is_some_and(|room| room.announced.contains_key(peer))
    }

    pub(crate) fn holds_all(&self, peer: &PeerName, room: &RoomName) -> bool {
        self.state().rooms.get(room).is_some_and(|room| room.all.contains(peer))
    }

    pub(crate) fn holds(&self, peer: &PeerName, room: &RoomName, content: &ContentId) -> bool {
        let state = self.state();
        let room = state.rooms.get(room);
        room.and_then(|room| room.held.get(peer)).is_some_and(|held| held.contains(&content.to_string()))
    }

    /// Everything a peer has said, as JSON.
    pub(crate) fn said(&self, peer: &PeerName) -> Vec<String> {
        let state = self.state();
        let by_peer = state.log.iter().filter(|(who, _)| who == peer);
        by_peer.map(|(_, message)| serde_json::to_string(message).unwrap()).collect()
    }

    /// True if the peer has reported the link.
    pub(crate) fn reported(&self, peer: &PeerName, neighbor: &PeerName, up: bool) -> bool {
        let report = ClientMessage::Link { neighbor: neighbor.clone(), up };
        self.state().log.iter().any(|(who, message)| who == peer && *message == report)
    }

    /// From now on the peer is told of no route.
    pub(crate) fn deafen(&self, peer: &PeerName) {
        self.state().deaf.insert(peer.clone());
    }

    pub(crate) fn undeafen(&self, peer: &PeerName) {
        self.state().deaf.remove(peer);
    }

    /// From now on the requester of a lost path gets another one unasked.
    pub(crate) fn mend(&self) {
        self.state().mends = true;
    }

    /// Closes a peer's connection with a code.
    pub(crate) fn close(&self, peer: &PeerName, room: &RoomName, code: u16) {
        let _ = self.state().rooms[room].connections[peer].1.send(Out::Close(code));
    }

    /// From now on the stub believes that the peer holds it.
    pub(crate) fn pretend(&self, peer: &PeerName, room: &RoomName, content: &ContentId) {
        let mut state = self.state();
        let room = state.rooms.get_mut(room).unwrap();
        room.held.entry(peer.clone()).or_default().insert(content.to_string());
    }

    /// Broadcasts a route that nobody asked for.
    pub(crate) fn broadcast(&self, room: &RoomName, path: &[PeerName]) -> RouteId {
        self.state().broadcast(room, path, None, None)
    }

    /// The operator retires a route.
    pub(crate) fn retire(&self, room: &RoomName, route: &RouteId) {
        let _ = self.state().retire(room, |id, _| id == route);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn broadcast(
        &mut self,
        room: &RoomName,
        path: &[PeerName],
        asked: Option<(&PeerName, Option<u64>)>,
        lost: Option<(&RouteId, &ContentId)>,
    ) -> RouteId {
        let deaf = self.deaf.clone();
        let state = self.rooms.get_mut(room).unwrap();
        // One route for each (requester, holder, room) while its path stays the same.
        let known = state.routes.iter().find(|(_, known)| known == path).map(|(id, _)| id.clone());
        let route = known.unwrap_or_else(|| {
            self.counter += 1;
            let route = RouteId::new(format!("e-{}", self.counter)).unwrap();
            state.routes.push((route.clone(), path.to_vec()));
            route
        });
        for (at, peer) in path.iter().enumerate() {
            let requester = at == 0;
            let message = ServerMessage::Path {
                path: if requester { path.to_vec() } else { vec![] },
                route: Some(route.clone()),
                room: Some(room.clone()),
                prev: at.checked_sub(1).map(|prev| path[prev].clone()),
                next: path.get(at + 1).cloned(),
                hops: Some((path.len() - 1 - at) as u32),
                id: asked.filter(|(who, _)| requester && *who == peer).and_then(|(_, id)| id),
                replaces: lost.filter(|_| requester).map(|(route, _)| route.clone()),
                content: lost.filter(|_| requester).map(|(_, content)| content.clone()),
            };
            if !deaf.contains(peer) {
                state.send(peer, &message);
            }
        }
        route
    }

    fn retire(
        &mut self,
        room: &RoomName,
        gone: impl Fn(&RouteId, &[PeerName]) -> bool,
    ) -> Vec<(RouteId, Vec<PeerName>)> {
        let state = self.rooms.get_mut(room).unwrap();
        let (down, kept) =
            std::mem::take(&mut state.routes).into_iter().partition(|(id, path)| gone(id, path));
        state.routes = kept;
        let down: Vec<(RouteId, Vec<PeerName>)> = down;
        for (route, path) in &down {
            for peer in path {
                state.send(peer, &ServerMessage::RouteDown { route: route.clone() });
            }
        }
        down
    }

    fn lose(&mut self, room: &RoomName, gone: impl Fn(&RouteId, &[PeerName]) -> bool) {
        for (lost, path) in self.retire(room, gone) {
            let Some((content, exclude, avoid)) = self.asked.get(&lost).cloned().filter(|_| self.mends)
            else {
                continue;
            };
            if let Some(path) = self.rooms[room].nearest_holder(&path[0], &content, &exclude, &avoid) {
                let route = self.broadcast(room, &path, None, Some((&lost, &content)));
                self.asked.insert(route, (content, exclude, avoid));
            }
        }
    }

    fn handle(&mut self, peer: &PeerName, room: &RoomName, message: ClientMessage) {
        self.log.push((peer.clone(), message.clone()));
        let state = self.rooms.get_mut(room).unwrap();
        match message {
            ClientMessage::Announce { neighbors, .. } => {
                state.announced.insert(peer.clone(), neighbors);
            }
            ClientMessage::Hold { contents, all } => {
                if all {
                    state.all.insert(peer.clone());
                }
                let held = state.held.entry(peer.clone()).or_default();
                held.extend(contents.iter().map(ToString::to_string));
            }
            ClientMessage::Drop { contents, all } => {
                if all {
                    state.all.remove(peer);
                }
                let held = state.held.entry(peer.clone()).or_default();
                for content in contents {
                    held.remove(&content.to_string());
                }
            }
            ClientMessage::Link { neighbor, up } => {
                let link = (peer.clone(), neighbor.clone());
                if up {
                    state.down.remove(&link);
                } else {
                    state.down.insert(link);
                    let ends = [peer.clone(), neighbor];
                    self.lose(room, |_, path| {
                        path.windows(2).any(|hop| hop.iter().all(|end| ends.contains(end)))
                    });
                }
            }
            ClientMessage::Use { .. } => {}
            ClientMessage::RequestPath { target, content, exclude, avoid, id } => {
                let found = match (&target, &content) {
                    (Some(target), _) => state.nearest(peer, &[], |candidate| candidate == target),
                    (None, Some(content)) => state.nearest_holder(peer, content, &exclude, &avoid),
                    (None, None) => None,
                };
                if let Some(path) = found {
                    let route = self.broadcast(room, &path, Some((peer, id)), None);
                    self.asked.extend(content.map(|content| (route, (content, exclude, avoid))));
                } else {
                    let (code, message) = (ErrorCode::NoHolder, "nobody reachable holds it".to_owned());
                    state.send(peer, &ServerMessage::Error { code, message, id, route: None });
                }
            }
        }
    }
}

impl Room {
    fn send(&self, peer: &PeerName, message: &ServerMessage) {
        if let Some((_, connection)) = self.connections.get(peer) {
            let _ = connection.send(Out::Text(serde_json::to_string(message).unwrap()));
        }
    }

    fn linked(&self, a: &PeerName, b: &PeerName) -> bool {
        let says = |a, b| self.announced.get(a).is_some_and(|list: &Vec<_>| list.contains(b));
        let down = |a: &PeerName, b: &PeerName| self.down.contains(&(a.clone(), b.clone()));
        (says(a, b) || says(b, a)) && !down(a, b) && !down(b, a)
    }

    fn nearest_holder(
        &self,
        from: &PeerName,
        content: &ContentId,
        exclude: &[PeerName],
        avoid: &[PeerName],
    ) -> Option<Vec<PeerName>> {
        let content = content.to_string();
        self.nearest(from, avoid, |peer| {
            let holds = || self.held.get(peer).is_some_and(|held| held.contains(&content));
            peer != from && !exclude.contains(peer) && (self.all.contains(peer) || holds())
        })
    }

    fn nearest(
        &self,
        from: &PeerName,
        avoid: &[PeerName],
        wanted: impl Fn(&PeerName) -> bool,
    ) -> Option<Vec<PeerName>> {
        let mut before: BTreeMap<PeerName, PeerName> = BTreeMap::new();
        let mut queue = VecDeque::from([from.clone()]);
        let mut all: Vec<_> = self.connections.keys().cloned().collect();
        all.sort();
        while let Some(at) = queue.pop_front() {
            if wanted(&at) {
                let mut path = vec![at.clone()];
                while let Some(previous) = before.get(path.last().unwrap()) {
                    path.push(previous.clone());
                }
                path.reverse();
                return Some(path);
            }
            for next in &all {
                if next != from
                    && !avoid.contains(next)
                    && !before.contains_key(next)
                    && self.linked(&at, next)
                {
                    before.insert(next.clone(), at.clone());
                    queue.push_back(next.clone());
                }
            }
        }
        None
    }
}

async fn accept(listener: tokio::net::TcpListener, state: Arc<Mutex<State>>) {
    let tasks = Rc::new(());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, _tasks) = (state.clone(), tasks.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| std::future::ready(upgrade(request, &state)));
            let _ =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

fn upgrade(
    mut request: Request<Incoming>,
    state: &Arc<Mutex<State>>,
) -> Result<Response<Empty<bytes::Bytes>>, fastwebsockets::WebSocketError> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let field = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
            .to_owned()
    };
    let (peer, room) = (PeerName::new(field("peer")).unwrap(), RoomName::new(field("room")).unwrap());
    let (mut response, socket) = fastwebsockets::upgrade::upgrade(&mut request)?;
    response.headers_mut().insert("sec-websocket-protocol", "hopcast.1".parse().unwrap());
    let state = state.clone();
    tokio::task::spawn_local(async move {
        let Ok(socket) = socket.await else { return };
        serve(FragmentCollector::new(socket), peer, room, state).await;
    });
    Ok(response)
}

async fn serve(
    mut socket: FragmentCollector<TokioIo<hyper::upgrade::Upgraded>>,
    peer: PeerName,
    room: RoomName,
    state: Arc<Mutex<State>>,
) {
    let (sender, mut queue) = mpsc::unbounded_channel();
    let mine = {
        let mut state = state.lock().unwrap();
        state.counter += 1;
        let mine = state.counter;
        let room = state.rooms.entry(room.clone()).or_default();
        room.connections.insert(peer.clone(), (mine, sender));
        room.down.retain(|(from, _)| *from != peer);
        mine
    };
    let mut ping = tokio::time::interval(Duration::from_secs(1));
    loop {
        // A frame half read may be lost here; the stub's frames are small and come whole over loopback.
        let frame = tokio::select! {
            frame = socket.read_frame() => frame,
            Some(out) = queue.recv() => {
                let frame = match out {
                    Out::Text(text) => Frame::text(Payload::Owned(text.into_bytes())),
                    Out::Close(code) => Frame::close(code, b""),
                };
                if socket.write_frame(frame).await.is_err() { break }
                continue;
            }
            _ = ping.tick() => {
                let frame = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"?"));
                if socket.write_frame(frame).await.is_err() { break }
                continue;
            }
        };
        match frame {
            Ok(frame) if frame.opcode == OpCode::Text => {
                let message: ClientMessage = serde_json::from_slice(&frame.payload).expect("a known message");
                state.lock().unwrap().handle(&peer, &room, message);
            }
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => break,
        }
    }
    let mut state = state.lock().unwrap();
    let Some(entry) = state.rooms.get_mut(&room) else { return };
    if entry.connections.get(&peer).is_some_and(|(id, _)| *id == mine) {
        entry.connections.remove(&peer);
        entry.announced.remove(&peer);
        entry.held.remove(&peer);
        entry.all.remove(&peer);
        state.lose(&room, |_, path| path.contains(&peer));
    }
}

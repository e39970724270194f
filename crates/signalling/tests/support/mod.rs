//! A server on a free loopback port, WebSocket clients and HTTP requests for the tests.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part of this")]
#![allow(missing_docs, unreachable_pub, reason = "a test's helper")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError};
use hopcast_protocol::{SignallingConfig, config::RoomConfig};
use hopcast_signalling::{config::Settings, hub::Hub, server::Server};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

/// No state that a test waits for takes this long.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

pub struct Running {
    pub address: SocketAddr,
    pub door: Option<SocketAddr>,
    pub hub: Arc<Hub>,
    pub reload: mpsc::Sender<Settings>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn open() -> Self {
        Self::with(&open_settings()).await
    }

    pub async fn with(settings: &Settings) -> Self {
        let server = Server::bind(settings).await.unwrap();
        let (address, door, hub) = (server.address(), server.door_address(), server.hub());
        let (stop, stopped) = oneshot::channel::<()>();
        let (reload, reloads) = mpsc::channel(1);
        let stopped = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server.run(stopped, reloads));
        Self { address, door, hub, reload, stop: Some(stop), task }
    }

    /// Tells the server to stop, and waits until it has.
    pub async fn stop(mut self) {
        self.begin_stop();
        soon("the server stops", self.task).await.unwrap();
    }

    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn original(&self, peer: &str, room: &str) -> Client {
        Client::join(self.address, peer, room, &[]).await.unwrap()
    }

    pub async fn hopcast(&self, peer: &str, room: &str) -> Client {
        Client::join(self.address, peer, room, &[("sec-websocket-protocol", "hopcast.1")]).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        request(self.address, "GET", path, &[]).await
    }

    pub async fn get_json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until the room has exactly these connections.
    pub async fn connected(&self, room: &str, peers: &[&str]) {
        let wanted = json!(peers);
        until("the room's connections", async || {
            let rooms = self.get_json("/api/rooms").await;
            let found =
                rooms["rooms"].as_array().unwrap().iter().find(|found| found["name"] == room).cloned();
            found.map_or(peers.is_empty(), |found| found["connected"] == wanted)
        })
        .await;
    }
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !yes().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub fn open_settings() -> Settings {
    Settings::open("127.0.0.1:0".parse().unwrap())
}

/// A configuration like `deploy` writes it.
pub fn config(rooms: Vec<RoomConfig>) -> SignallingConfig {
    SignallingConfig {
        version: 1,
        mesh: "test".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        token_key: None,
        rooms,
        gateways: Vec::new(),
        door: None,
    }
}

/// A room whose links are pairs of names.
pub fn room(name: &str, peers: &[&str], links: &[(&str, &str)]) -> RoomConfig {
    RoomConfig {
        name: name.parse().unwrap(),
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        links: links.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect(),
    }
}

pub async fn connection(address: SocketAddr) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The answer's head, its body still to come.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response<Incoming> {
    let mut sender = connection(address).await;
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::default()).unwrap();
    soon("an answer", sender.send_request(request)).await.unwrap()
}

pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let response = send(address, method, path, headers).await;
    let status = response.status();
    let body = soon("a body", response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// One WebSocket client.
pub struct Client {
    pub socket: WebSocket<TokioIo<Upgraded>>,
    pub subprotocol: Option<String>,
}

impl Client {
    pub async fn join(
        address: SocketAddr,
        peer: &str,
        room: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, WebSocketError> {
        Self::open(address, &format!("/ws?peer={peer}&room={room}"), headers).await
    }

    pub async fn open(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, WebSocketError> {
        let stream = TcpStream::connect(address).await?;
        let mut request = Request::builder()
            .uri(target)
            .header("host", address.to_string())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", fastwebsockets::handshake::generate_key())
            .header("sec-websocket-version", "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let executor = TokioExecutor::new();
        let joined = fastwebsockets::handshake::client(&executor, request, stream);
        let (socket, response) = soon("a handshake", joined).await?;
        let subprotocol = response.headers().get("sec-websocket-protocol");
        let subprotocol = subprotocol.map(|value| value.to_str().unwrap().to_owned());
        Ok(Self { socket, subprotocol })
    }

    pub async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        let frame = Frame::text(Payload::Owned(text.as_bytes().to_vec()));
        soon("a write", self.socket.write_frame(frame)).await.unwrap();
    }

    pub async fn frame(&mut self) -> Result<(OpCode, Vec<u8>), WebSocketError> {
        let frame = soon("a frame", self.socket.read_frame()).await?;
        Ok((frame.opcode, frame.payload.to_vec()))
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        loop {
            let (opcode, payload) = self.frame().await.unwrap();
            match opcode {
                OpCode::Text => return serde_json::from_slice(&payload).unwrap(),
                OpCode::Ping | OpCode::Pong => {}
                other => panic!("{other:?} {payload:?} instead of a message"),
            }
        }
    }

    /// The next message of a type; others are skipped.
    pub async fn next(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Sends something that is answered with an error, and waits for it: everything before has been worked on then.
    pub async fn settle(&mut self) {
        self.send(&json!({"type": "settle"})).await;
        let mut code = Value::Null;
        while code != "unknown_type" {
            code = self.next("error").await["code"].clone();
        }
    }

    /// The close code; messages before it are skipped.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame().await.unwrap();
            if opcode == OpCode::Close {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }

    pub async fn announce(&mut self, peer: &str, room: &str, neighbors: &[&str]) {
        self.send(&json!({"type": "announce", "peer": peer, "room": room, "neighbors": neighbors})).await;
    }

    /// A path to a peer, or the error.
    pub async fn ask(&mut self, target: &str) -> Value {
        self.send(&json!({"type": "request_path", "target": target})).await;
        self.answer().await
    }

    /// The answer to a request of this client's own; what it gets as a hop of others' paths, or unasked, is skipped.
    pub async fn answer(&mut self) -> Value {
        loop {
            let message = self.message().await;
            let unasked = message["replaces"].is_string()
                || message["type"] == "route_down"
                || message["route"].is_string() && message["type"] == "error";
            let answers = message["type"] == "error" || message["path"].is_array();
            if answers && !unasked {
                return message;
            }
        }
    }
}

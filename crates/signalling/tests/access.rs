//! Who may enter, how many, how long a message may be, and what happens to who stays silent or goes away.

mod support;

use fastwebsockets::{Frame, OpCode, Payload};
use hopcast_protocol::{
    MeshSecret,
    limits::{MESSAGE_BYTES, NEIGHBORS, SUBPROTOCOL},
};
use hopcast_signalling::{config::Settings, frame::CLOSE_TOO_LARGE};
use hyper::StatusCode;
use serde_json::json;
use support::{Client, Running, config, open_settings, request, room, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

async fn status(server: &Running, target: &str, headers: &[(&str, &str)]) -> StatusCode {
    request(server.address, "GET", target, headers).await.0
}

#[tokio::test]
async fn missing_or_malformed_parameters_get_400_with_a_sentence() {
    let server = Running::open().await;
    for target in ["/ws", "/ws?peer=a", "/ws?room=rock", "/ws?peer=&room=rock", "/ws?peer=a%20b&room=rock"] {
        let (status, text) = request(server.address, "GET", target, &UPGRADE).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{target}");
        assert!(text.contains("the parameter `"), "{text}");
    }
    let long = format!("/ws?peer={}&room=rock", "x".repeat(64));
    assert!(request(server.address, "GET", &long, &UPGRADE).await.1.contains("64 bytes"));
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_so() {
    let server = Running::open().await;
    let target = "/ws?peer=a&room=rock";
    assert_eq!(status(&server, target, &[]).await, StatusCode::UPGRADE_REQUIRED);
    let mut old = UPGRADE;
    old[3].1 = "8";
    assert_eq!(status(&server, target, &old).await, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(status(&server, target, &[UPGRADE[0], UPGRADE[1], UPGRADE[3]]).await, StatusCode::BAD_REQUEST);
    for key in ["dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhl IHNhbXBsZSBub25jZQ==", "=="] {
        let mut short = UPGRADE;
        short[2].1 = key;
        assert_eq!(status(&server, target, &short).await, StatusCode::BAD_REQUEST, "{key}");
    }
    let posted = request(server.address, "POST", target, &UPGRADE).await.0;
    assert_eq!(posted, StatusCode::METHOD_NOT_ALLOWED);
    server.connected("rock", &[]).await;
}

#[tokio::test]
async fn only_the_known_subprotocol_is_selected() {
    let server = Running::open().await;
    let offer = [("sec-websocket-protocol", "mqtt, hopcast.1")];
    let client = Client::join(server.address, "a", "rock", &offer).await.unwrap();
    assert_eq!(client.subprotocol.as_deref(), Some(SUBPROTOCOL));
    let offer = [("sec-websocket-protocol", "mqtt, hopcast.10")];
    let client = Client::join(server.address, "a", "rock", &offer).await.unwrap();
    assert_eq!(client.subprotocol, None);
}

#[tokio::test]
async fn a_token_admits_one_peer_to_one_room() {
    let key = MeshSecret([7; 32]).token_key();
    let mut config = config(vec![room("rock", &["a", "b"], &[("a", "b")]), room("soul", &["a"], &[])]);
    config.token_key = Some(key.clone());
    let server = Running::with(&Settings::from_config(config).unwrap()).await;
    let token = |peer: &str, room: &str| {
        format!("Bearer {}", key.token(&peer.parse().unwrap(), &room.parse().unwrap()))
    };
    let enter = async |target: &str, authorization: &str| {
        let mut headers = UPGRADE.to_vec();
        headers.push(("authorization", authorization));
        status(&server, target, &headers).await
    };
    let rock_a = "/ws?peer=a&room=rock";
    assert_eq!(status(&server, rock_a, &UPGRADE).await, StatusCode::UNAUTHORIZED);
    for wrong in [
        token("b", "rock"),
        token("a", "soul"),
        "Bearer 00".into(),
        token("a", "rock").replace("Bearer", "Basic"),
    ] {
        assert_eq!(enter(rock_a, &wrong).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    assert_eq!(enter(rock_a, &token("a", "rock")).await, StatusCode::SWITCHING_PROTOCOLS);
    // A right token for somebody whom the file does not have there.
    assert_eq!(enter("/ws?peer=b&room=soul", &token("b", "soul")).await, StatusCode::FORBIDDEN);
    assert_eq!(enter("/ws?peer=a&room=jazz", &token("a", "jazz")).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn connections_rooms_and_peers_are_bounded() {
    let mut settings = open_settings();
    settings.limits.rooms = 2;
    settings.limits.peers = 3;
    let server = Running::with(&settings).await;
    let mut a = server.original("a", "rock").await;
    let soul = server.original("a", "soul").await;
    assert_eq!(status(&server, "/ws?peer=a&room=jazz", &UPGRADE).await, StatusCode::SERVICE_UNAVAILABLE);
    drop(soul);
    server.connected("soul", &[]).await;
    let _jazz = server.original("a", "jazz").await; // a room that is empty makes place

    a.announce("a", "rock", &["b", "c", "d"]).await;
    assert_eq!(a.message().await["code"], "full");
    a.announce("a", "rock", &["b", "c"]).await;
    a.settle().await;
    let _b = server.original("b", "rock").await; // known by the announcement
    assert_eq!(status(&server, "/ws?peer=d&room=rock", &UPGRADE).await, StatusCode::SERVICE_UNAVAILABLE);

    let mut settings = open_settings();
    settings.limits.connections = 2;
    let server = Running::with(&settings).await;
    let first = server.original("a", "rock").await;
    let _second = server.original("b", "rock").await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    drop(first);
    until("a free place", async || Client::join(server.address, "c", "rock", &[]).await.is_ok()).await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_answered_and_the_connection_closed() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    let fits = format!("{{\"type\":\"{}\"}}", "x".repeat(MESSAGE_BYTES - 11));
    assert_eq!(fits.len(), MESSAGE_BYTES);
    a.send_text(&fits).await;
    assert_eq!(a.message().await["code"], "unknown_type");
    a.send_text(&"x".repeat(MESSAGE_BYTES + 1)).await;
    assert_eq!(a.message().await["code"], "too_large");
    assert_eq!(a.closed().await, CLOSE_TOO_LARGE);

    // The same in fragments, none of which is too long by itself.
    let mut a = server.original("a", "rock").await;
    for n in 0..3 {
        let opcode = if n == 0 { OpCode::Text } else { OpCode::Continuation };
        let part = Payload::Owned(vec![b'x'; MESSAGE_BYTES / 2]);
        a.socket.write_frame(Frame::new(false, opcode, None, part)).await.unwrap();
    }
    assert_eq!(a.message().await["code"], "too_large");
    assert_eq!(a.closed().await, CLOSE_TOO_LARGE);

    // A list beyond its bound, and a name: answered, and the connection stays.
    let mut a = server.original("a", "rock").await;
    let many: Vec<_> = (0..=NEIGHBORS).map(|n| format!("p{n}")).collect();
    a.send(&json!({"type": "announce", "peer": "a", "room": "rock", "neighbors": many})).await;
    assert_eq!(a.message().await["code"], "too_large");
    a.announce("a", "rock", &[&"x".repeat(64)]).await;
    assert_eq!(a.message().await["code"], "too_large");
    assert_eq!(a.ask("a").await["path"], json!(["a"]));
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    let text = br#"{"type":"request_path","target":"a"}"#;
    for (at, part) in text.chunks(10).enumerate() {
        let opcode = if at == 0 { OpCode::Text } else { OpCode::Continuation };
        let last = (at + 1) * 10 >= text.len();
        a.socket.write_frame(Frame::new(last, opcode, None, part.to_vec().into())).await.unwrap();
        let ping = Frame::new(true, OpCode::Ping, None, vec![at as u8].into());
        a.socket.write_frame(ping).await.unwrap();
    }
    assert_eq!(a.message().await, json!({"type": "path", "path": ["a"]}));
}

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_not_lost() {
    let server = Running::open().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let text = br#"{"type":"request_path","target":"a"}"#;
    let mut bytes =
        b"GET /ws?peer=a&room=rock HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            .to_vec();
    bytes.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]); // masked with zeros
    bytes.extend(text);
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    support::soon("the path", async {
        while !answer.ends_with(br#"{"type":"path","path":["a"]}"#) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    })
    .await;
    // The key's example of RFC 6455 1.3.
    assert!(String::from_utf8_lossy(&answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_close_is_gone_at_once() {
    let server = Running::open().await;
    let a = server.original("a", "rock").await;
    let _b = server.original("b", "rock").await;
    server.connected("rock", &["a", "b"]).await;
    drop(a.socket.into_inner()); // as when its process is killed: the kernel closes, no close frame
    server.connected("rock", &["b"]).await;
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    a.socket.set_auto_pong(false);
    assert!(a.frame().await.unwrap().0 == OpCode::Ping);
    assert!(a.frame().await.is_err(), "cut without a word: it would not be heard");
    server.connected("rock", &[]).await;
    assert!(server.get("/metrics").await.1.contains("connections_cut_total{reason=\"dead\"} 1"));
}

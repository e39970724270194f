//! The HTTP side: health, metrics, rooms, graph, path, events, the operator.

mod support;

use hopcast_protocol::MeshSecret;
use hopcast_signalling::config::Settings;
use http_body_util::BodyExt as _;
use hyper::{StatusCode, body::Incoming};
use serde_json::{Value, json};
use support::{Client, Running, config, open_settings, request, room, send, soon, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A reader of `/api/events`.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    async fn open(server: &Running) -> Self {
        let response = send(server.address, "GET", "/api/events", &[]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut reader = Self { body: response.into_body(), text: String::new() };
        // The first comment: it is subscribed now.
        reader.block().await;
        reader
    }

    /// Up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame = soon("an event", self.body.frame()).await?;
            self.text.push_str(std::str::from_utf8(frame.ok()?.data_ref()?).unwrap());
        }
    }

    async fn event(&mut self) -> (String, Value) {
        loop {
            let block = self.block().await.expect("an event");
            if let Some((name, data)) = block.split_once('\n') {
                let name = name.strip_prefix("event: ").unwrap();
                return (
                    name.to_owned(),
                    serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
                );
            }
        }
    }
}

#[tokio::test]
async fn health_and_unknown_paths() {
    let server = Running::open().await;
    assert_eq!(server.get("/healthz").await, (StatusCode::OK, "ok".into()));
    assert_eq!(server.get("/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(request(server.address, "POST", "/healthz", &[]).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(request(server.address, "HEAD", "/healthz", &[]).await, (StatusCode::OK, String::new()));
}

#[tokio::test]
async fn a_request_has_one_host() {
    let server = Running::open().await;
    let status = async |head: &str| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("GET /healthz {head}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        soon("a status", stream.read_exact(&mut answer)).await.unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    };
    assert_eq!(status("HTTP/1.1\r\nHost:").await, "HTTP/1.1 200");
    assert_eq!(status("HTTP/1.1").await, "HTTP/1.1 400");
    assert_eq!(status("HTTP/1.1\r\nHost: a\r\nHost: a").await, "HTTP/1.1 400");
    assert_eq!(status("HTTP/1.0").await, "HTTP/1.0 200");
}

#[tokio::test]
async fn rooms_graph_and_path_show_the_rooms_as_they_are() {
    let config =
        config(vec![room("rock", &["a", "b", "c"], &[("b", "a"), ("b", "c")]), room("soul", &["a"], &[])]);
    let server = Running::with(&Settings::from_config(config).unwrap()).await;
    let _a = server.hopcast("a", "rock").await;
    let mut b = server.hopcast("b", "rock").await;
    assert_eq!(
        server.get_json("/api/rooms").await,
        json!({"rooms": [
            {"name": "rock", "peers": 3, "links": 2, "connected": ["a", "b"]},
            {"name": "soul", "peers": 1, "links": 0, "connected": []},
        ]})
    );
    b.send(&json!({"type": "link", "neighbor": "c", "up": false})).await;
    b.settle().await;
    assert_eq!(
        server.get_json("/api/graph?room=rock").await,
        json!({"rooms": [{
            "name": "rock",
            "peers": [
                {"name": "a", "connected": true},
                {"name": "b", "connected": true},
                {"name": "c", "connected": false},
            ],
            "links": [{"a": "a", "b": "b", "up": true}, {"a": "b", "b": "c", "up": false}],
        }]})
    );
    assert_eq!(server.get_json("/api/graph").await["rooms"].as_array().unwrap().len(), 2);
    let (status, dot) = server.get("/api/graph?format=dot").await;
    assert_eq!(status, StatusCode::OK);
    assert!(dot.starts_with("graph hopcast {") && dot.contains("\"rock/a\" -- \"rock/b\";"), "{dot}");
    assert_eq!(server.get("/api/graph?format=png").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/api/graph?room=jazz").await.0, StatusCode::NOT_FOUND);

    assert_eq!(server.get_json("/api/path?room=rock&from=a&to=b").await, json!({"path": ["a", "b"]}));
    for (query, status, code) in [
        ("room=rock&from=a&to=c", StatusCode::NOT_FOUND, "unknown_peer"),
        ("room=jazz&from=a&to=b", StatusCode::NOT_FOUND, "unknown_room"),
        ("room=rock&from=a", StatusCode::BAD_REQUEST, "bad_message"),
    ] {
        let (found, text) = server.get(&format!("/api/path?{query}")).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{query}");
        assert!(answer["message"].is_string());
    }
    let _c = server.hopcast("c", "rock").await;
    let (_, text) = server.get("/api/path?room=rock&from=a&to=c").await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["code"], "no_path", "the report still stands");
}

#[tokio::test]
async fn events_tell_what_happens_and_asking_over_http_tells_nothing() {
    let server = Running::open().await;
    let mut events = Reader::open(&server).await;
    let mut a = server.hopcast("a", "rock").await;
    let mut b = server.hopcast("b", "rock").await;
    a.announce("a", "rock", &["b"]).await;
    a.settle().await;
    server.get_json("/api/path?room=rock&from=a&to=b").await;
    let content = format!("sha256:{}", "0".repeat(64));
    b.send(&json!({"type": "hold", "contents": [content]})).await;
    b.settle().await;
    a.send(&json!({"type": "request_path", "content": content})).await;
    let route = a.answer().await["route"].clone();
    drop(b);
    let wanted = [
        ("peer", json!({"peer": "a", "room": "rock", "connected": true})),
        ("peer", json!({"peer": "b", "room": "rock", "connected": true})),
        ("link", json!({"room": "rock", "a": "a", "b": "b", "up": true})),
        ("path", json!({"route": route, "room": "rock", "path": ["a", "b"], "content": content})),
        ("route_down", json!({"route": route, "room": "rock"})),
        ("peer", json!({"peer": "b", "room": "rock", "connected": false})),
    ];
    for (name, data) in wanted {
        assert_eq!(events.event().await, (name.to_owned(), data));
    }
}

#[tokio::test]
async fn a_reader_of_events_that_takes_nothing_for_too_long_loses_its_place() {
    let mut settings = open_settings();
    settings.limits.event_readers = 1;
    settings.limits.stall = std::time::Duration::from_millis(300);
    let server = Running::with(&settings).await;
    let stuck = send(server.address, "GET", "/api/events", &[]).await;
    assert_eq!(server.get("/api/events").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let long = "a".repeat(60);
    let mut peer = server.original(&long, &long).await;
    // Events fill the buffers on the way to it; then the clock runs.
    until("its place", async || {
        for _ in 0..1000 {
            peer.send(&json!({"type": "request_path", "target": long})).await;
        }
        for _ in 0..1000 {
            assert_eq!(peer.message().await["path"], json!([long]));
        }
        send(server.address, "GET", "/api/events", &[]).await.status() == StatusCode::OK
    })
    .await;
    drop(stuck);
}

#[tokio::test]
async fn readers_of_events_are_bounded_and_one_that_falls_behind_is_told() {
    let mut settings = open_settings();
    settings.limits.event_readers = 2;
    settings.limits.stall = std::time::Duration::from_mins(5); // here it shall only fall behind
    let server = Running::with(&settings).await;
    let mut behind = Reader::open(&server).await;
    let other = Reader::open(&server).await;
    assert_eq!(server.get("/api/events").await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop(other);
    until("a place", async || {
        send(server.address, "GET", "/api/events", &[]).await.status() == StatusCode::OK
    })
    .await;
    // One that does not read: more happens than its socket and the server keep for it.
    let mut a = server.original("a", "rock").await;
    let mut seen = 0_u64;
    for _ in 0..60 {
        for _ in 0..1000 {
            a.send(&json!({"type": "request_path", "target": "a"})).await;
        }
        for _ in 0..1000 {
            a.message().await;
        }
    }
    loop {
        let (name, data) = behind.event().await;
        if name == "lagged" {
            assert!(data["missed"].as_u64().unwrap() > 0);
            break;
        }
        seen += 1;
        assert!(seen < 60_001, "nothing was missed");
    }
}

#[tokio::test]
async fn the_operator_retires_a_route_and_nobody_else_does() {
    let secret = MeshSecret([7; 32]);
    let mut config = config(vec![room("rock", &["a", "b"], &[("a", "b")])]);
    config.token_key = Some(secret.token_key());
    let server = Running::with(&Settings::from_config(config).unwrap()).await;
    let enter = async |peer: &str| {
        let token = secret.token_key().token(&peer.parse().unwrap(), &"rock".parse().unwrap());
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "hopcast.1")];
        Client::join(server.address, peer, "rock", &headers).await.unwrap()
    };
    let (mut a, mut b) = (enter("a").await, enter("b").await);
    let route = a.ask("b").await["route"].as_str().unwrap().to_owned();
    let target = format!("/api/routes/{route}");
    let peers =
        format!("Bearer {}", secret.token_key().token(&"a".parse().unwrap(), &"rock".parse().unwrap()));
    let operators = format!("Bearer {}", secret.operator_token());
    let delete = async |target: &str, bearer: &str| {
        request(server.address, "DELETE", target, &[("authorization", bearer)]).await.0
    };
    assert_eq!(request(server.address, "DELETE", &target, &[]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(delete(&target, &peers).await, StatusCode::UNAUTHORIZED);
    assert_eq!(delete("/api/routes/ffffffff-1", &operators).await, StatusCode::NOT_FOUND);
    assert_eq!(delete(&target, &operators).await, StatusCode::NO_CONTENT);
    for client in [&mut a, &mut b] {
        assert_eq!(client.next("route_down").await["route"], route.as_str());
    }
    assert_eq!(delete(&target, &operators).await, StatusCode::NOT_FOUND, "it is gone");
    assert_ne!(a.ask("b").await["route"], route.as_str());

    let open = Running::open().await;
    let answer = request(open.address, "DELETE", &target, &[("authorization", &operators)]).await.0;
    assert_eq!(answer, StatusCode::FORBIDDEN, "an open server has no operator");
}

#[tokio::test]
async fn no_name_that_a_client_chooses_becomes_a_label() {
    let server = Running::open().await;
    let mut a = server.original("zanzibar", "timbuktu").await;
    a.announce("zanzibar", "timbuktu", &["wagadugu"]).await;
    a.settle().await;
    a.ask("wagadugu").await;
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("hopcast_signalling_errors_total{code=\"unknown_peer\"} 1"), "{text}");
    for name in ["zanzibar", "timbuktu", "wagadugu", "settle"] {
        assert!(!text.contains(name), "{name} is in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for (accept, kind) in
        [("*/*", "text/plain; version=0.0.4"), ("application/openmetrics-text;q=1", "application/open")]
    {
        let response = send(server.address, "GET", "/metrics", &[("accept", accept)]).await;
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind), "{accept}");
    }
}

//! The door, in front of small HTTP servers that stand for peers.

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hopcast_protocol::config::DoorConfig;
use hopcast_signalling::config::{Limits, Settings};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use support::{Running, config, request, room, send, soon, until};
use tokio::{net::TcpListener, sync::Semaphore};

/// One chunk of the endless body.
const CHUNK: usize = 64 << 10;

/// A peer that echoes what it was asked, and streams without end at `/endless`, as long as somebody takes it.
async fn peer(name: &'static str, sent: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request: Request<Incoming>| {
        let sent = sent.clone();
        async move {
            let asked = format!(
                "{name} {} {} {:?} {:?}",
                request.method(),
                request.uri(),
                request.headers().get("range"),
                request.headers().get("connection"),
            );
            let body: UnsyncBoxBody<Bytes, Infallible> = if request.uri().path() == "/endless" {
                let chunks = stream::repeat(Bytes::from(vec![b'x'; CHUNK])).map(move |chunk| {
                    sent.add_permits(1);
                    Ok(Frame::data(chunk))
                });
                StreamBody::new(chunks).boxed_unsync()
            } else {
                Full::from(asked).boxed_unsync()
            };
            let response = Response::builder()
                .status(StatusCode::PARTIAL_CONTENT)
                .header("via", "1.1 peer-1, 1.1 peer-2")
                .header("etag", "\"abc\"")
                .body(body);
            Ok::<_, Infallible>(response.unwrap())
        }
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer.clone()));
            tokio::spawn(connection);
        }
    });
    address
}

async fn door(peers: &[(&str, SocketAddr)], connections: usize) -> Running {
    door_with(peers, |limits| limits.door_connections = connections).await
}

async fn door_with(peers: &[(&str, SocketAddr)], change: impl FnOnce(&mut Limits)) -> Running {
    let mut config = config(vec![room("rock", &["peer-1", "peer-2"], &[("peer-1", "peer-2")])]);
    let endpoint = |(name, address): &(&str, SocketAddr)| (name.parse().unwrap(), address.to_string());
    config.door = Some(DoorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: peers.iter().map(endpoint).collect(),
    });
    let mut settings = Settings::from_config(config).unwrap();
    change(&mut settings.limits);
    Running::with(&settings).await
}

#[tokio::test]
async fn a_request_reaches_its_peer_and_the_answer_comes_back_unchanged() {
    let sent = Arc::new(Semaphore::new(0));
    let peers = [("peer-1", peer("one", sent.clone()).await), ("peer-2", peer("two", sent).await)];
    let server = door(&peers, 16).await;
    let door = server.door.unwrap();
    let headers = [("range", "bytes=5-"), ("connection", "x-mine"), ("x-mine", "1")];
    let response = send(door, "GET", "/p/peer-2/hls/demo/master.m3u8?a=b", &headers).await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.headers()["via"], "1.1 peer-1, 1.1 peer-2");
    assert_eq!(response.headers()["etag"], "\"abc\"");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"two GET /hls/demo/master.m3u8?a=b Some("bytes=5-") None"#);
    assert!(request(door, "GET", "/p/peer-1/", &[]).await.1.starts_with("one GET / "));
    let response = send(door, "GET", "/p/peer-1", &[]).await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()["location"], "/p/peer-1/");
}

#[tokio::test]
async fn the_page_lists_the_peers_and_others_are_404() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let server = door(&[("peer-10", nowhere), ("peer-2", nowhere)], 16).await;
    let door = server.door.unwrap();
    let (status, page) = request(door, "GET", "/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let places = ["<a href=\"/p/peer-2/\">", "<a href=\"/p/peer-10/\">"].map(|link| page.find(link).unwrap());
    assert!(places[0] < places[1], "in the order of numbers: {page}");
    for path in ["/p/peer-3/", "/p/", "/elsewhere"] {
        assert_eq!(request(door, "GET", path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, text) = request(door, "GET", "/p/peer-2/", &[]).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.starts_with("peer-2 does not answer at 127.0.0.1:1: "), "{text}");
    // The server's own port is no door, and the door no server.
    assert_eq!(server.get("/p/peer-2/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(request(door, "GET", "/api/rooms", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_player_that_does_not_read_stops_the_peer_and_one_that_goes_frees_it() {
    let sent = Arc::new(Semaphore::new(0));
    let server = door(&[("peer-1", peer("one", sent.clone()).await)], 2).await;
    let door = server.door.unwrap();
    let response = send(door, "GET", "/p/peer-1/endless", &[]).await;
    // The peer is asked for more until every buffer on the way is full; then it stands still.
    let mut last = 0;
    until("the stream stands still", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::mem::replace(&mut last, sent.available_permits()) == sent.available_permits()
    })
    .await;
    assert!(last > 0 && last * CHUNK < 64 << 20, "{last} chunks are somewhere between");
    // Reading goes on where it stood.
    let mut body = response.into_body();
    let mut read = 0;
    while read < (last + 10) * CHUNK {
        let frame = soon("more", body.frame()).await.unwrap().unwrap();
        read += frame.data_ref().unwrap().len();
    }
    assert!(sent.available_permits() > last);
    // Two players at a time; the third is told so, until one goes.
    let second = send(door, "GET", "/p/peer-1/endless", &[]).await;
    assert_eq!(second.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(request(door, "GET", "/p/peer-1/", &[]).await.0, StatusCode::SERVICE_UNAVAILABLE);
    drop((body, second));
    until("a place", async || request(door, "GET", "/p/peer-1/", &[]).await.0 == StatusCode::PARTIAL_CONTENT)
        .await;
}

#[tokio::test]
async fn a_player_that_takes_nothing_for_too_long_loses_its_place_and_a_slow_one_keeps_it() {
    let sent = Arc::new(Semaphore::new(0));
    let address = peer("one", sent.clone()).await;
    // Longer than this process may be kept waiting on a busy machine.
    let stall = Duration::from_secs(3);
    let server = door_with(&[("peer-1", address)], |limits| {
        limits.door_connections = 1;
        limits.door_stall = stall;
    })
    .await;
    let door = server.door.unwrap();
    // It reads now and then, less than what waits for it, for longer than it may stand still, and more than every buffer
    // on the way has room for.
    let begun = Instant::now();
    let mut body = send(door, "GET", "/p/peer-1/endless", &[]).await.into_body();
    let mut read = 0;
    while read < 16 << 20 || begun.elapsed() < stall {
        read += soon("more", body.frame()).await.unwrap().unwrap().data_ref().unwrap().len();
        if read % (1 << 20) < CHUNK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(
        request(door, "GET", "/", &[]).await.0,
        StatusCode::SERVICE_UNAVAILABLE,
        "it has the only place"
    );
    // Then it stops.
    until("its place", async || request(door, "GET", "/", &[]).await.0 == StatusCode::OK).await;
    let end = soon("the end", async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, hyper::Error>(())
    });
    assert!(end.await.is_err(), "cut, not ended as if all had come");
}

#[tokio::test]
async fn other_peers_are_taken_over_from_a_changed_file() {
    let sent = Arc::new(Semaphore::new(0));
    let address = peer("one", sent).await;
    let server = door(&[("peer-1", "127.0.0.1:1".parse().unwrap())], 16).await;
    let door = server.door.unwrap();
    let mut config = config(vec![room("rock", &["peer-1"], &[])]);
    config.door =
        Some(DoorConfig { listen: door, peers: vec![("peer-1".parse().unwrap(), address.to_string())] });
    server.reload.send(Settings::from_config(config).unwrap()).await.unwrap();
    until("the other endpoint", async || {
        request(door, "GET", "/p/peer-1/", &[]).await.0 == StatusCode::PARTIAL_CONTENT
    })
    .await;
}

//! A client of the original, written from SEED.md alone: it knows `announce`, `request_path` and `path`, offers no
//! subprotocol, and would not understand anything else.

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket};
use hopcast_signalling::{config::Settings, server::Server};
use http_body_util::Empty;
use hyper::{Request, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

/// One peer container's agent.
struct Agent {
    socket: WebSocket<TokioIo<Upgraded>>,
}

impl Agent {
    async fn connect(address: &str, peer: &str, room: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let request = Request::get(format!("http://{address}/ws?peer={peer}&room={room}"))
            .header("Host", address)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
            .header("Sec-WebSocket-Version", "13")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (socket, response) =
            fastwebsockets::handshake::client(&TokioExecutor::new(), request, stream).await.unwrap();
        assert!(!response.headers().contains_key("Sec-WebSocket-Protocol"), "none was offered");
        Self { socket }
    }

    async fn write(&mut self, text: &str) {
        self.socket.write_frame(Frame::text(Payload::Borrowed(text.as_bytes()))).await.unwrap();
    }

    async fn read(&mut self) -> String {
        let frame = timeout(std::time::Duration::from_secs(20), self.socket.read_frame()).await;
        let frame = frame.expect("a message within 20 s").unwrap();
        assert!(frame.opcode == OpCode::Text, "{:?}", frame.opcode);
        String::from_utf8(frame.payload.to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_path_that_breaks_is_broadcast_anew_without_asking() {
    let server = Server::bind(&Settings::open("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = server.address().to_string();
    let (_reload, reloads) = mpsc::channel(1);
    tokio::spawn(server.run(std::future::pending(), reloads));
    let links = [
        ("peer-1", r#"["peer-6","peer-18"]"#),
        ("peer-30", r#"["peer-6","peer-18"]"#),
        ("peer-6", "[]"),
        ("peer-18", "[]"),
    ];
    let mut agents = std::collections::BTreeMap::new();
    for (peer, neighbors) in links {
        let mut agent = Agent::connect(&address, peer, "rock").await;
        agent
            .write(&format!(r#"{{"type":"announce","peer":"{peer}","room":"rock","neighbors":{neighbors}}}"#))
            .await;
        agent.write(&format!(r#"{{"type":"request_path","target":"{peer}"}}"#)).await;
        assert_eq!(agent.read().await, format!(r#"{{"type":"path","path":["{peer}"]}}"#));
        agents.insert(peer, agent);
    }
    let over = |relay: &str| format!(r#"{{"type":"path","path":["peer-1","{relay}","peer-30"]}}"#);
    agents.get_mut("peer-1").unwrap().write(r#"{"type":"request_path","target":"peer-30"}"#).await;
    let first = agents.get_mut("peer-1").unwrap().read().await;
    let (relay, other) = if first == over("peer-6") { ("peer-6", "peer-18") } else { ("peer-18", "peer-6") };
    assert_eq!(first, over(relay));
    assert_eq!(agents.get_mut("peer-30").unwrap().read().await, first);
    drop(agents.remove(relay));
    for peer in ["peer-1", other, "peer-30"] {
        assert_eq!(agents.get_mut(peer).unwrap().read().await, over(other), "{peer}");
    }
}

#[tokio::test]
async fn the_example_of_the_readme_works_to_the_byte() {
    let server = Server::bind(&Settings::open("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = server.address().to_string();
    let (_reload, reloads) = mpsc::channel(1);
    tokio::spawn(server.run(std::future::pending(), reloads));

    let links = [
        ("peer-1", r#"["peer-6"]"#),
        ("peer-6", r#"["peer-18"]"#),
        ("peer-18", r#"["peer-30"]"#),
        ("peer-30", "[]"),
        ("peer-31", "null"), // what Go makes of an empty list
    ];
    let mut agents = Vec::new();
    for (peer, neighbors) in links {
        let mut agent = Agent::connect(&address, peer, "rock").await;
        agent
            .write(&format!(r#"{{"type":"announce","peer":"{peer}","room":"rock","neighbors":{neighbors}}}"#))
            .await;
        // There is no positive answer; the one to a path to oneself says that the announcement was read.
        agent.write(&format!(r#"{{"type":"request_path","target":"{peer}"}}"#)).await;
        assert_eq!(agent.read().await, format!(r#"{{"type":"path","path":["{peer}"]}}"#));
        agents.push(agent);
    }
    agents[0].write(r#"{"type":"request_path","target":"peer-30"}"#).await;
    let expected = r#"{"type":"path","path":["peer-1","peer-6","peer-18","peer-30"]}"#;
    for agent in &mut agents[..4] {
        assert_eq!(agent.read().await, expected, "every peer on the path gets the same");
    }
    // Who is not on the path got nothing: its next message is the answer to its own request.
    agents[4].write(r#"{"type":"request_path","target":"peer-31"}"#).await;
    assert_eq!(agents[4].read().await, r#"{"type":"path","path":["peer-31"]}"#);
}

//! The eleven faults that were found in the original by running it (numbered as there), each shown not to be ours.

mod support;

use std::{collections::HashSet, sync::Arc, time::Duration};

use hopcast_protocol::{PeerName, limits::CLOSE_REPLACED};
use hopcast_signalling::core::{ConnectionId, Cut, Dialect, Epoch, Output, Outputs, Policy, Room};
use serde_json::json;
use support::{Client, Running, open_settings, soon};

/// A room without sockets.
struct Bare {
    room: Room,
    out: Outputs,
}

impl Bare {
    fn new() -> Self {
        let policy = Policy { peers: 100_000, ..Policy::default() };
        let room = Room::new("rock".parse().unwrap(), policy, Arc::new(Epoch::new("e")));
        Self { room, out: Outputs::default() }
    }

    fn join(&mut self, number: u64, dialect: Dialect) {
        let peer: PeerName = format!("peer-{number}").parse().unwrap();
        self.room.connect(ConnectionId(number), &peer, dialect, Duration::ZERO, &mut self.out).unwrap();
    }

    fn say(&mut self, number: u64, message: &serde_json::Value) -> Vec<Output> {
        self.out.frames.clear();
        self.room.message(
            ConnectionId(number),
            message.to_string().as_bytes(),
            Duration::ZERO,
            &mut self.out,
        );
        std::mem::take(&mut self.out.frames)
    }

    fn announce(&mut self, number: u64, neighbors: impl IntoIterator<Item = u64>) {
        let names: Vec<_> = neighbors.into_iter().map(|n| format!("peer-{n}")).collect();
        let peer = format!("peer-{number}");
        let said = json!({"type": "announce", "peer": peer, "room": "rock", "neighbors": names});
        assert_eq!(self.say(number, &said), [], "an announcement has no positive answer");
    }

    fn way(&mut self, from: u64, to: u64) -> Option<Vec<String>> {
        let [from, to] = [from, to].map(|n| format!("peer-{n}").parse().unwrap());
        let way = self.room.way(&from, &to).ok()?;
        Some(way.path.iter().map(ToString::to_string).collect())
    }
}

/// Previous, next, and four on: the original's own neighbour lists.
fn original_neighbors(n: u64, of: u64) -> [u64; 3] {
    [(n + of - 2) % of + 1, n % of + 1, (n + 3) % of + 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_01_a_slow_reader_is_dropped_and_holds_up_nobody() {
    let mut settings = open_settings();
    settings.limits.outbox.frames = 64;
    let server = Running::with(&settings).await;
    let long = "x".repeat(60);
    let mut asker = server.original("a", "rock").await;
    let mut stuck = server.original(&long, "rock").await;
    asker.announce("a", "rock", &[&long]).await;
    // `stuck` never reads. Each path that `a` asks for goes to both of them; the sockets' buffers fill, then the queue, well
    // before it has been silent for too long: so several at a time.
    let mut answered = 0_u32;
    'dropped: loop {
        for _ in 0..16 {
            asker.send(&json!({"type": "request_path", "target": long})).await;
        }
        for _ in 0..16 {
            let answer = asker.message().await;
            if answer["type"] == "error" {
                assert_eq!(answer["code"], "unknown_peer", "{answer}");
                break 'dropped;
            }
            assert_eq!(answer["path"], json!(["a", long]));
        }
        answered += 16;
        assert!(answered < 10_000_000, "the slow reader is never dropped");
    }
    assert!(
        server.get("/metrics").await.1.contains("connections_cut_total{reason=\"slow\"} 1"),
        "after {answered}"
    );
    // And everyone else is served as before.
    let mut other = server.original("b", "rock").await;
    other.announce("b", "rock", &["a"]).await;
    assert_eq!(other.ask("a").await["path"], json!(["b", "a"]));
    drop(stuck.socket.write_frame(fastwebsockets::Frame::close(1000, b"")).await);
    server.stop().await;
}

#[test]
fn fault_02_an_announcement_replaces_only_what_its_own_peer_announced() {
    let mut bare = Bare::new();
    for n in 1..=160 {
        bare.join(n, Dialect::Original);
        bare.announce(n, original_neighbors(n, 160));
    }
    let mut hops = 0;
    for from in 1..=160 {
        for to in 1..=160 {
            hops += bare.way(from, to).unwrap().len() - 1;
        }
    }
    let mean = hops as f64 / (160. * 159.);
    // The same mean as of the graph in which nothing was deleted: what the original should have had.
    assert!((mean - expected_mean()).abs() < 1e-9, "{mean} hops in the mean, {} expected", expected_mean());
}

/// Mean hops of ring + skip 4 over 160 peers, by a plain breadth-first search. The ring looks the same from each peer.
fn expected_mean() -> f64 {
    let mut hops = vec![usize::MAX; 160];
    hops[0] = 0;
    let mut queue = std::collections::VecDeque::from([0_usize]);
    while let Some(at) = queue.pop_front() {
        for step in [1, 4, 156, 159] {
            let next = (at + step) % 160;
            if hops[next] == usize::MAX {
                hops[next] = hops[at] + 1;
                queue.push_back(next);
            }
        }
    }
    hops.iter().sum::<usize>() as f64 / 159.
}

#[tokio::test]
async fn fault_03_every_message_gets_an_answer() {
    let server = Running::open().await;
    let mut peer = server.original("a", "rock").await;
    peer.announce("a", "rock", &["b"]).await;
    let _away = server.original("c", "rock").await;
    for (text, code) in [
        (r#"{"type":"request_path","target":"nobody"}"#, "unknown_peer"),
        (r#"{"type":"request_path","target":"b"}"#, "unknown_peer"), // announced, but not connected
        (r#"{"type":"request_path","target":"c"}"#, "no_path"),
        (r#"{"type":"request_path"}"#, "bad_message"),
        (r#"{"type":"request_path","target":7}"#, "bad_message"),
        ("{", "bad_message"),
        ("", "bad_message"),
        ("[]", "bad_message"),
        (r#"{"no":"type"}"#, "bad_message"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"hold","all":true}"#, "unknown_type"), // without hopcast.1
    ] {
        peer.send_text(text).await;
        let answer = peer.message().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{text}");
        assert!(answer["message"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{answer}");
        assert_eq!(answer.as_object().unwrap().len(), 3, "nothing that the original lacks: {answer}");
    }
}

#[tokio::test]
async fn fault_04_nobody_announces_for_another_peer_or_room() {
    let server = Running::open().await;
    let mut evil = server.original("evil", "rock").await;
    let _a = server.original("a", "rock").await;
    let _b = server.original("b", "rock").await;
    evil.announce("a", "rock", &["b"]).await;
    assert_eq!(evil.message().await["code"], "peer_mismatch");
    evil.announce("evil", "soul", &["a"]).await;
    assert_eq!(evil.message().await["code"], "room_mismatch");
    assert_eq!(server.get_json("/api/rooms").await["rooms"][0]["links"], 0);
}

#[tokio::test]
async fn fault_05_the_replaced_connection_closes_and_the_new_one_stays_untouched() {
    let server = Running::open().await;
    let mut old = server.original("a", "rock").await;
    let mut b = server.original("b", "rock").await;
    let mut new = server.original("a", "rock").await;
    assert_eq!(old.closed().await, CLOSE_REPLACED);
    drop(old);
    new.announce("a", "rock", &["b"]).await;
    assert_eq!(new.ask("b").await["path"], json!(["a", "b"]), "on paths");
    assert_eq!(b.message().await["path"], json!(["a", "b"]));
    assert_eq!(b.ask("a").await["path"], json!(["b", "a"]));
    assert_eq!(new.message().await["path"], json!(["b", "a"]), "and not deaf");
    server.connected("rock", &["a", "b"]).await;
}

#[tokio::test]
async fn fault_06_rooms_know_nothing_of_each_other() {
    let server = Running::open().await;
    let mut rock = server.original("a", "rock").await;
    let mut rock_b = server.original("b", "rock").await;
    let soul = server.original("a", "soul").await;
    rock.announce("a", "rock", &["b"]).await;
    rock.settle().await;
    // Leaving one room does not leave the other.
    drop(soul);
    server.connected("soul", &[]).await;
    assert_eq!(rock_b.ask("a").await["path"], json!(["b", "a"]));
    // A room without announcements has no links, whatever other rooms have.
    let mut jazz = server.original("a", "jazz").await;
    let _jazz_b = server.original("b", "jazz").await;
    assert_eq!(jazz.ask("b").await["code"], "no_path");
}

#[tokio::test]
async fn fault_07_no_path_runs_through_ghosts_and_nothing_of_them_is_kept() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    let mut c = server.original("c", "rock").await;
    a.announce("a", "rock", &["ghost"]).await;
    c.announce("c", "rock", &["ghost"]).await;
    c.settle().await;
    assert_eq!(a.ask("c").await["code"], "no_path");
    let ghost = server.original("ghost", "rock").await;
    assert_eq!(a.ask("c").await["path"], json!(["a", "ghost", "c"]), "connected it carries");
    drop(ghost);
    server.connected("rock", &["a", "c"]).await;
    assert_eq!(a.ask("c").await["code"], "no_path");
    for client in [&mut a, &mut c] {
        let peer = if client.ask("a").await["path"] == json!(["a"]) { "a" } else { "c" };
        client.announce(peer, "rock", &[]).await;
        client.settle().await;
    }
    assert_eq!(server.get_json("/api/rooms").await["rooms"][0]["peers"], 2, "the name is freed");
    drop((a, c));
    server.connected("rock", &[]).await;
    assert_eq!(server.get_json("/api/rooms").await, json!({"rooms": []}), "and so is the room");
}

#[test]
fn fault_08_a_path_is_encoded_once_and_a_leaver_costs_its_own_routes_only() {
    let mut bare = Bare::new();
    for n in 1..=100 {
        bare.join(n, Dialect::Original);
        bare.announce(n, [n + 1]);
    }
    let frames = bare.say(1, &json!({"type": "request_path", "target": "peer-100"}));
    assert_eq!(frames.len(), 100);
    let places: HashSet<_> = frames
        .iter()
        .map(|output| match output {
            Output::Send { frame, .. } => frame.wire().as_ptr(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places.len(), 1, "everyone on the path shares the same bytes");

    // Two routes, side by side; the end of one end of the first says nothing to the second.
    let mut bare = Bare::new();
    for n in 1..=4 {
        bare.join(n, Dialect::Hopcast);
    }
    bare.announce(1, [2]);
    bare.announce(3, [4]);
    bare.say(1, &json!({"type": "request_path", "target": "peer-2"}));
    bare.say(3, &json!({"type": "request_path", "target": "peer-4"}));
    assert_eq!(bare.room.routes(), 2);
    bare.out.frames.clear();
    bare.room.disconnect(ConnectionId(2), &mut bare.out);
    let told: Vec<_> = bare
        .out
        .frames
        .iter()
        .map(|output| match output {
            Output::Send { to, frame } => (to.0, String::from_utf8(frame.payload().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(1, r#"{"type":"route_down","route":"e-1"}"#.to_owned())]);
    assert_eq!(bare.room.routes(), 1);
}

#[test]
fn fault_09_any_frame_counts_as_life() {
    let mut bare = Bare::new();
    for n in 1..=3 {
        bare.join(n, Dialect::Original);
    }
    let seconds = Duration::from_secs;
    // 1 speaks and never pongs; 2 only pongs; 3 is silent.
    for now in 1..=60 {
        bare.out.frames.clear();
        bare.room.alive(ConnectionId(1), seconds(now));
        if now % 6 == 0 {
            bare.room.alive(ConnectionId(2), seconds(now));
        }
        bare.room.tick(seconds(now), &mut bare.out);
        let cut = bare.out.frames.contains(&Output::Cut { to: ConnectionId(3), why: Cut::Dead });
        assert_eq!(cut, now == 10, "the silent one is dead after 10 s, at {now} s");
    }
    assert_eq!(bare.room.connections(), 2);
}

#[tokio::test]
async fn fault_10_an_idle_mesh_opens_no_connections_and_pings_on_those_it_has() {
    let server = Running::open().await;
    let mut peers = Vec::new();
    for n in 0..8 {
        peers.push(server.original(&format!("peer-{n}"), "rock").await);
    }
    // Two rounds of pings, 5 s apart: the idle clients answer on the same connection and stay.
    for peer in &mut peers {
        peer.socket.set_auto_pong(false);
    }
    let rounds = peers.iter_mut().map(|peer| async {
        for _ in 0..2 {
            let (opcode, payload) = peer.frame().await.unwrap();
            assert!(opcode == fastwebsockets::OpCode::Ping, "{opcode:?}");
            let pong = fastwebsockets::Frame::pong(fastwebsockets::Payload::Owned(payload));
            peer.socket.write_frame(pong).await.unwrap();
        }
    });
    soon("two rounds", futures_util::future::join_all(rounds)).await;
    let text = server.get("/metrics").await.1;
    assert!(text.contains("connections_accepted_total 8\n"), "{text}");
    assert!(text.contains("hopcast_signalling_connections 8\n"), "{text}");
}

#[tokio::test]
async fn fault_11_names_match_whole() {
    let server = Running::open().await;
    let mut others: Vec<Client> = Vec::new();
    for name in ["peer-10", "my-peer-1", "peer"] {
        others.push(server.original(name, "rock").await);
    }
    let gone = server.original("peer-1", "rock").await;
    server.connected("rock", &["my-peer-1", "peer", "peer-1", "peer-10"]).await;
    drop(gone);
    server.connected("rock", &["my-peer-1", "peer", "peer-10"]).await;
    let again = server.original("peer-1", "rock").await;
    server.connected("rock", &["my-peer-1", "peer", "peer-1", "peer-10"]).await;
    drop(again);
    assert_eq!(others[0].ask("peer-1").await["type"], "error");
}

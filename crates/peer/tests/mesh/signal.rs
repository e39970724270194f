//! Signalling: lost and found, replaced, rooms, patience.

use std::time::Duration;

use hopcast_peer::Exit;
use hopcast_protocol::{ContentId, Emulation, limits::CLOSE_REPLACED};

use crate::support::{Mesh, http, name, room, until};

const CHAIN: [(u8, u8); 3] = [(1, 2), (2, 3), (3, 4)];

#[test]
fn without_signalling_the_cache_and_the_standing_routes_go_on() {
    let mut mesh = Mesh::new(50, &CHAIN, &[1]).up();
    assert_eq!(mesh.segment(4, 0).status, 200);
    mesh.stub.stop();
    until("the loss is noticed", || mesh.metric(4, "hopcast_signal_connected{room=\"rock\"}") < 0.5);
    assert_eq!(mesh.segment(4, 0).header("cache-status"), "peer-4; hit");
    let standing = mesh.segment(4, 1);
    assert_eq!((standing.status, standing.body == mesh.song.segments[1]), (200, true));
    assert_eq!(standing.via(), ["peer-1", "peer-2", "peer-3", "peer-4"]);

    mesh.stub.restart();
    mesh.settled();
    let content = |sequence| ContentId::Blob(mesh.song.sha256(sequence));
    let holds = |sequence| mesh.stub.holds(&name(4), &room("rock"), &content(sequence));
    until("everything is said again", || holds(0) && holds(1));
    assert_eq!(mesh.segment(3, 0).via(), ["peer-4", "peer-3"]);
}

#[test]
fn a_replaced_peer_ends() {
    let mut mesh = Mesh::new(51, &CHAIN, &[1]).up();
    mesh.stub.close(&name(3), &room("rock"), CLOSE_REPLACED);
    let replaced = mesh.peers.remove(&3).unwrap();
    assert_eq!(replaced.ended(), Some(Exit::Replaced));
    // Any other close is only a reason to come back.
    let connects = mesh.metric(2, "hopcast_signal_connects_total");
    mesh.stub.close(&name(2), &room("rock"), 1001);
    until("peer-2 is back", || mesh.metric(2, "hopcast_signal_connects_total") > connects);
}

#[test]
fn a_song_is_for_its_rooms_and_the_shortest_way_of_all_rooms_is_taken() {
    // In rock peer-4 is three hops from the gateway, in soul two; the song is for both. peer-9 is in jazz alone.
    let mut mesh = Mesh::new(52, &CHAIN, &[1]);
    let none = Emulation::default();
    for (a, b) in [(1, 5), (5, 4)] {
        mesh.link_in(a, b, none, &["soul"]);
    }
    mesh.link_in(1, 9, none, &["jazz"]);
    let rooms = [room("rock"), room("soul")];
    mesh.song.manifest =
        crate::support::song::Song::sign(&mesh.secret, "demo", 1, &rooms, &mesh.song.segments);
    let mesh = mesh.up();
    let segment = mesh.segment(4, 0);
    assert_eq!(segment.via(), ["peer-1", "peer-5", "peer-4"]);
    assert_eq!(segment.body, mesh.song.segments[0]);
    // It is held in both rooms.
    let content = ContentId::Blob(mesh.song.sha256(0));
    for room in &rooms {
        until("it is held", || mesh.stub.holds(&name(4), room, &content));
    }
    assert_eq!(mesh.play(9, "/hls/demo/master.m3u8").status, 404);
}

#[test]
fn equal_ways_go_by_the_files_order() {
    let mut mesh = Mesh::new(53, &[(1, 2), (2, 3)], &[1]);
    for (a, b) in [(1, 4), (4, 3)] {
        mesh.link_in(a, b, Emulation::default(), &["alto"]);
    }
    let rooms = [room("alto"), room("rock")];
    mesh.song.manifest =
        crate::support::song::Song::sign(&mesh.secret, "demo", 1, &rooms, &mesh.song.segments);
    let mesh = mesh.up();
    // rock stands first in peer-3's configuration.
    for sequence in 0..3 {
        assert_eq!(mesh.segment(3, sequence).via(), ["peer-1", "peer-2", "peer-3"]);
    }
}

#[test]
fn patience_holds_the_request_and_ends_with_503() {
    let mut mesh = Mesh::new(54, &CHAIN, &[]);
    mesh.config(4).limits.patience_ms = 500;
    let mut mesh = mesh.up();
    let response = mesh.play(4, "/hls/demo/master.m3u8");
    assert_eq!((response.status, response.header("retry-after")), (503, "1"));
    assert_eq!(response.header("proxy-status"), "peer-4; error=destination_unavailable");
    assert_eq!(response.header("access-control-allow-origin"), "*");

    // A player that came before the first gateway did is served when there is one.
    let mut early = http::open(mesh.address(3), "GET", "/hls/demo/128k/0.ts", &[]);
    until("it has been asked for more than once", || {
        mesh.metric(3, "hopcast_fetches_active") > 0.5 && mesh.metric(3, "hopcast_fetch_retries_total") > 1.5
    });
    early.get_ref().set_nonblocking(true).unwrap();
    let nothing = early.get_ref().peek(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "not even a status line");
    early.get_ref().set_nonblocking(false).unwrap();
    mesh.gateway(9, 1);
    assert_eq!(http::head(&mut early).0, 200);
    let mut body = vec![0; mesh.song.segments[0].len()];
    std::io::Read::read_exact(&mut early, &mut body).unwrap();
    assert_eq!(body, mesh.song.segments[0]);
}

#[test]
fn a_hop_that_was_never_told_answers_421_and_the_request_is_repeated() {
    let mesh = Mesh::new(55, &CHAIN, &[1]).up();
    mesh.stub.deafen(&name(2));
    let to = mesh.address(4);
    let playing = std::thread::spawn(move || http::get(to, "/hls/demo/128k/0.ts", &[]));
    until("peer-2 has refused", || mesh.metric(2, "hopcast_relay_requests_total{code=\"421\"}") > 0.5);
    mesh.stub.undeafen(&name(2));
    assert_eq!(playing.join().unwrap().body, mesh.song.segments[0]);
    for (peer, neighbor) in [(4, 3), (3, 2)] {
        assert!(!mesh.stub.reported(&name(peer), &name(neighbor), false), "nobody is to blame");
    }
}

#[test]
fn a_configuration_that_changes_rooms_and_links_is_announced() {
    let mut mesh = Mesh::new(56, &CHAIN, &[1]).up();
    assert_eq!(mesh.segment(4, 0).status, 200);
    mesh.link(1, 4, Emulation::default());
    mesh.link_in(3, 4, Emulation::default(), &["rock", "soul"]);
    for number in [1, 3, 4] {
        let config = mesh.configs[&number].clone();
        mesh.peers[&number].with(move |peer, _| peer.reload(config).unwrap());
    }
    until("peer-4 is in soul", || mesh.stub.knows(&name(4), &room("soul")));
    until("the new link is used", || {
        mesh.segment(4, 1).via() == ["peer-1", "peer-4"] || {
            std::thread::sleep(Duration::from_millis(1));
            mesh.segment(4, 2).via() == ["peer-1", "peer-4"]
        }
    });
    let said = mesh.stub.said(&name(4));
    assert!(
        said.iter().any(|text| text.contains(r#""neighbors":["peer-1""#) || text.contains(r#""peer-1"]"#))
    );

    let mut other = mesh.configs[&4].clone();
    other.listen.set_port(9999);
    let refused = mesh.peers[&4].with(move |peer, _| peer.reload(other).unwrap_err().to_string());
    assert!(refused.contains("listen cannot change"), "{refused}");
}

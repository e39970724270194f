//! What breaks on the way, and what the player notices of it: nothing.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
};

use hopcast_protocol::{ContentId, Emulation, Sha256};

use crate::support::{Mesh, http, http::Response, name, room, until};

/// peer-1 (a gateway) is reached from peer-4 over peer-2 or over peer-3, and peer-5 lies behind peer-4.
const SQUARE: [(u8, u8); 5] = [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)];

/// Slow enough to break something in the middle: 400 kB take 2 s.
fn slow() -> Emulation {
    Emulation { rate: Some(200_000), ..Emulation::default() }
}

fn slow_square(net: u8) -> Mesh {
    let mut mesh = Mesh::with_song(net, &SQUARE, &[1], 2, 400_000);
    mesh.link(1, 2, slow());
    mesh.link(1, 3, slow());
    mesh.up()
}

fn play(mesh: &Mesh, number: u8, sequence: usize) -> JoinHandle<Response> {
    let to = mesh.address(number);
    std::thread::spawn(move || http::get(to, &format!("/hls/demo/128k/{sequence}.ts"), &[]))
}

/// Waits until a relay between peer-1 and peer-4 is in the middle of a transfer, and says which.
fn relay_at_work(mesh: &Mesh) -> u8 {
    let mut working = 0;
    until("a relay is in the middle of the segment", || {
        let busy = [2, 3].into_iter().find(|&number| {
            let bytes = mesh.metric(number, "hopcast_relay_bytes_total{role=\"relay\"}");
            mesh.peers.contains_key(&number) && (80_000.0..320_000.0).contains(&bytes)
        });
        working = busy.unwrap_or_default();
        busy.is_some()
    });
    working
}

fn other(relay: u8) -> u8 {
    5 - relay
}

#[test]
fn a_relay_that_dies_in_mid_segment_is_not_noticed() {
    let mut mesh = slow_square(20);
    let playing = play(&mesh, 5, 0);
    let relay = relay_at_work(&mesh);
    mesh.kill(relay);
    let response = playing.join().unwrap();
    assert_eq!((response.status, response.whole), (200, true));
    assert_eq!(response.body, mesh.song.segments[0]);
    let via =
        ["peer-1".to_owned(), format!("peer-{}", other(relay)), "peer-4".to_owned(), "peer-5".to_owned()];
    assert_eq!(response.via(), via);
    assert!(mesh.metric(5, "hopcast_fetch_resumes_total") > 0.5, "it went on from the byte");
    let again = mesh.metric(other(relay), "hopcast_relay_bytes_total{role=\"relay\"}");
    assert!(again < 399_000.0, "only the rest was sent again, not {again} bytes");
    // peer-4 was well and passed on what happened: it is not blamed.
    assert!(!mesh.stub.reported(&name(5), &name(4), false));
}

#[test]
fn the_way_that_the_server_finds_anew_is_taken_without_asking() {
    let mut mesh = slow_square(47);
    mesh.stub.mend();
    let playing = play(&mesh, 5, 0);
    let relay = relay_at_work(&mesh);
    let content = ContentId::Blob(mesh.song.sha256(0)).to_string();
    let asked = |mesh: &Mesh| {
        let said = mesh.stub.said(&name(5));
        said.iter().filter(|text| text.contains("request_path") && text.contains(&content)).count()
    };
    assert_eq!(asked(&mesh), 1);
    mesh.kill(relay);
    let response = playing.join().unwrap();
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via()[1], format!("peer-{}", other(relay)));
    assert!(mesh.metric(5, "hopcast_fetch_resumes_total") > 0.5);
    assert_eq!(asked(&mesh), 1, "the server had told it already");
}

#[test]
fn a_relay_that_stands_still_is_reported_by_the_hop_beside_it_only() {
    let mesh = slow_square(21);
    let playing = play(&mesh, 5, 0);
    let relay = relay_at_work(&mesh);
    let frozen = mesh.peers[&relay].freeze();
    let response = playing.join().unwrap();
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert!(mesh.metric(5, "hopcast_fetch_resumes_total") > 0.5);
    assert!(mesh.stub.reported(&name(4), &name(relay), false));
    assert!(!mesh.stub.reported(&name(5), &name(4), false));
    drop(frozen);
    until("the link is believed again", || mesh.stub.reported(&name(4), &name(relay), true));
    assert!(mesh.metric(4, "hopcast_links{state=\"down\"}") < 0.5);
}

#[test]
fn a_refused_connection_is_reported_and_believed_again_when_the_neighbour_answers() {
    let mut mesh = Mesh::new(22, &SQUARE, &[1]);
    // Nobody listens where peer-4 looks for peer-2.
    let wrong = SocketAddr::from(([127, 78, 22, 202], 8080));
    let neighbor = mesh.config(4).neighbors.iter_mut().find(|n| n.name == name(2)).unwrap();
    neighbor.endpoint = wrong.to_string();
    let mesh = mesh.up();
    let response = mesh.segment(5, 0);
    assert_eq!(response.body, mesh.song.segments[0]);
    assert_eq!(response.via(), ["peer-1", "peer-3", "peer-4", "peer-5"]);
    assert!(mesh.stub.reported(&name(4), &name(2), false));
    assert!(mesh.metric(4, "hopcast_links{state=\"down\"}") > 0.5);

    // Somebody else at that address is not the neighbour.
    let listener = TcpListener::bind(wrong).unwrap();
    let answer = |body: &str| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes());
    };
    answer("peer-22: ok");
    answer("<html>");
    assert!(!mesh.stub.reported(&name(4), &name(2), true));
    answer("peer-2: ok");
    until("the link is reported up", || mesh.stub.reported(&name(4), &name(2), true));
}

#[test]
fn a_relay_that_cannot_go_on_and_has_no_link_to_report_is_gone_around() {
    let mut mesh = Mesh::new(91, &SQUARE, &[1]);
    // The server's paths lead over peer-2 to peer-1; peer-2 itself does not know that neighbour (any more).
    mesh.config(2).neighbors.retain(|neighbor| neighbor.name != name(1));
    let mesh = mesh.up();
    let response = mesh.segment(5, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via(), ["peer-1", "peer-3", "peer-4", "peer-5"]);
    assert!(mesh.metric(5, "hopcast_fetch_retries_total") > 0.5, "the way over peer-2 was tried");
    assert_eq!(reported_down(&mesh), []);
}

#[test]
fn a_link_that_was_down_is_believed_again_when_its_neighbour_gets_another_address() {
    let mut mesh = Mesh::new(34, &SQUARE, &[1]);
    let right = mesh.address(2).to_string();
    let config = mesh.config(4);
    let neighbor = config.neighbors.iter_mut().find(|n| n.name == name(2)).unwrap();
    neighbor.endpoint = "127.78.34.202:8080".to_owned();
    let mesh = mesh.up();
    assert_eq!(mesh.segment(5, 0).body, mesh.song.segments[0]);
    assert!(mesh.stub.reported(&name(4), &name(2), false));
    let mut config = mesh.configs[&4].clone();
    config.neighbors.iter_mut().find(|n| n.name == name(2)).unwrap().endpoint = right;
    mesh.peers[&4].with(move |peer, _| peer.reload(config).unwrap());
    until("the link is reported up", || mesh.stub.reported(&name(4), &name(2), true));
}

#[test]
fn a_holder_that_lies_is_caught_and_left_out() {
    let mesh = Mesh::new(23, &SQUARE, &[1]).up();
    let (sha256, mut wrong) = (mesh.song.sha256(0), mesh.song.segments[0].clone());
    wrong[50_000] ^= 1;
    mesh.peers[&4].with(move |peer, _| peer.node().keep(sha256, &wrong.into(), &[room("rock")]));
    until("peer-4 says that it holds it", || {
        mesh.stub.holds(&name(4), &room("rock"), &ContentId::Blob(sha256))
    });
    let response = mesh.segment(5, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via().first().unwrap(), "peer-1");
    assert!((mesh.metric(5, "hopcast_fetch_corrupt_total") - 1.0).abs() < 0.1);
}

#[test]
fn after_two_lies_a_gateway_is_asked_and_no_third_holder() {
    // Three liars beside peer-5; the gateway is three hops away.
    let mesh = Mesh::new(36, &[(5, 2), (5, 3), (5, 4), (5, 6), (6, 7), (7, 1)], &[1]).up();
    let sha256 = mesh.song.sha256(0);
    for liar in [2, 3, 4] {
        let mut wrong = mesh.song.segments[0].clone();
        wrong[50_000] ^= 1;
        mesh.peers[&liar].with(move |peer, _| peer.node().keep(sha256, &wrong.into(), &[room("rock")]));
        let content = ContentId::Blob(sha256);
        until("the liar says that it holds it", || mesh.stub.holds(&name(liar), &room("rock"), &content));
    }
    let response = mesh.segment(5, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via(), ["peer-1", "peer-7", "peer-6", "peer-5"]);
    assert!((mesh.metric(5, "hopcast_fetch_corrupt_total") - 2.0).abs() < 0.1);
}

#[test]
fn a_relay_that_lies_is_gone_around_where_there_is_one_gateway_only() {
    // peer-4 reaches peer-1 over peer-2 (which lies), or by a longer way.
    let mut mesh = Mesh::new(37, &[(1, 2), (2, 4), (4, 3), (3, 5), (5, 1)], &[1]);
    let proxy = SocketAddr::from(([127, 78, 37, 202], 8080));
    liar(proxy, mesh.address(2), 60_000, usize::MAX);
    mesh.config(4).neighbors.iter_mut().find(|n| n.name == name(2)).unwrap().endpoint = proxy.to_string();
    let mesh = mesh.up();
    let response = mesh.segment(4, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via(), ["peer-1", "peer-5", "peer-3", "peer-4"]);
    assert!((mesh.metric(4, "hopcast_fetch_corrupt_total") - 1.0).abs() < 0.1);
}

/// Sits between two peers and changes one byte in whatever is long, the one at `lie`; ends each connection at `end`.
fn liar(listen: SocketAddr, behind: SocketAddr, lie: usize, end: usize) {
    let listener = TcpListener::bind(listen).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(behind).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let (mut from, mut to, mut passed, mut buffer) = (server, client, 0, [0; 4096]);
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if (passed..passed + count).contains(&lie) {
                        buffer[lie - passed] ^= 0x40;
                    }
                    passed += count;
                    if passed >= end {
                        break;
                    }
                    if to.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
                let _ = from.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

#[test]
fn a_relay_that_lies_is_caught_and_another_gateway_found() {
    // peer-4 reaches gateway peer-1 over peer-2 (which lies), and gateway peer-6 over peer-3 and peer-5.
    let mut mesh = Mesh::new(24, &[(1, 2), (2, 4), (4, 3), (3, 5), (5, 6)], &[1, 6]);
    let proxy = SocketAddr::from(([127, 78, 24, 202], 8080));
    liar(proxy, mesh.address(2), 60_000, usize::MAX);
    mesh.config(4).neighbors.iter_mut().find(|n| n.name == name(2)).unwrap().endpoint = proxy.to_string();
    let mesh = mesh.up();
    let response = mesh.segment(4, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via(), ["peer-6", "peer-5", "peer-3", "peer-4"]);
    assert!((mesh.metric(4, "hopcast_fetch_corrupt_total") - 1.0).abs() < 0.1);
    assert_eq!(mesh.segment(4, 0).body, mesh.song.segments[0], "nothing wrong was kept");
}

#[test]
fn who_finishes_what_a_liar_began_is_not_left_out() {
    // As before, but the liar breaks off behind its lie each time: the rest comes from peer-6, which is honest.
    let mut mesh = Mesh::new(35, &[(1, 2), (2, 4), (4, 3), (3, 5), (5, 6)], &[1, 6]);
    let proxy = SocketAddr::from(([127, 78, 35, 202], 8080));
    liar(proxy, mesh.address(2), 20_000, 30_000);
    mesh.config(4).neighbors.iter_mut().find(|n| n.name == name(2)).unwrap().endpoint = proxy.to_string();
    let mesh = mesh.up();
    let response = mesh.segment(4, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via(), ["peer-6", "peer-5", "peer-3", "peer-4"]);
    assert!((mesh.metric(4, "hopcast_fetch_corrupt_total") - 1.0).abs() < 0.1);
}

#[test]
fn a_manifest_of_another_key_is_refused() {
    let mut mesh = Mesh::new(25, &SQUARE, &[1]);
    mesh.config(4).limits.patience_ms = 700;
    let mesh = mesh.up();
    let other = hopcast_protocol::MeshSecret([99; 32]);
    let forged = crate::support::song::Song::sign(&other, "demo", 9, &[room("rock")], &mesh.song.segments);
    let set = |bytes: Vec<u8>| {
        mesh.peers[&1].with(move |_, memory| {
            memory.put_manifest(hopcast_protocol::SongName::new("demo").unwrap(), bytes);
        });
    };
    set(forged);
    let response = mesh.play(4, "/hls/demo/master.m3u8");
    assert_eq!(response.status, 503);
    assert!(mesh.metric(4, "hopcast_fetch_corrupt_total") > 0.5);
    set(mesh.song.manifest.clone());
    until("the right one is taken", || mesh.play(4, "/hls/demo/master.m3u8").status == 200);
}

#[test]
fn a_gateway_without_its_database_is_left_out() {
    let mesh = Mesh::new(26, &[(1, 2), (2, 3), (3, 6), (6, 7)], &[1, 7]).up();
    assert_eq!(mesh.play(2, "/hls/demo/128k/index.m3u8").status, 200);
    mesh.peers[&1].with(|_, memory| memory.set_broken(Some("the server closed the connection".to_owned())));
    let response = mesh.segment(2, 0);
    assert_eq!(response.via(), ["peer-7", "peer-6", "peer-3", "peer-2"]);
    // Its own player is served over the mesh.
    let response = mesh.segment(1, 1);
    assert_eq!((response.status, response.via().first().unwrap().as_str()), (200, "peer-7"));
    mesh.peers[&1].with(|_, memory| memory.set_broken(None));
    assert_eq!(mesh.segment(1, 2).via(), ["peer-1"]);
}

#[test]
fn a_wrong_byte_in_the_database_goes_no_further_than_the_gateway() {
    let mut mesh = Mesh::new(27, &SQUARE, &[1]);
    mesh.config(5).limits.patience_ms = 700;
    let mesh = mesh.up();
    let (sha256, mut wrong) = (mesh.song.sha256(0), mesh.song.segments[0].clone());
    wrong[7] ^= 1;
    mesh.peers[&1].with(move |_, memory| memory.put_blob(sha256, wrong));
    let response = mesh.segment(5, 0);
    assert_eq!(response.status, 503);
    assert!(response.header("proxy-status").starts_with("peer-5; error="), "{response:?}");
    assert!(mesh.metric(1, "hopcast_fetch_corrupt_total") > 0.5);
    // Not its bytes: the fetch goes on for a while, and sets room aside each time that it asks.
    assert!(mesh.metric(5, "hopcast_cache_blobs") < 0.5);
}

#[test]
fn a_cut_link_ends_what_is_in_flight_and_another_way_is_taken() {
    let mut mesh = slow_square(28);
    let playing = play(&mesh, 5, 0);
    let relay = relay_at_work(&mesh);
    mesh.unlink(relay, 4);
    for number in [4, relay] {
        let config = mesh.configs[&number].clone();
        mesh.peers[&number].with(move |peer, _| peer.reload(config).unwrap());
    }
    let response = playing.join().unwrap();
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(response.via()[1], format!("peer-{}", other(relay)));
    assert!(mesh.metric(5, "hopcast_fetch_resumes_total") > 0.5);
    // The key is worth nothing any more.
    let key = mesh.secret.link_key(&name(4), &name(relay));
    let path = format!("/relay/e-1/{}", ContentId::Blob(mesh.song.sha256(1)).path());
    assert_eq!(http::relay(mesh.address(relay), &name(4), &key, &path, "").status, 403);
    assert_eq!(mesh.play(4, "/peers").text(), format!("peer-{}\npeer-5\n", other(relay)));
}

#[test]
fn a_cut_at_the_sending_end_alone_ends_it_too() {
    let mut mesh = Mesh::with_song(29, &[(1, 2)], &[1], 1, 400_000);
    mesh.link(1, 2, slow());
    let mut mesh = mesh.up();
    let route = mesh.stub.broadcast(&room("rock"), &[name(2), name(1)]);
    let key = mesh.secret.link_key(&name(1), &name(2));
    let path = format!("/relay/{route}/{}", ContentId::Blob(mesh.song.sha256(0)).path());
    let to = mesh.address(1);
    let reading = std::thread::spawn(move || http::relay(to, &name(2), &key, &path, ""));
    until("it is under way", || mesh.metric(1, "hopcast_relay_transfers") > 0.5);
    mesh.unlink(1, 2);
    let config = mesh.configs[&1].clone();
    mesh.peers[&1].with(move |peer, _| peer.reload(config).unwrap());
    let response = reading.join().unwrap();
    assert_eq!((response.status, response.whole), (200, false));
    until("the place is free", || mesh.metric(1, "hopcast_relay_transfers") < 0.5);
}

#[test]
fn a_link_that_loses_requests_is_tried_again_and_not_blamed() {
    let mut mesh = Mesh::with_song(30, &[(1, 2)], &[1], 12, 1000);
    mesh.link(1, 2, Emulation { loss: 0.5, ..Emulation::default() });
    let mesh = mesh.up();
    for sequence in 0..12 {
        assert_eq!(mesh.segment(2, sequence).body, mesh.song.segments[sequence]);
    }
    assert!(mesh.metric(2, "hopcast_fetch_retries_total") > 0.5);
    assert!(!mesh.stub.reported(&name(2), &name(1), false));
}

#[test]
fn latency_is_felt_in_both_directions() {
    let mut mesh = Mesh::with_song(31, &[(1, 2), (2, 3)], &[1], 1, 1000);
    mesh.link(1, 2, Emulation { latency_us: 40_000, ..Emulation::default() });
    let mesh = mesh.up();
    let response = mesh.segment(3, 0);
    assert_eq!(response.body, mesh.song.segments[0]);
    let at = |peer: &str| -> f64 {
        let timing = response.header("server-timing").to_owned();
        let entry = timing.split(", ").find_map(|entry| entry.strip_prefix(peer)?.strip_prefix(";dur="));
        entry.unwrap().parse().unwrap()
    };
    // A sleep is never shorter than asked for: 40 ms there and 40 ms back lie between the two ends of that link.
    assert!(at("peer-2") - at("peer-1") >= 79.0, "{response:?}");
}

#[test]
fn latency_that_adds_up_to_more_than_the_patience_is_no_fault() {
    let mut mesh = Mesh::with_song(33, &[], &[1], 1, 1000);
    for hop in 1..5 {
        mesh.link(hop, hop + 1, Emulation { latency_us: 300_000, ..Emulation::default() });
    }
    let mesh = mesh.up();
    let response = mesh.segment(5, 0);
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert!(mesh.metric(5, "hopcast_fetch_retries_total") < 0.5);
}

/// A chain from the gateway peer-1 to peer-4; the link beside the gateway is far, the others are not.
fn far(net: u8, latency_us: u64, rate: Option<u64>) -> Mesh {
    let mut mesh = Mesh::with_song(net, &[(2, 3), (3, 4)], &[1], 2, 400_000);
    mesh.link(1, 2, Emulation { latency_us, rate, ..Emulation::default() });
    mesh.up()
}

fn reported_down(mesh: &Mesh) -> Vec<(u8, u8)> {
    let links = [(1, 2), (2, 3), (3, 4)].into_iter().flat_map(|(a, b)| [(a, b), (b, a)]);
    links.filter(|&(a, b)| mesh.stub.reported(&name(a), &name(b), false)).collect()
}

#[test]
fn a_far_link_behind_fast_ones_is_no_fault_of_theirs() {
    for (net, latency_us) in [(38, 1_000_000), (39, 1_500_000)] {
        let mesh = far(net, latency_us, None);
        // All of it: the playlists (a manifest), and both segments.
        assert_eq!(mesh.play(4, "/hls/demo/128k/index.m3u8").status, 200);
        let playing: Vec<_> = [0, 1].map(|sequence| play(&mesh, 4, sequence)).into();
        for (sequence, playing) in playing.into_iter().enumerate() {
            let response = playing.join().unwrap();
            assert_eq!((response.status, response.body == mesh.song.segments[sequence]), (200, true));
        }
        assert_eq!(reported_down(&mesh), [], "{latency_us} µs");
        assert!(mesh.metric(4, "hopcast_fetch_retries_total") < 0.5);
    }
}

#[test]
fn a_stall_behind_a_far_link_is_reported_by_the_hop_beside_it_only() {
    let mesh = far(46, 1_000_000, Some(200_000));
    let playing = play(&mesh, 4, 0);
    until("the segment is on its way", || {
        mesh.metric(2, "hopcast_relay_bytes_total{role=\"relay\"}") > 80_000.0
    });
    let frozen = mesh.peers[&1].freeze();
    until("peer-2 has reported it", || mesh.stub.reported(&name(2), &name(1), false));
    // peer-4 has asked again since, and every hop has had the time to be wrong.
    until("peer-4 asks again", || mesh.metric(4, "hopcast_fetch_retries_total") > 0.5);
    drop(frozen);
    let response = playing.join().unwrap();
    assert_eq!((response.status, response.body == mesh.song.segments[0]), (200, true));
    assert_eq!(reported_down(&mesh), [(2, 1)]);
}

#[test]
fn two_revisions_and_two_hashes_are_never_mixed() {
    let mesh = Mesh::new(32, &SQUARE, &[1]).up();
    assert_eq!(mesh.segment(5, 0).body, mesh.song.segments[0]);
    let segments: Vec<Vec<u8>> = (10..14u8).map(|number| vec![number; 5000]).collect();
    let manifest = crate::support::song::Song::sign(&mesh.secret, "demo", 2, &[room("rock")], &segments);
    let blobs = segments.clone();
    mesh.peers[&1].with(move |_, memory| {
        for bytes in blobs {
            memory.put_blob(Sha256::of(&bytes), bytes);
        }
        memory.put_manifest(hopcast_protocol::SongName::new("demo").unwrap(), manifest);
    });
    // A part that the old manifest lacks, though it is a new one as well: the newer one is asked for.
    let added = mesh.segment(5, 3);
    assert_eq!((added.status, added.body == segments[3]), (200, true));
    assert_eq!(mesh.segment(5, 0).body, segments[0]);
}

//! Bounds: one fetch for all, a bounded cache, eight transfers, slow readers.

use hopcast_protocol::{ContentId, Emulation, RelayAuth};

use crate::support::{Mesh, http, name, room, until};

const CHAIN: [(u8, u8); 3] = [(1, 2), (2, 3), (3, 4)];

#[test]
fn ten_listeners_cost_one_fetch_and_one_read() {
    let mut mesh = Mesh::new(40, &CHAIN, &[1]);
    // The segment takes 2 s: time for every listener to ask for it while it comes.
    mesh.link(1, 2, Emulation { rate: Some(50_000), ..Emulation::default() });
    let mesh = mesh.up();
    assert_eq!(mesh.play(4, "/hls/demo/master.m3u8").status, 200);
    let before = mesh.peers[&1].with(|_, memory| memory.reads());
    let fetches = mesh.metric(4, "hopcast_fetches_total");
    let to = mesh.address(4);
    let players: Vec<_> =
        (0..10).map(|_| std::thread::spawn(move || http::get(to, "/hls/demo/128k/0.ts", &[]))).collect();
    let responses: Vec<_> = players.into_iter().map(|player| player.join().unwrap()).collect();
    assert!(responses.iter().all(|response| response.body == mesh.song.segments[0]));
    assert!(responses.iter().any(|response| response.header("cache-status").ends_with("; collapsed")));
    assert!((mesh.metric(4, "hopcast_fetches_total") - fetches - 1.0).abs() < 0.1);
    assert_eq!(mesh.peers[&1].with(|_, memory| memory.reads()) - before, 1);
}

#[test]
fn two_requesters_cost_the_gateway_one_read() {
    let mesh = Mesh::new(41, &[(1, 2), (1, 3)], &[1]).up();
    for number in [2, 3] {
        assert_eq!(mesh.play(number, "/hls/demo/master.m3u8").status, 200);
    }
    let before = mesh.peers[&1].with(|_, memory| memory.reads());
    let players: Vec<_> = [2, 3]
        .map(|number| {
            let to = mesh.address(number);
            std::thread::spawn(move || http::get(to, "/hls/demo/128k/1.ts", &[]))
        })
        .into();
    for player in players {
        assert_eq!(player.join().unwrap().body, mesh.song.segments[1]);
    }
    // Together or one after the other (then out of its cache): one read.
    assert_eq!(mesh.peers[&1].with(|_, memory| memory.reads()) - before, 1);
}

#[test]
fn the_cache_is_bounded_and_drop_is_said_before_hold() {
    let mut mesh = Mesh::new(42, &CHAIN, &[1]);
    mesh.config(4).limits.cache = 250_000;
    mesh.config(1).limits.cache = 150_000;
    let mesh = mesh.up();
    for sequence in 0..3 {
        assert_eq!(mesh.segment(4, sequence).body, mesh.song.segments[sequence]);
        assert!(mesh.metric(4, "hopcast_cache_bytes") <= 250_000.0);
        assert!(mesh.metric(1, "hopcast_cache_bytes") <= 150_000.0);
    }
    let content = |sequence| ContentId::Blob(mesh.song.sha256(sequence));
    let holds = |sequence| mesh.stub.holds(&name(4), &room("rock"), &content(sequence));
    until("0 is dropped, 1 and 2 are held", || !holds(0) && holds(1) && holds(2));
    let said: Vec<_> = mesh.stub.said(&name(4)).into_iter().filter(|text| text.contains("sha256:")).collect();
    let at = |kind: &str, sequence| {
        let wanted = (format!("\"type\":\"{kind}\""), content(sequence).to_string());
        said.iter().position(|text| text.contains(&wanted.0) && text.contains(&wanted.1)).unwrap()
    };
    assert!(at("drop", 0) < at("hold", 2), "{said:?}");
    assert!((mesh.metric(4, "hopcast_cache_evictions_total") - 1.0).abs() < 0.1);
}

#[test]
fn a_holder_that_no_longer_has_it_is_left_out() {
    let mesh = Mesh::new(43, &CHAIN, &[1]).up();
    mesh.stub.pretend(&name(4), &room("rock"), &ContentId::Blob(mesh.song.sha256(0)));
    let response = mesh.segment(3, 0);
    assert_eq!(response.via(), ["peer-1", "peer-2", "peer-3"]);
    assert_eq!(response.body, mesh.song.segments[0]);
    let asked = mesh.stub.said(&name(3));
    assert!(asked.iter().any(|text| text.contains(r#""exclude":["peer-4"]"#)), "{asked:?}");
    let key = mesh.secret.link_key(&name(3), &name(4));
    let route = mesh.stub.broadcast(&room("rock"), &[name(3), name(4)]);
    let path = format!("/relay/{route}/{}", ContentId::Blob(mesh.song.sha256(1)).path());
    let direct = http::relay(mesh.address(4), &name(3), &key, &path, "");
    assert_eq!((direct.status, direct.header("hopcast-error")), (404, "not_held"));
    assert!(direct.body.is_empty(), "each hop on the way back uses its connection again");
}

#[test]
fn eight_slow_readers_hold_all_places_and_no_more_memory_than_the_bound() {
    let mut mesh = Mesh::with_song(44, &CHAIN, &[1], 2, 1_000_000);
    mesh.small_buffers(2);
    let mesh = mesh.up();
    let route = mesh.stub.broadcast(&room("rock"), &[name(3), name(2), name(1)]);
    let key = mesh.secret.link_key(&name(2), &name(3));
    let path = format!("/relay/{route}/{}", ContentId::Blob(mesh.song.sha256(0)).path());
    let to = mesh.address(2);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let auth = RelayAuth::sign(&key, "GET", &path, "", &name(3), now);
    // They read the headers and then nothing.
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut reader = http::open(to, "GET", &path, &[("Authorization", &auth)]);
            assert_eq!(http::head(&mut reader).0, 200);
            reader
        })
        .collect();
    assert!((mesh.metric(2, "hopcast_relay_transfers") - 8.0).abs() < 0.1);
    let ninth = http::relay(to, &name(3), &key, &path, "");
    assert_eq!((ninth.status, ninth.header("retry-after")), (503, "1"));
    assert!(ninth.header("proxy-status").starts_with("peer-2; error=connection_limit_reached"));
    assert!(mesh.metric(2, "hopcast_cache_bytes") < 0.5, "a relay caches nothing");
    // What was taken from the gateway is what fits into buffers, not eight segments.
    let taken = mesh.metric(2, "hopcast_relay_bytes_total{role=\"relay\"}");
    assert!(taken < 8.0 * 600_000.0, "{taken}");
    drop(slow);
    until("the places are free again", || mesh.metric(2, "hopcast_relay_transfers") < 0.5);
    let after = http::relay(to, &name(3), &key, &path, "");
    assert_eq!((after.status, after.body == mesh.song.segments[0]), (200, true));
}

#[test]
fn a_segment_that_slow_readers_hold_is_waited_for() {
    let mut mesh = Mesh::with_song(45, &CHAIN, &[1], 2, 1_000_000);
    mesh.config(4).limits.cache = 1_100_000;
    mesh.small_buffers(4);
    let mesh = mesh.up();
    let mut slow = http::open(mesh.address(4), "GET", "/hls/demo/128k/0.ts", &[]);
    assert_eq!(http::head(&mut slow).0, 200);
    let to = mesh.address(4);
    let next = std::thread::spawn(move || http::get(to, "/hls/demo/128k/1.ts", &[]));
    until("the next segment is wanted", || mesh.metric(4, "hopcast_fetches_active") > 0.5);
    assert!(mesh.metric(4, "hopcast_cache_bytes") <= 1_100_000.0);
    drop(slow);
    assert_eq!(next.join().unwrap().body, mesh.song.segments[1]);
    assert!(mesh.metric(4, "hopcast_cache_bytes") <= 1_100_000.0);
}

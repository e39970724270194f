//! A song over three hops, and what it looks like at the player.

use crate::support::{Mesh, http, name};

/// peer-1 (the gateway) - peer-2 - peer-3 - peer-4
const CHAIN: [(u8, u8); 3] = [(1, 2), (2, 3), (3, 4)];

#[test]
fn three_hops_with_the_path_reversed_in_via() {
    let mesh = Mesh::new(1, &CHAIN, &[1]).up();
    let master = mesh.play(4, "/hls/demo/master.m3u8");
    assert_eq!(master.status, 200, "{master:?}");
    assert_eq!(master.header("content-type"), "application/vnd.apple.mpegurl");
    assert!(master.text().contains("CODECS=\"mp4a.40.2\"\n128k/index.m3u8"), "{}", master.text());
    let index = mesh.play(4, "/hls/demo/128k/index.m3u8").text();
    let version = |sequence| format!("v={}", &mesh.song.sha256(sequence).to_string()[..16]);
    assert!(index.contains(&format!("#EXTINF:4.000000,\n2.ts?{}\n#EXT-X-ENDLIST", version(2))), "{index}");

    let segment = mesh.segment(4, 1);
    assert_eq!(segment.status, 200);
    assert_eq!(segment.body, mesh.song.segments[1]);
    assert_eq!(segment.via(), ["peer-1", "peer-2", "peer-3", "peer-4"]);
    assert_eq!(segment.header("etag"), format!("\"{}\"", mesh.song.sha256(1)));
    assert_eq!(segment.header("content-type"), "video/mp2t");
    assert_eq!(segment.header("access-control-allow-origin"), "*");
    assert!(segment.header("access-control-expose-headers").contains("Via"));
    // What the playlist names never changes; the plain name is another recording's after the next ingest.
    assert_eq!(segment.header("cache-control"), "no-cache");
    let caching = |query: &str| {
        mesh.play(4, &format!("/hls/demo/128k/1.ts?{query}")).header("cache-control").to_owned()
    };
    assert_eq!(caching(&version(1)), "public, max-age=31536000, immutable");
    assert_eq!(caching(&version(2)), "no-cache");
    assert!(segment.header("cache-status").ends_with("peer-4; fwd=uri-miss; stored"));
    assert!(segment.header("hopcast-route").starts_with("e-"));
    let hops: Vec<_> = segment
        .header("server-timing")
        .split(", ")
        .map(|entry| entry.split(";dur=").next().unwrap())
        .collect();
    assert_eq!(hops, ["peer-1", "peer-2", "peer-3", "peer-4"]);

    let again = mesh.segment(4, 1);
    assert_eq!((again.body, again.status), (mesh.song.segments[1].clone(), 200));
    assert_eq!(again.headers.iter().find(|(key, _)| key == "cache-status").unwrap().1, "peer-4; hit");
    assert!(again.headers.iter().all(|(key, _)| key != "hopcast-route"));

    // Relays do not cache; the requester does, and the gateway.
    for (peer, bytes) in [(1, 100_000.0), (2, 0.0), (3, 0.0), (4, 100_000.0)] {
        assert!((mesh.metric(peer, "hopcast_cache_bytes") - bytes).abs() < 0.5, "peer-{peer}");
    }
}

#[test]
fn the_next_listener_gets_it_from_the_last() {
    let mesh = Mesh::new(2, &CHAIN, &[1]).up();
    assert_eq!(mesh.segment(4, 0).via(), ["peer-1", "peer-2", "peer-3", "peer-4"]);
    let content = hopcast_protocol::ContentId::Blob(mesh.song.sha256(0));
    let rock = crate::support::room("rock");
    crate::support::until("peer-4 holds it", || mesh.stub.holds(&name(4), &rock, &content));
    let segment = mesh.segment(3, 0);
    assert_eq!(segment.via(), ["peer-4", "peer-3"]);
    assert_eq!(segment.body, mesh.song.segments[0]);
    assert!(segment.header("cache-status").starts_with("peer-4; hit, peer-3; fwd=uri-miss"));
}

#[test]
fn a_gateway_serves_its_own_player_straight_from_its_database() {
    let mesh = Mesh::new(3, &CHAIN, &[1]).up();
    let segment = mesh.segment(1, 2);
    assert_eq!(segment.body, mesh.song.segments[2]);
    assert_eq!(segment.via(), ["peer-1"]);
    assert_eq!(segment.header("hopcast-route"), "");
    assert_eq!(segment.header("cache-status"), "peer-1; fwd=uri-miss; stored");
    assert!(mesh.play(1, "/hops").text().contains(r#""hit":false"#), "it came out of the database");
    assert_eq!(mesh.segment(1, 2).header("cache-status"), "peer-1; hit");
    assert!(mesh.play(1, "/hops").text().contains(r#""hit":true"#));
}

#[test]
fn head_range_and_validators() {
    let mesh = Mesh::new(4, &CHAIN, &[1]).up();
    let path = "/hls/demo/128k/0.ts";
    let head = http::request(mesh.address(4), "HEAD", path, &[]);
    assert_eq!((head.status, head.header("content-length")), (200, "100000"));
    assert!((mesh.metric(4, "hopcast_cache_bytes")).abs() < 0.5, "HEAD fetches nothing");

    let part = http::get(mesh.address(4), path, &[("Range", "bytes=99990-")]);
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 99990-99999/100000"));
    assert_eq!(part.body, mesh.song.segments[0][99_990..]);
    let beyond = http::get(mesh.address(4), path, &[("Range", "bytes=100000-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */100000"));
    assert_eq!(beyond.header("cache-control"), "no-cache");
    let tag = part.header("etag").to_owned();
    for method in ["GET", "HEAD"] {
        let same = http::request(mesh.address(4), method, path, &[("If-None-Match", &tag)]);
        assert_eq!(same.status, 304);
        // RFC 9110 8.6: if any, the length that 200 would have.
        assert!(same.headers.iter().all(|(name, _)| name != "content-length"), "{method}: {same:?}");
    }
    let changed = http::get(mesh.address(4), path, &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]);
    assert_eq!((changed.status, changed.body.len()), (200, 100_000));
    let preflight = http::request(mesh.address(4), "OPTIONS", path, &[("Origin", "http://x")]);
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").contains("Range"));
    assert_eq!(http::request(mesh.address(4), "POST", path, &[]).status, 405);
}

#[test]
fn what_does_not_exist_is_404_and_small_pages_answer() {
    let mesh = Mesh::new(5, &CHAIN, &[1]).up();
    for path in [
        "/hls/other/master.m3u8",
        "/hls/demo/128k/3.ts",
        "/hls/demo/64k/index.m3u8",
        "/hls/demo/128k/init.mp4",
        "/hls/demo",
        "/nothing",
    ] {
        assert_eq!(mesh.play(4, path).status, 404, "{path}");
    }
    assert_eq!(mesh.play(3, "/health").text(), "peer-3: ok");
    assert_eq!(mesh.play(3, "/name").text(), "peer-3");
    assert_eq!(mesh.play(3, "/peers").text(), "peer-2\npeer-4\n");
    mesh.segment(4, 0);
    let hops = mesh.play(4, "/hops").text();
    assert!(hops.contains(r#""hops":["peer-1","peer-2","peer-3","peer-4"]"#), "{hops}");
    let page = mesh.play(4, "/?song=demo").text();
    assert!(page.contains("src=\"hls/demo/master.m3u8\"") && page.contains("<title>peer-4</title>"));
}

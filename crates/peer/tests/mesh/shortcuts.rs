//! "No direct shortcuts": what a relay refuses, and whom it lets wait.

use std::{
    io::{BufReader, Read as _},
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

use hopcast_protocol::{ContentId, RelayAuth};

use crate::support::{Mesh, http, name, room, until};

/// peer-1 (the gateway) - peer-2 - peer-3 - peer-4, and peer-2 - peer-5
const LINKS: [(u8, u8); 4] = [(1, 2), (2, 3), (3, 4), (2, 5)];

fn path(mesh: &Mesh, route: &str) -> String {
    format!("/relay/{route}/{}", ContentId::Blob(mesh.song.sha256(0)).path())
}

#[test]
fn every_kind_of_shortcut_is_refused() {
    let mesh = Mesh::new(10, &LINKS, &[1]).up();
    let rock = room("rock");
    let route = mesh.stub.broadcast(&rock, &[name(3), name(2), name(1)]);
    let target = path(&mesh, route.as_str());
    let key = |a, b| mesh.secret.link_key(&name(a), &name(b));
    let to = mesh.address(2);
    let ask = |from, key, path: &str| http::relay(to, &name(from), &key, path, "").status;

    assert_eq!(ask(3, key(2, 3), &target), 200, "the route's own previous hop");
    assert_eq!(http::get(to, &target, &[]).status, 403, "no key");
    assert_eq!(http::get(to, "/relay/nonsense", &[]).status, 403, "nothing is revealed without a key");
    assert_eq!(ask(3, key(2, 5), &target), 403, "a key of another link");
    assert_eq!(ask(4, key(3, 4), &target), 403, "a neighbour of a neighbour");
    assert_eq!(ask(5, key(2, 5), &target), 421, "a live route from the wrong previous hop");
    assert_eq!(ask(1, key(1, 2), &target), 421, "the route's next hop");
    assert_eq!(ask(3, key(2, 3), &path(&mesh, "e-999999")), 421, "a route that was never broadcast");
    mesh.stub.retire(&rock, &route);
    until("the route is retired", || ask(3, key(2, 3), &target) == 421);
    assert_eq!(ask(3, key(2, 3), "/relay/e-1/nonsense"), 404);

    // The holder serves nobody but its own previous hop either.
    let route = mesh.stub.broadcast(&rock, &[name(3), name(2), name(1)]);
    let direct = http::relay(mesh.address(1), &name(3), &key(1, 3), &path(&mesh, route.as_str()), "");
    assert_eq!(direct.status, 403);
}

#[test]
fn a_signature_is_for_one_request_and_thirty_seconds() {
    let mesh = Mesh::new(11, &LINKS, &[1]).up();
    let route = mesh.stub.broadcast(&room("rock"), &[name(3), name(2), name(1)]);
    let target = path(&mesh, route.as_str());
    let key = mesh.secret.link_key(&name(2), &name(3));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let send = |method: &str, path: &str, range: &str, signed_range: &str, date| {
        let auth = RelayAuth::sign(&key, "GET", &target, signed_range, &name(3), date);
        let mut headers = vec![("Authorization", auth.as_str())];
        if !range.is_empty() {
            headers.push(("Range", range));
        }
        http::request(mesh.address(2), method, path, &headers).status
    };
    assert_eq!(send("GET", &target, "bytes=9-", "bytes=9-", now), 206);
    assert_eq!(send("GET", &target, "bytes=9-", "", now), 403, "another range");
    assert_eq!(
        send("GET", &format!("http://peer-2{target}"), "", "", now),
        200,
        "the absolute form (RFC 9112 3.2.2)"
    );
    assert_eq!(send("HEAD", &target, "", "", now), 403, "another method");
    assert_eq!(send("GET", &format!("{target}?x=1"), "", "", now), 403, "another path");
    assert_eq!(send("GET", &target, "", "", now - 40), 403, "too old");
    assert_eq!(send("GET", &target, "", "", now + 40), 403, "from the future");
}

#[test]
fn a_peers_address_is_no_players() {
    let mesh = Mesh::new(12, &LINKS, &[1]).up();
    let from = |number: u8| IpAddr::from([127, 78, 12, number]);
    let status = |ip| http::get_from(ip, mesh.address(3), "/hls/demo/master.m3u8").status;
    assert_eq!(status(from(4)), 403, "another peer");
    assert_eq!(status(from(77)), 403, "any address of the peers");
    assert_eq!(status(from(3)), 200, "the peer's own machine");
    assert_eq!(status(IpAddr::from([127, 0, 0, 1])), 200);
    assert_eq!(http::get_from(from(4), mesh.address(3), "/health").status, 200, "only players are refused");
    assert_eq!(http::get(mesh.address(3), "/health", &[("Host", "a second one")]).status, 400);
}

#[test]
fn players_do_not_shut_the_neighbours_out() {
    let mesh = Mesh::new(14, &LINKS, &[1]).up();
    let to = mesh.address(3);
    // Open connections until one is closed at once: there is a bound.
    let mut players = vec![];
    while let Some(reader) = stays_open(to) {
        players.push(reader);
        assert!(players.len() < 1000, "no bound");
    }
    let health = http::get_from(IpAddr::from([127, 78, 14, 4]), to, "/health");
    assert_eq!(health.status, 200, "a neighbour still gets in");
    drop(players);
    until("players get in again", || stays_open(to).is_some());
}

/// A connection that has been answered and is kept; `None` where it was closed instead.
fn stays_open(to: std::net::SocketAddr) -> Option<impl Sized> {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(to).unwrap();
    let mut byte = [0];
    stream.write_all(b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    (stream.read(&mut byte).ok()? == 1).then_some(stream)
}

#[test]
fn a_request_may_wait_for_its_broadcast_but_only_sixteen_and_only_neighbours() {
    let mesh = Mesh::new(13, &LINKS, &[1]).up();
    // A wait ends after 1.5 s: what a busy machine does not get done in that time is begun anew.
    let answers = (0..5).find_map(|_| sixteen_early(&mesh)).expect("sixteen wait for their broadcast");
    let mut served = 0;
    for (reader, status, headers) in answers {
        // Eight transfers at a time; the others are told to come back.
        assert!(status == 200 || status == 503, "{status}");
        if status == 200 {
            let length =
                headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
            let mut body = vec![];
            reader.take(length).read_to_end(&mut body).unwrap();
            assert_eq!(body, mesh.song.segments[0]);
            served += 1;
        }
    }
    assert!(served >= 8, "{served}");
    assert!(mesh.metric(2, "hopcast_route_waiters") < 0.5);
}

/// What the body is read from, the status and the headers.
type Answer = (BufReader<TcpStream>, u16, Vec<(String, String)>);

/// What sixteen requests are answered that come before the broadcast of their route; `None` where it came too late for one.
fn sixteen_early(mesh: &Mesh) -> Option<Vec<Answer>> {
    let nothing = ["hopcast_route_waiters", "hopcast_relay_transfers"];
    until("nothing is left of those before", || nothing.iter().all(|line| mesh.metric(2, line) < 0.5));
    let rock = room("rock");
    let key = mesh.secret.link_key(&name(2), &name(3));
    // The stub numbers its routes: this will be the next but one.
    let first = mesh.stub.broadcast(&rock, &[name(2), name(1)]);
    let number: u64 = first.as_str().trim_start_matches("e-").parse().unwrap();
    let target = path(mesh, &format!("e-{}", number + 1));
    let to = mesh.address(2);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let auth = RelayAuth::sign(&key, "GET", &target, "", &name(3), now);
    let begun = Instant::now();
    let early: Vec<_> =
        (0..16).map(|_| http::open(to, "GET", &target, &[("Authorization", &auth)])).collect();
    until("sixteen wait, or the first has given up", || {
        mesh.metric(2, "hopcast_route_waiters") > 15.5 || begun.elapsed() > Duration::from_millis(1500)
    });
    // One that waits gets its 421 when it is too late for the sixteen.
    assert_eq!(http::relay(to, &name(3), &key, &target, "").status, 421, "the seventeenth does not wait");
    assert_eq!(http::get(to, &target, &[]).status, 403);

    let route = mesh.stub.broadcast(&rock, &[name(3), name(2), name(1)]);
    assert_eq!(target, path(mesh, route.as_str()));
    let answer = |mut reader| {
        let (status, headers) = http::head(&mut reader);
        (status != 421).then_some((reader, status, headers))
    };
    let answers: Option<Vec<_>> = early.into_iter().map(answer).collect();
    if answers.is_none() {
        // The stub would give the same paths the same numbers again.
        for route in [first, route] {
            mesh.stub.retire(&rock, &route);
        }
    }
    answers
}

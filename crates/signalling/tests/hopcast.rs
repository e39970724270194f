//! What clients of `hopcast.1` get on top of the original's messages.

mod support;

use fastwebsockets::OpCode;
use hopcast_protocol::limits::{EXCLUDE, HELD, HOLD_BATCH};
use serde_json::{Value, json};
use support::{Client, Running, config, open_settings, room, until};

fn content(n: u32) -> String {
    format!("sha256:{n:064x}")
}

/// a - b - c - d, all with `hopcast.1`.
async fn line(server: &Running) -> [Client; 4] {
    let mut clients = Vec::new();
    for (name, next) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "c")] {
        let mut client = server.hopcast(name, "rock").await;
        assert_eq!(client.subprotocol.as_deref(), Some("hopcast.1"));
        client.announce(name, "rock", &[next]).await;
        client.settle().await;
        clients.push(client);
    }
    clients.try_into().ok().unwrap()
}

#[tokio::test]
async fn the_requester_gets_the_whole_path_and_the_others_their_part() {
    let server = Running::open().await;
    let [mut a, mut b, mut c, mut d] = line(&server).await;
    d.send(&json!({"type": "hold", "contents": [content(1)]})).await;
    d.settle().await;
    a.send(&json!({"type": "request_path", "content": content(1), "id": 7})).await;
    let path = a.message().await;
    let route = path["route"].clone();
    assert_eq!(
        path,
        json!({"type": "path", "route": route, "room": "rock", "path": ["a", "b", "c", "d"], "next": "b", "hops": 3, "id": 7})
    );
    assert_eq!(
        b.message().await,
        json!({"type": "path", "route": route, "room": "rock", "prev": "a", "next": "c", "hops": 2})
    );
    assert_eq!(
        c.message().await,
        json!({"type": "path", "route": route, "room": "rock", "prev": "b", "next": "d", "hops": 1})
    );
    assert_eq!(
        d.message().await,
        json!({"type": "path", "route": route, "room": "rock", "prev": "c", "hops": 0})
    );
}

#[tokio::test]
async fn clients_of_both_kinds_meet_on_one_path() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    let mut b = server.hopcast("b", "rock").await;
    let mut c = server.original("c", "rock").await;
    b.announce("b", "rock", &["a", "c"]).await;
    b.settle().await;
    let plain = json!({"type": "path", "path": ["a", "b", "c"]});
    assert_eq!(a.ask("c").await, plain);
    assert_eq!(c.message().await, plain);
    let compact = b.message().await;
    assert_eq!((&compact["prev"], &compact["next"]), (&json!("a"), &json!("c")));
    drop(c);
    assert_eq!(b.next("route_down").await["route"], compact["route"]);
    assert_eq!(a.ask("b").await["type"], "path", "the original's client was not told of the route's end");
}

#[tokio::test]
async fn a_route_keeps_its_id_while_its_path_stands_and_another_path_gets_another() {
    let server = Running::open().await;
    let [mut a, _b, mut c, _d] = line(&server).await;
    let first = a.ask("d").await["route"].clone();
    let (epoch, number) = first.as_str().unwrap().rsplit_once('-').unwrap();
    assert!(epoch.len() == 8 && epoch.bytes().all(|c| c.is_ascii_hexdigit()), "{epoch}");
    number.parse::<u64>().unwrap();
    assert_eq!(a.ask("d").await["route"], first);
    assert_eq!(a.ask("d").await["route"], first);
    let other = a.ask("c").await["route"].clone();
    assert_ne!(other, first);
    // A shorter way is another path.
    c.announce("c", "rock", &["d", "a"]).await;
    c.settle().await;
    let shorter = a.ask("d").await;
    assert_eq!(shorter["path"], json!(["a", "c", "d"]));
    assert_ne!(shorter["route"], first);
}

#[tokio::test]
async fn the_nearest_holder_is_found_and_excluded_ones_are_not() {
    let server = Running::open().await;
    let [mut a, mut b, mut c, mut d] = line(&server).await;
    a.send(&json!({"type": "request_path", "content": content(1), "id": 1})).await;
    let none = a.message().await;
    assert_eq!((&none["code"], &none["id"]), (&json!("no_holder"), &json!(1)));

    for client in [&mut b, &mut c] {
        client.send(&json!({"type": "hold", "contents": [content(1), content(2)]})).await;
        client.settle().await;
    }
    d.send(&json!({"type": "hold", "all": true})).await;
    d.settle().await;
    let ask = async |a: &mut Client, content: &str, exclude: Value| -> Value {
        a.send(&json!({"type": "request_path", "content": content, "exclude": exclude})).await;
        a.answer().await["path"].as_array().and_then(|path| path.last().cloned()).unwrap_or_default()
    };
    assert_eq!(ask(&mut a, &content(1), json!([])).await, "b");
    assert_eq!(ask(&mut a, &content(1), json!(["b"])).await, "c");
    assert_eq!(ask(&mut a, &content(1), json!(["b", "c"])).await, "d", "a gateway holds all");
    assert_eq!(ask(&mut a, &content(1), json!(["b", "c", "d"])).await, Value::Null);
    assert_eq!(ask(&mut a, &content(3), json!([])).await, "d");
    a.send(&json!({"type": "request_path", "content": content(1), "avoid": ["b"]})).await;
    assert_eq!(a.answer().await["code"], "no_holder", "b is neither holder nor hop");
    c.announce("c", "rock", &["d", "a"]).await;
    c.settle().await;
    a.send(&json!({"type": "request_path", "content": content(1), "exclude": ["c"], "avoid": ["b"]})).await;
    assert_eq!(a.answer().await["path"], json!(["a", "c", "d"]), "c is no holder for it, but a hop");
    let many = vec!["b"; EXCLUDE + 1];
    a.send(&json!({"type": "request_path", "content": content(1), "avoid": many, "id": 9})).await;
    let refused = a.answer().await;
    assert_eq!((&refused["code"], &refused["id"]), (&json!("too_large"), &json!(9)));
    c.announce("c", "rock", &["d"]).await;
    c.settle().await;
    assert_eq!(ask(&mut a, "manifest:demo", json!([])).await, "d", "manifests are the gateways'");
    assert_eq!(ask(&mut b, &content(1), json!([])).await, "c", "who asks is not the holder");

    b.send(&json!({"type": "drop", "contents": [content(1)]})).await;
    b.settle().await;
    assert_eq!(ask(&mut a, &content(1), json!([])).await, "c");
    assert_eq!(ask(&mut a, &content(2), json!([])).await, "b");
    d.send(&json!({"type": "drop", "all": true})).await;
    d.settle().await;
    assert_eq!(ask(&mut a, "manifest:demo", json!([])).await, Value::Null);
    drop(c);
    server.connected("rock", &["a", "b", "d"]).await;
    assert_eq!(ask(&mut a, &content(1), json!([])).await, Value::Null, "what it held is gone with it");
}

#[tokio::test]
async fn a_link_that_is_reported_down_ends_the_routes_over_it_and_no_others() {
    let server = Running::open().await;
    let [mut a, mut b, mut c, mut d] = line(&server).await;
    let over = a.ask("c").await["route"].clone();
    let beside = d.ask("c").await["route"].clone();
    b.send(&json!({"type": "link", "neighbor": "c", "up": false})).await;
    for client in [&mut a, &mut b, &mut c] {
        assert_eq!(client.next("route_down").await, json!({"type": "route_down", "route": over}));
    }
    assert_eq!(a.ask("c").await["code"], "no_path");
    assert_eq!(d.ask("c").await["route"], beside, "it was not touched");

    // The other end cannot clear the report; the same end can.
    c.send(&json!({"type": "link", "neighbor": "b", "up": true})).await;
    c.settle().await;
    assert_eq!(a.ask("c").await["code"], "no_path");
    b.send(&json!({"type": "link", "neighbor": "c", "up": true})).await;
    b.settle().await;
    let again = a.ask("c").await;
    assert_eq!(again["path"], json!(["a", "b", "c"]));
    assert_ne!(again["route"], over, "an ended route does not come back");

    // Its next connection clears a report, too.
    b.send(&json!({"type": "link", "neighbor": "c", "up": false})).await;
    b.settle().await;
    let mut b = server.hopcast("b", "rock").await;
    b.announce("b", "rock", &["a", "c"]).await;
    b.settle().await;
    assert_eq!(a.ask("c").await["path"], json!(["a", "b", "c"]));

    b.send(&json!({"type": "link", "neighbor": "d", "up": false})).await;
    assert_eq!(b.next("error").await["code"], "not_a_link");
}

#[tokio::test]
async fn a_peer_that_goes_or_is_replaced_ends_the_routes_through_it() {
    let server = Running::open().await;
    let [mut a, b, mut c, _d] = line(&server).await;
    let route = a.ask("c").await["route"].clone();
    let mut newer = server.hopcast("b", "rock").await;
    assert_eq!(a.next("route_down").await["route"], route, "the newer connection does not know the route");
    assert_eq!(c.next("route_down").await["route"], route);
    drop(b);
    newer.announce("b", "rock", &["a", "c"]).await;
    newer.settle().await;
    let route = a.ask("c").await["route"].clone();
    drop(newer);
    assert_eq!(a.next("route_down").await["route"], route);
}

#[tokio::test]
async fn however_many_go_at_once_the_last_way_is_told_unasked() {
    let server = Running::open().await;
    let mut a = server.hopcast("a", "rock").await;
    let mut d = server.hopcast("d", "rock").await;
    let relays = ["b0", "b1", "b2", "b3", "b4", "b5"];
    let mut between = Vec::new();
    for relay in relays {
        between.push(server.hopcast(relay, "rock").await);
    }
    for (client, name) in [(&mut a, "a"), (&mut d, "d")] {
        client.announce(name, "rock", &relays).await;
        client.settle().await;
    }
    d.send(&json!({"type": "hold", "contents": [content(1)]})).await;
    d.settle().await;
    a.send(&json!({"type": "request_path", "content": content(1), "id": 1})).await;
    let mut last = a.answer().await;
    let mut stays = server.hopcast("b9", "rock").await;
    stays.announce("b9", "rock", &["a", "d"]).await;
    stays.settle().await;
    drop(between);
    // Each path on the way there takes the place of the one before; in the end it is the one that stays.
    while last["path"][1] != "b9" {
        let down = a.message().await;
        assert_eq!(down, json!({"type": "route_down", "route": last["route"]}));
        let next = a.message().await;
        assert_eq!((&next["replaces"], &next["content"]), (&last["route"], &json!(content(1))), "{next}");
        last = next;
    }
}

#[tokio::test]
async fn lists_and_holdings_are_bounded_each_with_its_own_error() {
    let server = Running::open().await;
    let mut a = server.hopcast("a", "rock").await;
    let batch = |from: u32, len: usize| (0..len as u32).map(|n| content(from + n)).collect::<Vec<_>>();
    a.send(&json!({"type": "hold", "contents": batch(0, HOLD_BATCH + 1)})).await;
    let error = a.message().await;
    assert_eq!(error["code"], "too_large");
    assert!(error["message"].as_str().unwrap().contains("513"), "{error}");
    let names: Vec<_> = (0..=EXCLUDE).map(|n| format!("p{n}")).collect();
    a.send(&json!({"type": "request_path", "content": content(1), "exclude": names, "id": 3})).await;
    let error = a.message().await;
    assert_eq!((&error["code"], &error["id"]), (&json!("too_large"), &json!(3)));
    for from in 0..(HELD / HOLD_BATCH) as u32 {
        a.send(&json!({"type": "hold", "contents": batch(from * HOLD_BATCH as u32, HOLD_BATCH)})).await;
    }
    a.send(&json!({"type": "hold", "contents": [content(u32::MAX)]})).await;
    let error = a.message().await;
    assert_eq!(error["code"], "too_large");
    assert!(error["message"].as_str().unwrap().contains("8193"), "{error}");
    a.send(&json!({"type": "hold", "contents": ["manifest:demo"]})).await;
    assert_eq!(a.message().await["code"], "not_a_gateway");
    a.send(&json!({"type": "request_path", "id": 9})).await;
    assert_eq!(a.message().await["id"], 9);
    a.send(&json!({"type": "request_path", "target": "b", "content": content(1)})).await;
    assert_eq!(a.message().await["code"], "bad_message");
}

#[tokio::test]
async fn with_a_file_its_links_stand_and_no_other_is_taken() {
    let mut config = config(vec![room("rock", &["a", "b", "c"], &[("a", "b"), ("b", "c")])]);
    config.gateways = vec!["c".parse().unwrap()];
    let server = Running::with(&hopcast_signalling::config::Settings::from_config(config).unwrap()).await;
    let mut a = server.hopcast("a", "rock").await;
    let _b = server.hopcast("b", "rock").await;
    let mut c = server.hopcast("c", "rock").await;
    assert_eq!(a.ask("c").await["path"], json!(["a", "b", "c"]), "nobody announced anything");
    a.announce("a", "rock", &["b", "c"]).await;
    assert_eq!(a.next("error").await["code"], "not_a_link");
    assert_eq!(a.ask("c").await["path"], json!(["a", "b", "c"]), "refused whole");
    a.announce("a", "rock", &["b"]).await;
    a.send(&json!({"type": "hold", "all": true})).await;
    assert_eq!(a.next("error").await["code"], "not_a_gateway");
    c.send(&json!({"type": "hold", "all": true})).await;
    c.settle().await;
    a.send(&json!({"type": "request_path", "content": "manifest:demo"})).await;
    assert_eq!(a.message().await["path"], json!(["a", "b", "c"]));
}

#[tokio::test]
async fn a_gateway_that_the_file_drops_is_told_so_and_may_say_it_again() {
    let config = |gateways: &[&str]| {
        let mut config = config(vec![room("rock", &["a", "b"], &[("a", "b")])]);
        config.gateways = gateways.iter().map(|name| name.parse().unwrap()).collect();
        hopcast_signalling::config::Settings::from_config(config).unwrap()
    };
    let server = Running::with(&config(&["b"])).await;
    let (mut a, mut b) = (server.hopcast("a", "rock").await, server.hopcast("b", "rock").await);
    let manifest = json!({"type": "request_path", "content": "manifest:demo"});
    let all = json!({"type": "hold", "all": true});
    b.send(&all).await;
    b.settle().await;
    a.send(&manifest).await;
    assert_eq!(a.next("path").await["path"], json!(["a", "b"]));
    server.reload.send(config(&["a"])).await.unwrap();
    assert_eq!(b.next("error").await["code"], "not_a_gateway", "unasked");
    a.send(&manifest).await;
    assert_eq!(a.next("error").await["code"], "no_holder");
    server.reload.send(config(&["b"])).await.unwrap();
    until("the file is reread", async || {
        b.send(&all).await;
        b.settle().await;
        a.send(&manifest).await;
        let answer = a.message().await;
        answer["type"] == "path"
    })
    .await;
}

#[tokio::test]
async fn announced_liveness_is_the_originals_looser_reading() {
    let mut settings = open_settings();
    settings.liveness = hopcast_signalling::config::liveness("announced").unwrap();
    let server = Running::with(&settings).await;
    let mut a = server.original("a", "rock").await;
    let mut c = server.original("c", "rock").await;
    c.announce("c", "rock", &["ghost"]).await;
    c.settle().await;
    a.announce("a", "rock", &["ghost"]).await;
    assert_eq!(a.ask("c").await["path"], json!(["a", "ghost", "c"]));
    assert_eq!(c.next("path").await["path"], json!(["a", "ghost", "c"]));
}

#[tokio::test]
async fn a_pong_comes_in_its_place_among_the_answers() {
    let server = Running::open().await;
    let mut a = server.original("a", "rock").await;
    for n in 0..50_u8 {
        a.send(&json!({"type": "request_path", "target": "nobody"})).await;
        let ping = fastwebsockets::Frame::new(true, OpCode::Ping, None, vec![n].into());
        a.socket.write_frame(ping).await.unwrap();
    }
    for n in 0..50_u8 {
        assert!(a.frame().await.unwrap().0 == OpCode::Text);
        let (opcode, payload) = a.frame().await.unwrap();
        assert!(opcode == OpCode::Pong && payload == [n], "{opcode:?} {payload:?}");
    }
}

#[tokio::test]
async fn routes_of_an_ended_room_are_not_counted() {
    let server = Running::open().await;
    let [mut a, b, c, d] = line(&server).await;
    a.ask("d").await;
    assert!(server.get("/metrics").await.1.contains("hopcast_signalling_routes 1\n"));
    drop((a, b, c, d));
    until("no route", async || server.get("/metrics").await.1.contains("hopcast_signalling_routes 0\n"))
        .await;
}

//! What is lost is found anew unasked, and what nobody uses ends: the room alone, on a clock of the test's own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hopcast_protocol::{
    PeerName,
    limits::{ROUTE_IDLE, USE_EVERY},
};
use hopcast_signalling::{
    config::RoomSeed,
    core::{ConnectionId, Dialect, Epoch, MEND_EVERY, Output, Outputs, Policy, Room, Tally},
};
use serde_json::{Value, json};

/// A room whose peers are `p0`, `p1`, ...; a peer's connection has its number.
struct Bare {
    room: Room,
    out: Outputs,
    now: Duration,
}

impl Bare {
    /// All connected.
    fn new(peers: u64, links: impl IntoIterator<Item = (u64, u64)>, dialect: Dialect) -> Self {
        let links: Vec<_> = links.into_iter().map(|(a, b)| (name(a), name(b))).collect();
        let everyone: BTreeSet<_> = (0..peers).map(name).collect();
        let seed = RoomSeed { peers: everyone, links };
        let policy = Policy { seed: Some(Arc::new(seed)), ..Policy::default() };
        let room = Room::new("rock".parse().unwrap(), policy, Arc::new(Epoch::new("e")));
        let mut bare = Self { room, out: Outputs::default(), now: Duration::ZERO };
        for n in 0..peers {
            bare.room.connect(ConnectionId(n), &name(n), dialect, bare.now, &mut bare.out).unwrap();
        }
        bare.out.tally.clear();
        bare
    }

    fn say(&mut self, n: u64, message: &Value) {
        let text = message.to_string();
        self.room.message(ConnectionId(n), text.as_bytes(), self.now, &mut self.out);
        self.room.mend(self.now, &mut self.out);
    }

    fn leave(&mut self, n: u64) {
        self.room.disconnect(ConnectionId(n), &mut self.out);
        self.room.mend(self.now, &mut self.out);
    }

    /// The clock goes on; everyone is heard meanwhile.
    fn pass(&mut self, time: Duration, peers: u64) {
        self.now += time;
        for n in 0..peers {
            self.room.alive(ConnectionId(n), self.now);
        }
        self.room.tick(self.now, &mut self.out);
        self.room.mend(self.now, &mut self.out);
    }

    /// To whom, and what, since the last call.
    fn sent(&mut self) -> Vec<(u64, Value)> {
        let message = |output| match output {
            Output::Send { to, frame } => (to.0, serde_json::from_slice(frame.payload()).unwrap()),
            other => panic!("{other:?}"),
        };
        self.out.frames.drain(..).map(message).collect()
    }

    /// How many lost paths were computed since the last call.
    fn computed(&mut self) -> usize {
        let of = |tally: &Tally| matches!(tally, Tally::Mended(_));
        self.out.tally.drain(..).filter(of).count()
    }
}

fn name(n: u64) -> PeerName {
    format!("p{n}").parse().unwrap()
}

fn content(n: u32) -> String {
    format!("sha256:{n:064x}")
}

/// p0 - p1 - p3 and p0 - p2 - p3 - p4.
const SQUARE: [(u64, u64); 5] = [(0, 1), (1, 3), (0, 2), (2, 3), (3, 4)];

#[test]
fn the_new_path_goes_to_everyone_on_it_and_the_old_route_ends_first() {
    let mut bare = Bare::new(5, SQUARE, Dialect::Hopcast);
    bare.say(4, &json!({"type": "hold", "contents": [content(1)]}));
    bare.say(3, &json!({"type": "hold", "contents": [content(1)]}));
    bare.say(0, &json!({"type": "request_path", "content": content(1), "exclude": ["p3"], "id": 7}));
    assert_eq!(bare.sent().last().unwrap().1["path"], json!(["p0", "p1", "p3", "p4"]));
    bare.say(1, &json!({"type": "link", "neighbor": "p3", "up": false}));
    let sent = bare.sent();
    let down = json!({"type": "route_down", "route": "e-1"});
    assert_eq!(sent[..4], [0, 1, 3, 4].map(|n| (n, down.clone())));
    let path = |fields: Value| {
        let mut message = json!({"type": "path", "route": "e-2", "room": "rock"});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let whole = json!({"path": ["p0", "p2", "p3", "p4"], "next": "p2", "hops": 3, "replaces": "e-1", "content": content(1)});
    let expected = [
        (4, path(json!({"prev": "p3", "hops": 0}))),
        (3, path(json!({"prev": "p2", "next": "p4", "hops": 1}))),
        (2, path(json!({"prev": "p0", "next": "p3", "hops": 2}))),
        (0, path(whole)),
    ];
    assert_eq!(sent[4..], expected, "p3 holds it, too, but the request excluded it");
    assert_eq!(bare.computed(), 1);
}

#[test]
fn only_what_went_over_the_lost_link_is_computed_anew() {
    let mut bare = Bare::new(5, SQUARE, Dialect::Hopcast);
    for (from, to) in [(0, "p3"), (1, "p3"), (2, "p3"), (4, "p2"), (0, "p2")] {
        bare.say(from, &json!({"type": "request_path", "target": to}));
    }
    bare.sent();
    // A link that carries nothing; one that comes up.
    bare.say(0, &json!({"type": "link", "neighbor": "p1", "up": true}));
    assert_eq!((bare.sent(), bare.computed()), (vec![], 0));
    bare.now += MEND_EVERY;
    bare.say(3, &json!({"type": "link", "neighbor": "p1", "up": false}));
    let requesters: Vec<_> =
        bare.sent().into_iter().filter(|(_, message)| message["replaces"].is_string()).collect();
    let paths: Vec<_> = requesters.iter().map(|(n, message)| (*n, &message["path"])).collect();
    assert_eq!(paths, [(0, &json!(["p0", "p2", "p3"])), (1, &json!(["p1", "p0", "p2", "p3"]))]);
    assert_eq!((bare.computed(), bare.room.routes()), (2, 5), "three others stand as they were");
}

#[test]
fn where_there_is_no_other_way_the_requester_is_told_so() {
    let mut bare = Bare::new(5, SQUARE, Dialect::Hopcast);
    bare.say(4, &json!({"type": "hold", "contents": [content(1)]}));
    bare.say(0, &json!({"type": "request_path", "target": "p4", "id": 1}));
    bare.say(1, &json!({"type": "request_path", "content": content(1), "id": 2}));
    bare.say(2, &json!({"type": "request_path", "target": "p4", "id": 3}));
    bare.sent();
    bare.say(4, &json!({"type": "link", "neighbor": "p3", "up": false}));
    let errors = |bare: &mut Bare| -> Vec<_> {
        let sent = bare.sent().into_iter();
        let errors = sent.filter(|(_, message)| message["type"] == "error").map(|(n, message)| {
            assert!(message["id"].is_null() && message["message"].is_string(), "{message}");
            (n, message["code"].clone(), message["route"].clone())
        });
        errors.collect()
    };
    let expected = [(0, "no_path", "e-1"), (1, "no_holder", "e-2"), (2, "no_path", "e-3")];
    assert_eq!(errors(&mut bare), expected.map(|(n, code, route)| (n, json!(code), json!(route))));
    bare.pass(MEND_EVERY, 5);
    bare.say(2, &json!({"type": "request_path", "target": "p3"}));
    bare.leave(3);
    assert_eq!(errors(&mut bare), [(2, json!("unknown_peer"), json!("e-4"))]);
}

#[test]
fn a_client_of_the_original_gets_its_new_path_and_no_error() {
    let mut bare = Bare::new(5, SQUARE, Dialect::Original);
    bare.say(0, &json!({"type": "request_path", "target": "p4"}));
    bare.sent();
    bare.pass(ROUTE_IDLE * 5, 5); // it cannot say that it uses the path: it is remembered as long as it is here
    bare.sent();
    bare.leave(1);
    let path = json!({"type": "path", "path": ["p0", "p2", "p3", "p4"]});
    assert_eq!(bare.sent(), [4, 3, 2, 0].map(|n| (n, path.clone())));
    bare.pass(MEND_EVERY, 5);
    bare.sent();
    bare.leave(2);
    assert_eq!((bare.sent(), bare.computed()), (vec![], 2), "there is no other way, and nothing to say");
    // Who has left gets nothing, and nothing is computed for it.
    let mut bare = Bare::new(5, SQUARE, Dialect::Original);
    bare.say(0, &json!({"type": "request_path", "target": "p4"}));
    bare.leave(0);
    bare.leave(1);
    bare.sent();
    assert_eq!((bare.computed(), bare.room.routes()), (0, 0));
}

/// 40 requesters (the first numbers), each linked to each of 2000 relays, those to one holder (the last number).
fn fan() -> (Bare, u64, u64) {
    let (requesters, relays) = (40, 2000);
    let holder = requesters + relays;
    let links = (requesters..holder).flat_map(move |relay| {
        (0..requesters).map(move |requester| (requester, relay)).chain([(relay, holder)])
    });
    let mut bare = Bare::new(holder + 1, links, Dialect::Original);
    for requester in 0..requesters {
        bare.say(requester, &json!({"type": "request_path", "target": format!("p{holder}")}));
    }
    bare.sent();
    (bare, requesters, holder)
}

#[test]
fn thousands_that_leave_at_once_cost_a_few_paths_for_each_who_stays() {
    let (mut bare, requesters, holder) = fan();
    for relay in requesters..holder - 1 {
        bare.leave(relay); // all in the same instant; each may carry all paths
    }
    let mut rounds = 0;
    while bare.room.is_mending() {
        bare.pass(MEND_EVERY, holder + 1);
        rounds += 1;
    }
    assert!(rounds < 10, "{rounds}");
    let last: Vec<_> = bare.sent().into_iter().filter(|(n, _)| *n < requesters).collect();
    for (requester, message) in &last[last.len() - requesters as usize..] {
        let path = [*requester, holder - 1, holder].map(|n| format!("p{n}"));
        assert_eq!(*message, json!({"type": "path", "path": path}));
    }
    let computed = bare.computed();
    assert!(computed <= 2 * requesters as usize, "{computed}");

    // One after the other over a second: once in a round, however many left in it, and rounds become rarer.
    let (mut bare, requesters, holder) = fan();
    for relay in requesters..holder - 1 {
        bare.now += Duration::from_micros(500);
        bare.leave(relay);
    }
    let most = bare.now.as_millis() / MEND_EVERY.as_millis();
    let computed = bare.computed();
    assert!(
        computed <= (requesters as usize) * (most as usize) * 3 / 4,
        "{computed} in at most {most} rounds"
    );
}

#[test]
fn when_many_leave_at_once_only_who_stays_is_told_of_the_ended_routes() {
    // 100 requesters at one end of a line of 400: more than 30,000 to be told when it breaks.
    let mut bare = Bare::new(400, (0..399).map(|n| (n, n + 1)), Dialect::Hopcast);
    for n in 0..100 {
        bare.say(n, &json!({"type": "request_path", "target": "p399"}));
    }
    bare.sent();
    for relay in 200..399 {
        bare.leave(relay);
    }
    let is_down = |message: &Value| message["type"] == "route_down";
    assert!(!bare.sent().iter().any(|(_, message)| is_down(message)), "they wait");
    assert!(bare.room.is_mending());
    bare.pass(MEND_EVERY, 400);
    let mut told: Vec<_> = bare.sent().into_iter().filter(|(_, message)| is_down(message)).collect();
    assert!(told.iter().all(|&(n, _)| n < 200 || n == 399));
    // p0 to p199 are on the routes of all requesters before them, p399 on all.
    assert_eq!(told.len(), (0..100).map(|n| 200 - n + 1).sum::<usize>());
    told.sort_by_key(|(n, message)| (*n, message.to_string()));
    told.dedup();
    assert_eq!(told.len(), (0..100).map(|n| 200 - n + 1).sum::<usize>(), "once each");
}

#[test]
fn one_round_is_bounded_and_the_next_goes_on() {
    // A long line that breaks is the worst: a search looks at all of it. 1,200 requesters at one end of 800 hops.
    let (requesters, line) = (1200_u64, 800_u64);
    let links = (0..requesters).map(|n| (n, requesters));
    let links = links.chain((requesters..requesters + line).map(|n| (n, n + 1)));
    let end = requesters + line;
    let mut bare = Bare::new(end + 1, links, Dialect::Original);
    for n in 0..requesters {
        bare.say(n, &json!({"type": "request_path", "target": format!("p{end}")}));
    }
    bare.out.frames.clear();
    bare.leave(requesters + line / 2);
    let mut rounds = vec![bare.computed()];
    while bare.room.is_mending() {
        bare.pass(MEND_EVERY, end + 1);
        rounds.push(bare.computed());
    }
    assert_eq!(rounds.iter().sum::<usize>(), requesters as usize);
    assert!(rounds.len() >= 2 && rounds.iter().all(|&paths| paths < 900), "{rounds:?}");
}

#[test]
fn a_route_that_nobody_uses_ends_after_sixty_seconds_and_one_in_use_does_not() {
    let mut bare = Bare::new(5, SQUARE, Dialect::Hopcast);
    bare.say(0, &json!({"type": "request_path", "target": "p3"}));
    bare.say(4, &json!({"type": "request_path", "target": "p3"}));
    bare.sent();
    let down = |sent: Vec<(u64, Value)>| -> Vec<_> {
        sent.into_iter()
            .filter(|(_, message)| message["type"] == "route_down")
            .map(|(n, message)| (n, message["route"].as_str().unwrap().to_owned()))
            .collect()
    };
    let mut ended = Vec::new();
    for _ in 0..8 {
        bare.pass(USE_EVERY, 5);
        // Its requester says so; the other end's word does not count; ids of the epoch before are no fault.
        bare.say(0, &json!({"type": "use", "routes": ["e-1", "f-1", "e-99"]}));
        bare.say(3, &json!({"type": "use", "routes": ["e-2"]}));
        ended.extend(down(bare.sent()));
    }
    assert_eq!(ended, [(4, "e-2".to_owned()), (3, "e-2".to_owned())]);
    assert_eq!(bare.room.routes(), 1);
    bare.pass(ROUTE_IDLE, 5);
    assert_eq!(bare.room.routes(), 1, "not yet");
    bare.pass(Duration::from_millis(500), 5);
    assert_eq!(bare.room.routes(), 0);
    let many: Vec<_> = (0..257).map(|n| format!("e-{n}")).collect();
    bare.out.frames.clear();
    bare.say(0, &json!({"type": "use", "routes": many}));
    assert_eq!(bare.sent()[0].1["code"], "too_large");
}

//! Arbitrary bytes and arbitrary orders of messages: nothing panics, and every text gets its answer.

use std::{sync::Arc, time::Duration};

use hopcast_protocol::PeerName;
use hopcast_signalling::{
    connection::{self, ConnectionLimits, Handler},
    core::{ConnectionId, Dialect, Epoch, Output, Outputs, Policy, Room},
    group::Turns,
    outbox::{Outbox, OutboxLimits},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const PEERS: [&str; 4] = ["a", "b", "c", "d"];

fn full_room(dialect: Dialect) -> (Room, Outputs) {
    let policy = Policy { peers: 100, ..Policy::default() };
    let mut room = Room::new("rock".parse().unwrap(), policy, Arc::new(Epoch::new("e")));
    let mut out = Outputs { watched: true, ..Outputs::default() };
    for (number, peer) in PEERS.iter().enumerate() {
        let peer: PeerName = peer.parse().unwrap();
        room.connect(ConnectionId(number as u64), &peer, dialect, Duration::ZERO, &mut out).unwrap();
    }
    out.frames.clear();
    (room, out)
}

/// What one connection was sent, as JSON.
fn sent(out: &Outputs, to: u64) -> Vec<Value> {
    let of = |output: &Output| match output {
        Output::Send { to: at, frame } if at.0 == to => serde_json::from_slice(frame.payload()).ok(),
        _ => None,
    };
    out.frames.iter().filter_map(of).collect()
}

/// Something that looks like a message, with values of every kind in every field.
fn nearly_a_message() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!(7)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        proptest::sample::select(vec!["a", "b", "nobody", "rock", "soul", ""]).prop_map(|name| json!(name)),
        proptest::collection::vec(proptest::sample::select(PEERS.to_vec()), 0..5)
            .prop_map(|names| json!(names)),
        Just(json!([format!("sha256:{}", "0".repeat(64)), "manifest:demo"])),
        Just(json!("manifest:demo")),
        "\\PC{0,80}".prop_map(|text| json!(text)),
    ];
    let field = proptest::sample::select(vec![
        "peer",
        "room",
        "neighbors",
        "target",
        "content",
        "exclude",
        "id",
        "contents",
        "all",
        "neighbor",
        "up",
        "routes",
        "x",
    ]);
    let kind =
        proptest::sample::select(vec!["announce", "request_path", "hold", "drop", "link", "use", "dance"]);
    (kind, proptest::collection::vec((field, value), 0..6)).prop_map(|(kind, fields)| {
        let mut message = serde_json::Map::new();
        message.insert("type".into(), json!(kind));
        message.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(message).to_string()
    })
}

/// `announce`, `hold`, `drop`, `link` and `use` have no positive answer.
fn may_be_silent(text: &str) -> bool {
    let kind =
        serde_json::from_str::<Value>(text).ok().and_then(|value| value["type"].as_str().map(String::from));
    matches!(kind.as_deref(), Some("announce" | "hold" | "drop" | "link" | "use"))
}

#[derive(Debug, Clone)]
enum Step {
    Say(u64, String),
    Join(u64, usize, bool),
    Leave(u64),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u64, nearly_a_message()).prop_map(|(who, text)| Step::Say(who, text)),
        2 => (0..12_u64, 0..PEERS.len(), any::<bool>()).prop_map(|(who, peer, both)| Step::Join(who, peer, both)),
        1 => (0..12_u64).prop_map(Step::Leave),
        1 => (0..4_u64).prop_map(Step::Tick),
    ]
}

struct Nothing(Arc<Outbox>);

impl Handler for Nothing {
    fn alive(&mut self) {}
    fn message(&mut self, payload: &[u8], text: bool) {
        assert!(!text || std::str::from_utf8(payload).is_ok(), "a text is UTF-8");
        let _ = self.0.push(hopcast_signalling::frame::Frame::text(b"heard"));
    }
    fn too_large(&mut self) {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer_of_their_own(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for dialect in [Dialect::Original, Dialect::Hopcast] {
            let (mut room, mut out) = full_room(dialect);
            room.message(ConnectionId(0), &bytes, Duration::ZERO, &mut out);
            let answers = sent(&out, 0);
            prop_assert_eq!(answers.len(), 1);
            prop_assert_eq!(&answers[0]["type"], "error");
            prop_assert_eq!(out.frames.len(), 1, "nobody else hears of it");
        }
    }

    #[test]
    fn every_text_is_carried_out_or_answered(text in nearly_a_message(), hopcast in any::<bool>()) {
        let (mut room, mut out) = full_room(if hopcast { Dialect::Hopcast } else { Dialect::Original });
        room.message(ConnectionId(0), text.as_bytes(), Duration::ZERO, &mut out);
        let answers = sent(&out, 0);
        prop_assert!(answers.len() <= 1);
        prop_assert!(answers.len() == 1 || may_be_silent(&text), "no answer to {}", text);
        if let [answer] = &answers[..] {
            prop_assert!(answer["type"] == "error" || answer["path"].is_array(), "{}", answer);
            prop_assert!(hopcast || answer.get("id").is_none() && answer.get("route").is_none());
        }
    }

    #[test]
    fn any_order_of_joins_messages_and_ends_keeps_the_room_whole(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut room, mut out) = full_room(Dialect::Hopcast);
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Say(who, text) => {
                    room.alive(ConnectionId(who), now);
                    room.message(ConnectionId(who), text.as_bytes(), now, &mut out);
                }
                Step::Join(who, peer, hopcast) => {
                    // A connection's number is never used twice.
                    room.disconnect(ConnectionId(who), &mut out);
                    let dialect = if hopcast { Dialect::Hopcast } else { Dialect::Original };
                    let peer = PEERS[peer].parse().unwrap();
                    room.connect(ConnectionId(who), &peer, dialect, now, &mut out).unwrap();
                }
                Step::Leave(who) => room.disconnect(ConnectionId(who), &mut out),
                Step::Tick(seconds) => {
                    now += Duration::from_secs(seconds);
                    room.tick(now, &mut out);
                }
            }
            room.mend(now, &mut out);
            let view = room.view();
            prop_assert_eq!(view.connected.len(), room.connections());
            prop_assert!(view.connected.len() <= PEERS.len());
        }
        for who in 0..12 {
            room.disconnect(ConnectionId(who), &mut out);
        }
        prop_assert_eq!((room.connections(), room.routes()), (0, 0));
        prop_assert_eq!(room.view().links, 0);
        prop_assert_eq!(room.view().peers, 0, "nothing of them is kept");
    }

    #[test]
    fn any_bytes_on_the_wire_end_in_a_close_or_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let written = runtime.block_on(async {
            let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
            let limits = ConnectionLimits { message: 256, ..ConnectionLimits::default() };
            let mut written = Vec::new();
            connection::serve(&bytes[..], &mut written, &outbox, &Turns::default(), Nothing(outbox.clone()), limits).await;
            written
        });
        // What was written is whole frames.
        let mut rest = &written[..];
        while let [head, len, tail @ ..] = rest {
            prop_assert!(matches!(head, 0x81 | 0x88 | 0x8a), "{:x}", head);
            rest = &tail[usize::from(*len)..];
        }
        prop_assert!(rest.is_empty());
    }
}

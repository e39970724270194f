//! Recordings of whole conversations, replayed against the room without sockets or clock.
//!
//! A recording is lines of JSON: `{"room":..}` first, then what goes in (`at` in milliseconds, and one of `connect`,
//! `say`, `text`, `alive`, `disconnect`, `tick`, `retire`), each followed by what came out (`send`, `close`, `cut`, `event`).
//! `HOPCAST_RECORD=1 cargo test -p hopcast-signalling --test replay` writes the outputs anew: read the diff.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use hopcast_protocol::{PeerName, RoomName};
use hopcast_signalling::{
    config::{RoomSeed, liveness},
    core::{ConnectionId, Cut, Dialect, Epoch, Output, Outputs, Policy, Room},
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    room: RoomName,
    #[serde(default)]
    liveness: String,
    #[serde(default)]
    links: Option<Vec<(PeerName, PeerName)>>,
    #[serde(default)]
    gateways: Option<HashSet<PeerName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    at: u64,
    connect: Option<Connect>,
    /// A message as JSON.
    say: Option<(u64, Value)>,
    /// A message as it is.
    text: Option<(u64, String)>,
    alive: Option<u64>,
    disconnect: Option<u64>,
    tick: Option<bool>,
    retire: Option<hopcast_protocol::RouteId>,
    /// A changed file.
    links: Option<Vec<(PeerName, PeerName)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connect {
    id: u64,
    peer: PeerName,
    #[serde(default)]
    original: bool,
}

fn seed(links: Vec<(PeerName, PeerName)>) -> Arc<RoomSeed> {
    let peers = links.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    Arc::new(RoomSeed { peers, links })
}

fn put(room: &mut Room, policy: &mut Policy, input: Input, out: &mut Outputs) {
    let now = Duration::from_millis(input.at);
    if let Some(Connect { id, peer, original }) = input.connect {
        let dialect = if original { Dialect::Original } else { Dialect::Hopcast };
        room.connect(ConnectionId(id), &peer, dialect, now, out).unwrap();
    }
    let said = input.say.map(|(id, message)| (id, message.to_string()));
    if let Some((id, text)) = said.or(input.text) {
        room.alive(ConnectionId(id), now);
        room.message(ConnectionId(id), text.as_bytes(), now, out);
    }
    if let Some(id) = input.alive {
        room.alive(ConnectionId(id), now);
    }
    if let Some(id) = input.disconnect {
        room.disconnect(ConnectionId(id), out);
    }
    if input.tick == Some(true) {
        room.tick(now, out);
    }
    if let Some(route) = input.retire {
        room.retire(&route, out);
    }
    if let Some(links) = input.links {
        policy.seed = Some(seed(links));
        room.reseed(policy.clone(), out);
    }
    room.mend(now, out);
}

fn lines(out: &mut Outputs) -> Vec<String> {
    let frame = |output: Output| match output {
        Output::Send { to, frame } => match serde_json::from_slice::<Value>(frame.payload()) {
            Ok(message) => json!({"send": to.0, "message": message}),
            Err(_) => json!({"send": to.0, "ping": true}),
        },
        Output::Close { to, code, reason } => json!({"close": to.0, "code": code, "reason": reason}),
        Output::Cut { to, why } => json!({"cut": to.0, "dead": why == Cut::Dead}),
    };
    let mut lines: Vec<_> = out.frames.drain(..).map(|output| frame(output).to_string()).collect();
    for event in out.events.drain(..) {
        let data: Value = serde_json::from_str(&event.data()).unwrap();
        lines.push(json!({"event": event.name(), "data": data}).to_string());
    }
    lines
}

/// The recording with its outputs made anew.
fn replay(recording: &str) -> String {
    let mut inputs = recording.lines().filter(|line| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        value.get("at").is_some() || value.get("room").is_some()
    });
    let first = inputs.next().unwrap();
    let head: Head = serde_json::from_str(first).unwrap();
    let mut policy = Policy {
        liveness: liveness(&head.liveness).unwrap(),
        seed: head.links.map(seed),
        gateways: head.gateways.map(Arc::new),
        peers: 1000,
    };
    let mut room = Room::new(head.room, policy.clone(), Arc::new(Epoch::new("e")));
    let mut out = Outputs { watched: true, ..Outputs::default() };
    let mut text = format!("{first}\n");
    for line in inputs {
        let input = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        put(&mut room, &mut policy, input, &mut out);
        text.push_str(line);
        text.push('\n');
        for line in lines(&mut out) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn recordings_replay_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let recorded = std::fs::read_to_string(&file).unwrap();
        let replayed = replay(&recorded);
        if std::env::var_os("HOPCAST_RECORD").is_some() {
            std::fs::write(&file, replayed).unwrap();
            continue;
        }
        for (number, (was, is)) in recorded.lines().zip(replayed.lines()).enumerate() {
            assert_eq!(was, is, "{} line {}", file.display(), number + 1);
        }
        assert_eq!(recorded.lines().count(), replayed.lines().count(), "{}", file.display());
    }
}

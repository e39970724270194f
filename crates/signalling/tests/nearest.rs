//! Requests by content against a breadth-first search over plain sets, while peers, links, gateways and holders change at
//! random: whether a way is read off what the room keeps or searched for, it is the shortest that may be taken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hopcast_protocol::PeerName;
use hopcast_signalling::core::{ConnectionId, Dialect, Epoch, Output, Outputs, Policy, Room};
use proptest::prelude::*;
use serde_json::{Value, json};

const PEERS: u64 = 14;

#[derive(Debug, Clone)]
enum Step {
    Join(u64),
    Leave(u64),
    Announce(u64, Vec<u64>),
    Gateway(u64, bool),
    Hold(u64, bool),
    Ask(u64, Request),
}

#[derive(Debug, Clone)]
struct Request {
    manifest: bool,
    exclude: Vec<u64>,
    avoid: Vec<u64>,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let few = prop::collection::vec(0..PEERS, 0..3);
    let request = (any::<bool>(), few.clone(), few).prop_map(|(manifest, exclude, avoid)| Request {
        manifest,
        exclude,
        avoid,
    });
    prop_oneof![
        4 => peer.clone().prop_map(Step::Join),
        2 => peer.clone().prop_map(Step::Leave),
        6 => (peer.clone(), prop::collection::vec(peer.clone(), 0..4)).prop_map(|(a, n)| Step::Announce(a, n)),
        2 => (peer.clone(), any::<bool>()).prop_map(|(a, on)| Step::Gateway(a, on)),
        2 => (peer.clone(), any::<bool>()).prop_map(|(a, on)| Step::Hold(a, on)),
        12 => (peer, request).prop_map(|(a, request)| Step::Ask(a, request)),
    ]
}

/// What the room was told.
#[derive(Default)]
struct Said {
    connections: BTreeMap<u64, u64>,
    announced: BTreeMap<u64, BTreeSet<u64>>,
    gateways: BTreeSet<u64>,
    holders: BTreeSet<u64>,
}

impl Said {
    fn forget(&mut self, peer: u64) {
        self.announced.remove(&peer);
        self.gateways.remove(&peer);
        self.holders.remove(&peer);
    }

    fn linked(&self, a: u64, b: u64) -> bool {
        let says = |a, b| self.announced.get(&a).is_some_and(|list| list.contains(&b));
        says(a, b) || says(b, a)
    }

    fn holds(&self, peer: u64, manifest: bool) -> bool {
        self.gateways.contains(&peer) || !manifest && self.holders.contains(&peer)
    }

    /// Hops to the nearest holder that counts, over peers that may be asked to relay.
    fn hops(&self, from: u64, request: &Request) -> Option<usize> {
        let mut hops = BTreeMap::from([(from, 0)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            let counts = at != from && !request.exclude.contains(&at);
            if counts && self.holds(at, request.manifest) {
                return Some(hops[&at]);
            }
            for next in 0..PEERS {
                let there = self.connections.contains_key(&next) && !request.avoid.contains(&next);
                if there && self.linked(at, next) && !hops.contains_key(&next) {
                    hops.insert(next, hops[&at] + 1);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

fn name(peer: u64) -> PeerName {
    format!("p{peer}").parse().unwrap()
}

fn names(peers: &[u64]) -> Vec<PeerName> {
    peers.iter().map(|&peer| name(peer)).collect()
}

fn blob() -> String {
    format!("sha256:{}", "0".repeat(64))
}

struct Bench {
    room: Room,
    said: Said,
    out: Outputs,
    next: u64,
}

impl Bench {
    fn say(&mut self, peer: u64, message: &Value) -> bool {
        let Some(&connection) = self.said.connections.get(&peer) else { return false };
        self.out.frames.clear();
        let text = message.to_string();
        self.room.message(ConnectionId(connection), text.as_bytes(), Duration::ZERO, &mut self.out);
        true
    }

    fn answer(&self, peer: u64) -> Value {
        let connection = self.said.connections[&peer];
        let mut sent = self.out.frames.iter().filter_map(|output| match output {
            Output::Send { to, frame } if to.0 == connection => {
                serde_json::from_slice::<Value>(frame.payload()).ok()
            }
            _ => None,
        });
        sent.find(|message| message["type"] != "route_down").expect("every request gets its answer")
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Join(peer) => {
                self.said.forget(*peer);
                self.next += 1;
                self.said.connections.insert(*peer, self.next);
                let id = ConnectionId(self.next);
                self.room.connect(id, &name(*peer), Dialect::Hopcast, Duration::ZERO, &mut self.out).unwrap();
            }
            Step::Leave(peer) => {
                if let Some(connection) = self.said.connections.remove(peer) {
                    self.said.forget(*peer);
                    self.room.disconnect(ConnectionId(connection), &mut self.out);
                }
            }
            Step::Announce(peer, list) => {
                let message = json!({
                    "type": "announce", "peer": name(*peer), "room": "rock", "neighbors": names(list),
                });
                if self.say(*peer, &message) {
                    let others = list.iter().copied().filter(|other| other != peer).collect();
                    self.said.announced.insert(*peer, others);
                }
            }
            Step::Gateway(peer, on) => {
                let message = json!({"type": if *on { "hold" } else { "drop" }, "contents": [], "all": true});
                if self.say(*peer, &message) {
                    change(&mut self.said.gateways, *peer, *on);
                }
            }
            Step::Hold(peer, on) => {
                let message = json!({"type": if *on { "hold" } else { "drop" }, "contents": [blob()]});
                if self.say(*peer, &message) {
                    change(&mut self.said.holders, *peer, *on);
                }
            }
            Step::Ask(peer, request) => self.ask(*peer, request),
        }
    }

    fn ask(&mut self, peer: u64, request: &Request) {
        let content = if request.manifest { "manifest:demo".to_owned() } else { blob() };
        let message = json!({
            "type": "request_path", "content": content,
            "exclude": names(&request.exclude), "avoid": names(&request.avoid),
        });
        if !self.say(peer, &message) {
            return;
        }
        let answer = self.answer(peer);
        let Some(hops) = self.said.hops(peer, request) else {
            assert_eq!(answer["code"], "no_holder", "{answer}");
            return;
        };
        let path: Vec<u64> = answer["path"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .map(|name| name.as_str().unwrap()[1..].parse().unwrap())
            .collect();
        assert_eq!((path.len() - 1, path[0]), (hops, peer), "{path:?}");
        assert!(path.windows(2).all(|hop| self.said.linked(hop[0], hop[1])), "{path:?}");
        assert!(path[1..].iter().all(|hop| !request.avoid.contains(hop)), "{path:?}");
        let holder = path[hops];
        assert!(self.said.holds(holder, request.manifest) && !request.exclude.contains(&holder), "{path:?}");
    }
}

fn change(set: &mut BTreeSet<u64>, peer: u64, on: bool) {
    if on {
        set.insert(peer);
    } else {
        set.remove(&peer);
    }
}

proptest! {
    #[test]
    fn the_nearest_holder_that_may_be_asked_is_found(steps in prop::collection::vec(step(), 0..150)) {
        let policy = Policy { peers: 100, ..Policy::default() };
        let room = Room::new("rock".parse().unwrap(), policy, Arc::new(Epoch::new("e")));
        let mut bench = Bench { room, said: Said::default(), out: Outputs::default(), next: 0 };
        for peer in 0..PEERS / 2 {
            bench.carry_out(&Step::Join(peer));
        }
        for step in &steps {
            bench.carry_out(step);
        }
    }
}

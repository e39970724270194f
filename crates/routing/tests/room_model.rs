//! A room against the rules written once more over plain sets, under random joins, leaves, announcements, reports and
//! changes of the topology.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Model;
use hopcast_routing::{Changes, Links, Liveness, Room, RoomError, Rules, Search};
use proptest::prelude::*;

const PEERS: u32 = 10;

#[derive(Debug, Clone)]
enum Op {
    Join(u32),
    Leave(u32),
    Announce(u32, Vec<u32>),
    Report(u32, u32, bool),
    Seed(u32, u32),
    Unseed(u32, u32),
    Reseed(Vec<(u32, u32)>),
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS;
    prop_oneof![
        8 => peer.clone().prop_map(Op::Join),
        4 => peer.clone().prop_map(Op::Leave),
        8 => (peer.clone(), prop::collection::vec(peer.clone(), 0..5)).prop_map(|(a, n)| Op::Announce(a, n)),
        8 => (peer.clone(), peer.clone(), any::<bool>()).prop_map(|(a, b, up)| Op::Report(a, b, up)),
        2 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Op::Seed(a, b)),
        2 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Op::Unseed(a, b)),
        1 => prop::collection::vec((peer.clone(), peer), 0..12).prop_map(Op::Reseed),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    (any::<bool>(), any::<bool>()).prop_map(|(declared, loose)| Rules {
        links: if declared { Links::Declared } else { Links::Open },
        liveness: if loose { Liveness::Announced } else { Liveness::Connected },
    })
}

/// The rules, read off the module's documentation.
#[derive(Default)]
struct Said {
    rules: Rules,
    connected: BTreeSet<u32>,
    seeds: BTreeSet<(u32, u32)>,
    announced: BTreeMap<u32, BTreeSet<u32>>,
    /// (who, about whom)
    down: BTreeSet<(u32, u32)>,
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

impl Said {
    fn announces(&self, a: u32, b: u32) -> bool {
        self.announced.get(&a).is_some_and(|list| list.contains(&b))
    }

    fn exists(&self, a: u32, b: u32) -> bool {
        self.seeds.contains(&pair(a, b)) || self.announces(a, b) || self.announces(b, a)
    }

    fn up(&self, a: u32, b: u32) -> bool {
        self.exists(a, b) && !self.down.contains(&(a, b)) && !self.down.contains(&(b, a))
    }

    fn present(&self, a: u32) -> bool {
        self.connected.contains(&a)
            || (self.rules.liveness == Liveness::Announced
                && self.announced.values().any(|list| list.contains(&a)))
    }

    /// A report about a link that is no more lasts while its peer is connected.
    fn forget(&mut self) {
        let gone: Vec<_> = self
            .down
            .iter()
            .copied()
            .filter(|&(a, b)| !self.exists(a, b) && !self.connected.contains(&a))
            .collect();
        self.down.retain(|report| !gone.contains(report));
    }

    fn leave(&mut self, a: u32) {
        self.announced.remove(&a);
        self.connected.remove(&a);
    }

    fn unseed(&mut self, a: u32, b: u32) {
        self.seeds.remove(&pair(a, b));
        if self.rules.links == Links::Declared {
            for (x, y) in [(a, b), (b, a)] {
                self.announced.entry(x).or_default().remove(&y);
            }
        }
    }

    /// Whether the room must accept it; what it then knows.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Join(a) => {
                self.leave(*a);
                self.forget();
                self.connected.insert(*a);
                self.down.retain(|&(who, _)| who != *a);
            }
            Op::Leave(a) => self.leave(*a),
            Op::Announce(a, list) => {
                let declared = |b: &u32| b == a || self.seeds.contains(&pair(*a, *b));
                if !self.connected.contains(a)
                    || (self.rules.links == Links::Declared && !list.iter().all(declared))
                {
                    return false;
                }
                let list: BTreeSet<u32> = list.iter().copied().filter(|b| b != a).collect();
                self.announced.insert(*a, list);
                let over: Vec<_> =
                    self.down.iter().copied().filter(|&(who, b)| who == *a && !self.exists(*a, b)).collect();
                self.down.retain(|report| !over.contains(report));
            }
            Op::Report(a, b, up) => {
                if !self.connected.contains(a) || !(self.exists(*a, *b) || self.down.contains(&(*a, *b))) {
                    return false;
                }
                if *up {
                    self.down.remove(&(*a, *b));
                } else {
                    self.down.insert((*a, *b));
                }
            }
            Op::Seed(a, b) if a == b => return false,
            Op::Seed(a, b) => {
                self.seeds.insert(pair(*a, *b));
            }
            Op::Unseed(a, b) => self.unseed(*a, *b),
            Op::Reseed(list) if list.iter().any(|(a, b)| a == b) => return false,
            Op::Reseed(list) => {
                let wanted: BTreeSet<_> = list.iter().map(|&(a, b)| pair(a, b)).collect();
                for (a, b) in self.seeds.clone() {
                    if !wanted.contains(&(a, b)) {
                        self.unseed(a, b);
                    }
                }
                self.seeds.extend(wanted);
            }
        }
        self.forget();
        true
    }

    fn graph(&self) -> Model {
        let mut model =
            Model { active: (0..PEERS).filter(|&a| self.present(a)).collect(), ..Model::default() };
        for a in 0..PEERS {
            for b in 0..a {
                if self.up(a, b) {
                    model.link(a, b);
                }
            }
        }
        model
    }

    /// Who must have a number.
    fn known(&self) -> BTreeSet<u32> {
        let linked = |a: u32| {
            (0..PEERS).any(|b| {
                b != a && (self.exists(a, b) || self.down.contains(&(a, b)) || self.down.contains(&(b, a)))
            })
        };
        (0..PEERS).filter(|&a| self.connected.contains(&a) || linked(a)).collect()
    }
}

/// Tells the room. `None`: the room does not know the speaker.
fn tell(room: &mut Room<u32>, op: &Op, changes: &mut Changes) -> Option<Result<(), RoomError<u32>>> {
    Some(match op {
        Op::Join(a) => {
            room.join(a, changes);
            Ok(())
        }
        Op::Leave(a) => {
            if let Some(id) = room.id(a) {
                room.leave(id, changes);
            }
            Ok(())
        }
        Op::Announce(a, list) => room.announce(room.id(a)?, list, changes),
        Op::Report(a, b, up) => room.report(room.id(a)?, b, *up, changes),
        Op::Seed(a, b) => room.seed(a, b, changes),
        Op::Unseed(a, b) => {
            room.unseed(a, b, changes);
            Ok(())
        }
        Op::Reseed(list) => room.reseed(list.iter().map(|(a, b)| (a, b)), changes),
    })
}

/// What a listener to the changes believes.
#[derive(Default)]
struct Heard {
    up: BTreeSet<(u32, u32)>,
    present: BTreeSet<u32>,
}

impl Heard {
    fn hear(&mut self, room: &Room<u32>, changes: &Changes) {
        let name = |id| *room.name(id).expect("changes can be read until the next change");
        for change in &changes.links {
            let link = pair(name(change.a), name(change.b));
            let news = if change.up { self.up.insert(link) } else { self.up.remove(&link) };
            assert!(news, "{link:?} was told twice");
        }
        for change in &changes.peers {
            let peer = name(change.peer);
            let news = if change.present { self.present.insert(peer) } else { self.present.remove(&peer) };
            assert!(news, "{peer} was told twice");
        }
    }
}

fn compare(room: &Room<u32>, said: &Said, heard: &Heard, search: &mut Search) {
    let model = said.graph();
    for a in 0..PEERS {
        for b in (0..PEERS).filter(|&b| b != a) {
            let ids = room.id(&a).zip(room.id(&b));
            assert_eq!(ids.is_some_and(|(x, y)| room.has_link(x, y)), said.exists(a, b), "{a} - {b} exists");
        }
        assert_eq!(room.id(&a).is_some_and(|id| room.is_connected(id)), said.connected.contains(&a));
        let hops = model.hops(a);
        for b in 0..PEERS {
            let path = room.id(&a).zip(room.id(&b)).and_then(|(x, y)| room.path(search, x, y));
            assert_eq!(path.map(|path| path.len() - 1), hops.get(&b).copied(), "hops from {a} to {b}");
            assert!(path.is_none_or(|path| room.is_path(path)));
        }
    }
    let links: BTreeSet<(u32, u32)> = model.links.iter().copied().filter(|(a, b)| a < b).collect();
    assert_eq!(heard.up, links, "links by the changes");
    assert_eq!(heard.present, model.active, "peers by the changes");
    let exists =
        (0..PEERS).flat_map(|a| (0..a).map(move |b| (a, b))).filter(|&(a, b)| said.exists(a, b)).count();
    assert_eq!((room.link_count(), room.links().count()), (exists, exists));
    assert_eq!(room.connected(), said.connected.len());
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn the_room_follows_the_rules(rules in rules(), ops in prop::collection::vec(op(), 0..80)) {
        let mut room: Room<u32> = Room::new(rules);
        let mut said = Said { rules, ..Said::default() };
        let (mut heard, mut changes, mut search) = (Heard::default(), Changes::new(), Search::new());
        for op in &ops {
            let (links, peers) = (heard.up.clone(), heard.present.clone());
            changes.clear();
            let accepted = said.apply(op);
            let told = tell(&mut room, op, &mut changes);
            prop_assert_eq!(told.is_some_and(|answer| answer.is_ok()), accepted, "{:?}", op);
            heard.hear(&room, &changes);
            if !accepted {
                prop_assert!(changes.is_empty() && links == heard.up && peers == heard.present);
            }
            compare(&room, &said, &heard, &mut search);
        }
        // Numbers are freed before the next change: make one that changes nothing else.
        room.unseed(&0, &0, &mut changes);
        let known: BTreeSet<u32> = room.peers().map(|peer| *peer.name).collect();
        prop_assert_eq!(known, said.known());
        // Everybody leaves: only seed links keep names.
        for peer in 0..PEERS {
            if let Some(id) = room.id(&peer) {
                room.leave(id, &mut changes);
            }
        }
        room.reseed([], &mut changes).expect("no link is no self-link");
        room.unseed(&0, &0, &mut changes);
        prop_assert_eq!(room.len(), 0);
        prop_assert!(room.is_empty());
    }
}

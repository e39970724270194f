//! A kept tree against a breadth-first search from all sources over plain sets, while graph and sources change at random.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Model;
use hopcast_routing::{Bounds, Changes, Graph, Kept, Liveness, NodeId, Room, Rules};
use proptest::prelude::*;

const PEERS: u32 = 30;

#[derive(Debug, Clone)]
enum Op {
    Join(u32),
    Leave(u32),
    Announce(u32, Vec<u32>),
    Report(u32, u32, bool),
    Seed(u32, u32),
    Unseed(u32, u32),
    Source(u32, bool),
    /// Nothing is followed until here: several changes at once.
    Together(Vec<Op>),
}

fn single() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS;
    prop_oneof![
        6 => peer.clone().prop_map(Op::Join),
        3 => peer.clone().prop_map(Op::Leave),
        8 => (peer.clone(), prop::collection::vec(peer.clone(), 0..4)).prop_map(|(a, n)| Op::Announce(a, n)),
        1 => (peer.clone(), prop::collection::vec(peer.clone(), 20)).prop_map(|(a, n)| Op::Announce(a, n)),
        8 => (peer.clone(), peer.clone(), any::<bool>()).prop_map(|(a, b, up)| Op::Report(a, b, up)),
        3 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Op::Seed(a, b)),
        2 => (peer.clone(), peer).prop_map(|(a, b)| Op::Unseed(a, b)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => single(),
        2 => (0..PEERS, any::<bool>()).prop_map(|(a, on)| Op::Source(a, on)),
        2 => prop::collection::vec(single(), 2..12).prop_map(Op::Together),
    ]
}

/// A room, the tree beside it, and the sources, as a server has them: only who is connected is a source.
struct Bench {
    room: Room<u32>,
    changes: Changes,
    kept: Kept,
    sources: BTreeSet<NodeId>,
}

impl Bench {
    fn new(bounds: Bounds, liveness: Liveness) -> Self {
        let rules = Rules { liveness, ..Rules::default() };
        Self {
            room: Room::new(rules),
            changes: Changes::new(),
            kept: Kept::new(bounds),
            sources: BTreeSet::new(),
        }
    }

    fn set_source(&mut self, node: NodeId, on: bool) {
        if on {
            self.sources.insert(node);
        } else {
            self.sources.remove(&node);
        }
        self.kept.set_source(self.room.graph(), node, on);
    }

    fn follow(&mut self) {
        self.kept.follow(self.room.graph(), &self.changes);
        self.changes.clear();
    }

    fn change(&mut self, op: &Op) {
        let Self { room, changes, .. } = self;
        match op {
            Op::Join(a) => {
                room.join(a, changes);
            }
            Op::Leave(a) => {
                if let Some(node) = room.id(a) {
                    // As a server: first that it is no source, then that it is gone.
                    self.follow();
                    self.set_source(node, false);
                    self.room.leave(node, &mut self.changes);
                }
            }
            Op::Announce(a, list) => {
                if let Some(node) = room.id(a) {
                    let _ = room.announce(node, list, changes);
                }
            }
            Op::Report(a, b, up) => {
                if let Some(node) = room.id(a) {
                    let _ = room.report(node, b, *up, changes);
                }
            }
            Op::Seed(a, b) => {
                let _ = room.seed(a, b, changes);
            }
            Op::Unseed(a, b) => room.unseed(a, b, changes),
            Op::Source(a, on) => {
                if let Some(node) = room.id(a).filter(|&node| room.is_connected(node)) {
                    self.set_source(node, *on);
                }
            }
            Op::Together(ops) => ops.iter().for_each(|op| self.change(op)),
        }
    }
}

/// Distance and next hop of everyone who can reach a source, by the definition.
fn expected(graph: &Graph, sources: &BTreeSet<NodeId>) -> BTreeMap<u32, (usize, Option<u32>)> {
    let mut model = Model {
        active: graph.nodes().filter(|&node| graph.is_active(node)).map(number).collect(),
        ..Model::default()
    };
    for (a, b) in graph.links() {
        model.link(number(a), number(b));
    }
    let mut distances: BTreeMap<u32, usize> = BTreeMap::new();
    for &source in sources {
        for (peer, hops) in model.hops(number(source)) {
            let least = distances.entry(peer).or_insert(hops);
            *least = hops.min(*least);
        }
    }
    let next = |peer: u32, hops: usize| {
        model.neighbors(peer).find(|next| distances.get(next).is_some_and(|&other| other + 1 == hops))
    };
    distances.iter().map(|(&peer, &hops)| (peer, (hops, next(peer, hops)))).collect()
}

fn number(node: NodeId) -> u32 {
    node.index() as u32
}

fn compare(bench: &mut Bench) {
    let expected = expected(bench.room.graph(), &bench.sources);
    let mut path = Vec::new();
    for index in 0..bench.room.graph().slots() + 2 {
        let node = NodeId::from_index(index).unwrap();
        let wanted = expected.get(&(index as u32));
        assert_eq!(bench.kept.distance(node), wanted.map(|&(hops, _)| hops), "hops of {index}");
        assert_eq!(bench.kept.path(node, &mut path), wanted.is_some());
        assert_eq!(path.get(1).copied().map(number), wanted.and_then(|&(_, next)| next), "next of {index}");
        if let Some(&(hops, _)) = wanted {
            assert!(path.len() == hops + 1 && bench.room.is_path(&path));
            assert!(bench.sources.contains(path.last().unwrap()));
        }
    }
}

/// `repair`: what one repair may cost; `SMALL`: the tree is there again whenever it is asked for.
fn runs(ops: &[Op], repair: usize, liveness: Liveness) {
    let mut bench = Bench::new(Bounds { repair, small: usize::MAX }, liveness);
    for op in ops {
        bench.change(op);
        bench.follow();
        let Bench { room, kept, sources, .. } = &mut bench;
        assert!(
            kept.visited() <= room.graph().slots().max(repair) + room.graph().slots() + 2 * PEERS as usize
        );
        assert_eq!(kept.prepare(room.graph(), sources.iter().copied()), !sources.is_empty());
        if kept.is_kept() {
            compare(&mut bench);
        }
    }
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn a_repaired_tree_is_what_a_new_one_would_be(ops in prop::collection::vec(op(), 0..120), loose in any::<bool>()) {
        runs(&ops, 4096, if loose { Liveness::Announced } else { Liveness::Connected });
    }

    #[test]
    fn one_that_is_given_up_is_built_anew(ops in prop::collection::vec(op(), 0..120), repair in 0..12_usize) {
        runs(&ops, repair, Liveness::Connected);
    }
}

/// A line of peers, and its middle cut and mended: half of it loses its way each time.
fn line(peers: u32, bounds: Bounds) -> Bench {
    let mut bench = Bench::new(bounds, Liveness::Connected);
    for peer in 0..peers {
        bench.room.join(&peer, &mut bench.changes);
    }
    for peer in 1..peers {
        let node = bench.room.id(&peer).unwrap();
        bench.room.announce(node, &[peer - 1], &mut bench.changes).unwrap();
    }
    let first = bench.room.id(&0).unwrap();
    bench.follow();
    bench.set_source(first, true);
    bench
}

impl Bench {
    fn prepare(&mut self) -> bool {
        self.kept.prepare(self.room.graph(), self.sources.iter().copied())
    }

    fn report(&mut self, end: u32, up: bool) {
        let node = self.room.id(&end).unwrap();
        self.room.report(node, &(end - 1), up, &mut self.changes).unwrap();
        self.follow();
    }
}

#[test]
fn a_tree_is_built_when_searches_have_paid_for_it() {
    let mut bench = line(100, Bounds { repair: 1000, small: 10 });
    assert!(!bench.prepare());
    bench.kept.earn(99);
    assert!(!bench.prepare());
    bench.kept.earn(1);
    assert!(bench.prepare());
    assert_eq!(bench.kept.visited(), 100);
    assert!(bench.kept.bytes() <= 8 * 100);
    compare(&mut bench);
}

#[test]
fn what_reading_a_path_looks_at_is_counted() {
    let mut bench = line(100, Bounds::default());
    assert!(bench.prepare());
    assert!(bench.prepare());
    assert_eq!(bench.kept.visited(), 0);
    let mut path = Vec::new();
    assert!(bench.kept.path(NodeId::from_index(5).unwrap(), &mut path));
    assert_eq!((path.len(), bench.kept.visited()), (6, 6));
    bench.report(50, false);
    assert!(bench.prepare());
    // Nothing is reached: one look tells.
    assert!(!bench.kept.path(NodeId::from_index(70).unwrap(), &mut path));
    assert_eq!(bench.kept.visited(), 1);
}

#[test]
fn repairs_that_nobody_pays_for_end_the_tree_and_reads_pay() {
    let mut bench = line(100, Bounds { repair: 1000, small: 10 });
    bench.kept.earn(100);
    assert!(bench.prepare());
    let mut path = Vec::new();
    for round in 0..1000 {
        bench.report(95, round % 2 == 1);
        assert!(bench.kept.is_kept(), "what is read is kept");
        bench.kept.path(NodeId::from_index(5).unwrap(), &mut path);
    }
    let changes = (0..1000)
        .take_while(|round| {
            bench.report(95, round % 2 == 1);
            bench.kept.is_kept()
        })
        .count();
    assert!((1..=200).contains(&changes), "{changes} changes for nothing");
    assert_eq!(bench.kept.bytes(), 0);
    assert!(!bench.prepare(), "and it has to be paid for again");
}

#[test]
fn a_repair_that_is_too_large_is_given_up() {
    let mut bench = line(100, Bounds { repair: 20, small: 1000 });
    assert!(bench.prepare());
    bench.report(95, false);
    assert!(bench.kept.is_kept());
    bench.report(50, false);
    assert!(!bench.kept.is_kept() && bench.kept.visited() <= 25, "{}", bench.kept.visited());
    assert!(bench.prepare());
    compare(&mut bench);
}

#[test]
fn without_a_source_there_is_no_tree() {
    let mut bench = line(10, Bounds::default());
    assert!(bench.prepare());
    let first = bench.room.id(&0).unwrap();
    bench.set_source(first, false);
    assert!(!bench.kept.is_kept() && !bench.prepare());
    assert_eq!(bench.kept.distance(first), None);
}

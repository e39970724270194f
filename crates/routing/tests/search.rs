//! Searches against a breadth-first search over plain sets, while the graph changes at random.

mod common;

use std::collections::BTreeSet;

use common::Model;
use hopcast_routing::{Graph, NodeId, Search};
use proptest::prelude::*;

/// Enough for lines to become hubs and back (15 neighbours fit into a line).
const PEERS: u32 = 24;

#[derive(Debug, Clone)]
enum Op {
    Add,
    Remove(u32),
    Link(u32, u32),
    Cut(u32, u32),
    Active(u32, bool),
    /// A link to everyone: a hub.
    Star(u32),
    /// All links of one gone.
    Isolate(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS;
    prop_oneof![
        3 => Just(Op::Add),
        1 => peer.clone().prop_map(Op::Remove),
        12 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Op::Link(a, b)),
        4 => (peer.clone(), peer.clone()).prop_map(|(a, b)| Op::Cut(a, b)),
        3 => (peer.clone(), any::<bool>()).prop_map(|(a, on)| Op::Active(a, on)),
        1 => peer.clone().prop_map(Op::Star),
        1 => peer.prop_map(Op::Isolate),
    ]
}

fn id(n: u32) -> NodeId {
    NodeId::from_index(n as usize).expect("small numbers are ids")
}

fn number(node: NodeId) -> u32 {
    node.index() as u32
}

/// Applies an operation to both; `there` has the peers that exist, active or not.
fn apply(op: &Op, graph: &mut Graph, model: &mut Model, there: &mut BTreeSet<u32>) {
    let link = |graph: &mut Graph, model: &mut Model, there: &BTreeSet<u32>, a: u32, b: u32| {
        let possible = a != b && there.contains(&a) && there.contains(&b);
        let new = possible && !model.links.contains(&(a, b));
        assert_eq!(graph.add_link(id(a), id(b)), new);
        if possible {
            model.link(a, b);
        }
    };
    match *op {
        Op::Add if there.len() < PEERS as usize => {
            let node = number(graph.add_node());
            assert!(there.insert(node), "a number is given to one peer at a time");
            assert!(node < PEERS, "freed numbers are used again");
            model.active.insert(node);
        }
        Op::Add => {}
        Op::Remove(a) => {
            assert_eq!(graph.remove_node(id(a)), there.remove(&a));
            model.active.remove(&a);
            model.links.retain(|&(x, y)| x != a && y != a);
        }
        Op::Link(a, b) => link(graph, model, there, a, b),
        Op::Cut(a, b) => {
            assert_eq!(graph.remove_link(id(a), id(b)), model.links.contains(&(a, b)));
            model.cut(a, b);
        }
        Op::Active(a, on) => {
            let changes = there.contains(&a) && model.active.contains(&a) != on;
            assert_eq!(graph.set_active(id(a), on), changes);
            if there.contains(&a) && on {
                model.active.insert(a);
            } else {
                model.active.remove(&a);
            }
        }
        Op::Star(a) => (0..PEERS).for_each(|b| link(graph, model, there, a, b)),
        Op::Isolate(a) => {
            for b in 0..PEERS {
                graph.remove_link(id(a), id(b));
                model.cut(a, b);
            }
        }
    }
}

/// The path is one, of that many hops.
fn assert_path(model: &Model, path: &[NodeId], from: u32, hops: usize) {
    assert_eq!(path.len(), hops + 1);
    assert_eq!(number(path[0]), from);
    for hop in path.windows(2) {
        let (a, b) = (number(hop[0]), number(hop[1]));
        assert!(model.neighbors(a).any(|n| n == b), "{a} to {b} is no link that can be taken");
    }
}

fn assert_all_pairs(graph: &Graph, model: &Model, search: &mut Search) {
    for from in 0..PEERS {
        let hops = model.hops(from);
        for to in 0..PEERS {
            let path = search.path(graph, id(from), id(to));
            assert_eq!(path.map(|path| path.len() - 1), hops.get(&to).copied(), "{from} to {to}");
            if let Some(path) = path {
                assert_path(model, path, from, hops[&to]);
                assert_eq!(path.last(), Some(&id(to)));
            }
        }
        let reached: BTreeSet<u32> = search.reach(graph, id(from)).map(number).collect();
        assert_eq!(reached, hops.keys().copied().collect());
    }
}

fn assert_nearest(graph: &Graph, model: &Model, search: &mut Search, targets: &[u32], exclude: &[u32]) {
    let ids: Vec<NodeId> = targets.iter().copied().map(id).collect();
    let without: Vec<NodeId> = exclude.iter().copied().map(id).collect();
    for from in 0..PEERS {
        let hops = model.hops(from);
        let best = targets.iter().filter(|t| !exclude.contains(t)).filter_map(|t| hops.get(t)).min().copied();
        let near = search.nearest(graph, id(from), ids.iter().copied(), &without).map(<[_]>::to_vec);
        assert_eq!(near.as_ref().map(|path| path.len() - 1), best);
        if let (Some(path), Some(best)) = (&near, best) {
            assert_path(model, path, from, best);
            let holder = number(path[best]);
            assert!(targets.contains(&holder) && !exclude.contains(&holder));
        }
        for hops in 0..4 {
            let within = search.nearest_within(graph, id(from), ids.iter().copied(), &without, hops);
            assert_eq!(within, near.as_deref().filter(|path| path.len() <= hops + 1), "within {hops} hops");
        }
        let backwards = search.nearest(graph, id(from), ids.iter().rev().copied(), &without);
        assert_eq!(backwards, near.as_deref(), "the order of targets does not matter");
        let tested =
            search.nearest_where(graph, id(from), |node| ids.contains(&node) && !without.contains(&node));
        assert_eq!(tested.map(|path| path.len() - 1), best);
        if let (Some(path), Some(best)) = (tested, best) {
            assert_path(model, path, from, best);
        }
    }
}

/// The documented choice among shortest paths, written again over plain sets.
fn documented(model: &Model, from: u32, targets: &[u32]) -> Option<Vec<u32>> {
    let active: BTreeSet<u32> = targets.iter().copied().filter(|t| model.active.contains(t)).collect();
    if !model.active.contains(&from) {
        return None;
    }
    if active.contains(&from) {
        return Some(vec![from]);
    }
    // Each side: (peer, who found it) in order, and its outermost level.
    let mut sides = [vec![(from, from)], active.iter().map(|&t| (t, t)).collect::<Vec<_>>()];
    let mut levels = [sides[0].clone(), sides[1].clone()];
    loop {
        if levels.iter().any(Vec::is_empty) {
            return None;
        }
        let side = usize::from(levels[0].len() > levels[1].len());
        let mut level = Vec::new();
        for (peer, _) in std::mem::take(&mut levels[side]) {
            for next in model.neighbors(peer) {
                if sides[1 - side].iter().any(|&(n, _)| n == next) {
                    let (here, there) = if side == 0 { (peer, next) } else { (next, peer) };
                    let mut path = walk(&sides[0], here);
                    path.reverse();
                    path.extend(walk(&sides[1], there));
                    return Some(path);
                }
                if !sides[side].iter().any(|&(n, _)| n == next) {
                    sides[side].push((next, peer));
                    level.push((next, peer));
                }
            }
        }
        levels[side] = level;
    }
}

fn walk(found: &[(u32, u32)], mut node: u32) -> Vec<u32> {
    let mut way = vec![node];
    loop {
        let parent = found.iter().find(|&&(n, _)| n == node).expect("a walk stays among the found").1;
        if parent == node {
            return way;
        }
        way.push(parent);
        node = parent;
    }
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn shortest_under_change(ops in prop::collection::vec(op(), 0..160),
                             targets in prop::collection::vec(0..PEERS, 0..8),
                             exclude in prop::collection::vec(0..PEERS, 0..3)) {
        let (mut graph, mut model, mut there) = (Graph::new(), Model::default(), BTreeSet::new());
        let mut search = Search::new();
        for _ in 0..PEERS / 2 {
            apply(&Op::Add, &mut graph, &mut model, &mut there);
        }
        for (n, op) in ops.iter().enumerate() {
            apply(op, &mut graph, &mut model, &mut there);
            if n % 20 == 19 {
                assert_all_pairs(&graph, &model, &mut search);
            }
        }
        assert_all_pairs(&graph, &model, &mut search);
        assert_nearest(&graph, &model, &mut search, &targets, &exclude);
        prop_assert_eq!(graph.len(), there.len());
        let links: BTreeSet<(u32, u32)> =
            graph.links().flat_map(|(a, b)| [(number(a), number(b)), (number(b), number(a))]).collect();
        prop_assert_eq!(links, model.links);
    }

    #[test]
    fn the_choice_is_the_documented_one(ops in prop::collection::vec(op(), 0..120),
                                        targets in prop::collection::vec(0..PEERS, 1..5)) {
        let (mut graph, mut model, mut there) = (Graph::new(), Model::default(), BTreeSet::new());
        let mut search = Search::new();
        for _ in 0..PEERS {
            apply(&Op::Add, &mut graph, &mut model, &mut there);
        }
        for op in &ops {
            apply(op, &mut graph, &mut model, &mut there);
        }
        for from in 0..PEERS {
            for to in 0..PEERS {
                let path = search.path(&graph, id(from), id(to)).map(|p| p.iter().copied().map(number).collect());
                prop_assert_eq!(path, documented(&model, from, &[to]));
            }
            let near = search
                .nearest(&graph, id(from), targets.iter().copied().map(id), &[])
                .map(|p| p.iter().copied().map(number).collect());
            prop_assert_eq!(near, documented(&model, from, &targets));
        }
    }

    #[test]
    fn history_leaves_no_trace(links in prop::collection::btree_set((0..PEERS, 0..PEERS), 0..80),
                               order in any::<u64>(),
                               detours in prop::collection::vec((0..PEERS, 0..PEERS), 0..80)) {
        let links: Vec<(u32, u32)> = links.into_iter().filter(|(a, b)| a < b).collect();
        let build = |order: &[(u32, u32)], detours: &[(u32, u32)]| {
            let mut graph = Graph::new();
            for _ in 0..PEERS {
                graph.add_node();
            }
            for &(a, b) in detours {
                graph.add_link(id(a), id(b));
            }
            for &(a, b) in order {
                graph.add_link(id(a), id(b));
            }
            for &(a, b) in detours {
                let (low, high) = (a.min(b), a.max(b));
                if !order.contains(&(low, high)) {
                    graph.remove_link(id(a), id(b));
                }
                graph.set_active(id(a), false);
                graph.set_active(id(a), true);
            }
            graph
        };
        let mut shuffled = links.clone();
        shuffled.sort_by_key(|&(a, b)| (u64::from(a * PEERS + b) ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (one, other) = (build(&links, &[]), build(&shuffled, &detours));
        // One search for both, the other way round each time: its own history does not count either.
        let (mut s, mut t) = (Search::new(), Search::new());
        for from in 0..PEERS {
            for to in 0..PEERS {
                prop_assert_eq!(s.path(&one, id(from), id(to)), t.path(&other, id(from), id(to)));
            }
        }
    }
}

#[test]
fn a_number_from_elsewhere_finds_nothing() {
    let mut graph = Graph::new();
    let node = graph.add_node();
    let mut search = Search::new();
    let far = id(1000);
    assert_eq!(search.path(&graph, node, far), None);
    assert_eq!(search.path(&graph, far, node), None);
    assert_eq!(search.path(&graph, far, far), None);
    assert_eq!(search.nearest(&graph, node, [far], &[]), None);
    assert_eq!(search.reach(&graph, far).len(), 0);
    assert!(!graph.contains(far) && !graph.is_active(far) && !graph.has_link(node, far));
    assert_eq!(graph.neighbors(far).count(), 0);
    assert_eq!(search.path(&graph, node, node), Some(&[node][..]));
}

#[test]
fn one_search_serves_graphs_of_any_size() {
    let mut search = Search::new();
    let graphs: Vec<Graph> = [3, 40, 7]
        .map(|n| {
            let mut graph = Graph::new();
            let nodes: Vec<_> = (0..n).map(|_| graph.add_node()).collect();
            nodes.windows(2).for_each(|pair| assert!(graph.add_link(pair[0], pair[1])));
            graph
        })
        .into();
    for _ in 0..3 {
        for graph in &graphs {
            let last = graph.len() as u32 - 1;
            let path = search.path(graph, id(0), id(last)).expect("a line of peers is connected");
            assert!(path.iter().copied().map(number).eq(0..=last));
        }
    }
}

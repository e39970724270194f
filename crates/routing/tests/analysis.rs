//! Analysis against trying every failure.

mod common;

use std::collections::BTreeSet;

use common::Model;
use hopcast_routing::{
    Graph, NodeId,
    analysis::{Diameter, Failure, components, cut_off, diameter, farthest, weaknesses},
};
use proptest::prelude::*;

const PEERS: u32 = 16;

fn id(n: u32) -> NodeId {
    NodeId::from_index(n as usize).expect("small numbers are ids")
}

fn build(n: u32, links: &[(u32, u32)]) -> (Graph, Model) {
    let (mut graph, mut model) = (Graph::new(), Model::default());
    for node in 0..n {
        graph.add_node();
        model.active.insert(node);
    }
    for &(a, b) in links {
        if graph.add_link(id(a), id(b)) {
            model.link(a, b);
        }
    }
    (graph, model)
}

/// Who is cut off, found by trying.
fn tried(model: &Model, failure: Failure, anchors: &[u32]) -> BTreeSet<u32> {
    let mut after = model.clone();
    let touched = match failure {
        Failure::Peer(peer) => {
            after.active.remove(&(peer.index() as u32));
            peer.index() as u32
        }
        Failure::Link(a, b) => {
            after.cut(a.index() as u32, b.index() as u32);
            a.index() as u32
        }
    };
    if anchors.is_empty() {
        let before = model.hops(touched);
        let mut parts: Vec<BTreeSet<u32>> = after
            .components()
            .into_iter()
            .filter(|part| part.iter().all(|n| before.contains_key(n)))
            .collect();
        parts.sort_by_key(|part| (std::cmp::Reverse(part.len()), part.first().copied()));
        return parts.into_iter().skip(1).flatten().collect();
    }
    let reached = |model: &Model| -> BTreeSet<u32> {
        anchors.iter().flat_map(|&anchor| model.hops(anchor).into_keys()).collect()
    };
    reached(model).difference(&reached(&after)).copied().filter(|n| after.active.contains(n)).collect()
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn weaknesses_are_what_trying_finds(links in prop::collection::vec((0..PEERS, 0..PEERS), 0..28),
                                        off in prop::collection::btree_set(0..PEERS, 0..3),
                                        anchors in prop::collection::vec(0..PEERS, 0..4)) {
        let (mut graph, mut model) = build(PEERS, &links);
        for node in off {
            graph.set_active(id(node), false);
            model.active.remove(&node);
        }
        let ids: Vec<NodeId> = anchors.iter().copied().map(id).collect();
        let failures = graph
            .nodes()
            .filter(|&n| graph.is_active(n))
            .map(Failure::Peer)
            .chain(graph.links().filter(|&(a, b)| graph.is_open(a, b)).map(|(a, b)| Failure::Link(a, b)));
        let mut expected = Vec::new();
        for failure in failures {
            let lost = tried(&model, failure, &anchors);
            let listed: BTreeSet<u32> =
                cut_off(&graph, failure, &ids).into_iter().map(|node| node.index() as u32).collect();
            prop_assert_eq!(&listed, &lost, "{:?}", failure);
            if !lost.is_empty() {
                expected.push((failure, lost.len()));
            }
        }
        let found: Vec<_> = weaknesses(&graph, &ids).into_iter().map(|w| (w.failure, w.cut_off)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn distances_and_components(links in prop::collection::vec((0..PEERS, 0..PEERS), 0..28),
                                sources in prop::collection::vec(0..PEERS, 1..4)) {
        let (graph, model) = build(PEERS, &links);
        let mut parts = model.components();
        parts.sort_by_key(|part| (std::cmp::Reverse(part.len()), part.first().copied()));
        let found: Vec<BTreeSet<u32>> =
            components(&graph).iter().map(|part| part.iter().map(|n| n.index() as u32).collect()).collect();
        prop_assert_eq!(found, parts);

        let widest = (0..PEERS).flat_map(|n| model.hops(n).into_values()).max().map(|hops| hops as u32);
        let found = diameter(&graph);
        prop_assert_eq!(found.map(|d| (d.lower, d.upper)), widest.map(|hops| (hops, hops)));
        let Diameter { lower, ends: (a, b), .. } = found.expect("there are peers");
        let between = model.hops(a.index() as u32).get(&(b.index() as u32)).copied();
        prop_assert_eq!(between, Some(lower as usize));

        let reached = (0..PEERS)
            .filter_map(|n| sources.iter().filter_map(|&s| model.hops(s).get(&n).copied()).min())
            .max();
        let (node, hops) = farthest(&graph, sources.iter().copied().map(id)).expect("a source reaches itself");
        prop_assert_eq!(Some(hops as usize), reached);
        let nearest = sources.iter().filter_map(|&s| model.hops(s).get(&(node.index() as u32)).copied()).min();
        prop_assert_eq!(nearest, reached);
    }
}

#[test]
fn the_only_gateway_is_a_weakness_of_a_ring() {
    let ring: Vec<_> = (0..8).map(|n| (n, (n + 1) % 8)).collect();
    let (graph, _) = build(8, &ring);
    assert_eq!(weaknesses(&graph, &[]), []);
    let found = weaknesses(&graph, &[id(3)]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].failure, found[0].cut_off), (Failure::Peer(id(3)), 7));
    assert_eq!(weaknesses(&graph, &[id(3), id(4)]), []);
}

#[test]
fn a_line_of_many_peers_needs_no_deep_stack() {
    let line: Vec<_> = (1..100_000).map(|n| (n - 1, n)).collect();
    let (graph, _) = build(100_000, &line);
    let found = weaknesses(&graph, &[]);
    assert_eq!(found.len(), 99_998 + 99_999);
    let wide = diameter(&graph).expect("there are peers");
    assert_eq!((wide.lower, wide.upper), (99_999, 99_999));
}

#[test]
fn nothing_has_no_diameter() {
    let mut graph = Graph::new();
    assert_eq!(diameter(&graph), None);
    let node = graph.add_node();
    assert_eq!(diameter(&graph).map(|d| (d.lower, d.upper, d.ends)), Some((0, 0, (node, node))));
    graph.set_active(node, false);
    assert_eq!(diameter(&graph), None);
    assert_eq!(farthest(&graph, [node]), None);
}

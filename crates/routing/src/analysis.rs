//! What a graph can take: components, distances, diameter, and what a single failure would cut off.
//!
//! For plans and reports, not for the server: every function reads the whole graph once and allocates. Only what a path
//! could use counts: active peers and links that are up.

mod compact;
mod cuts;
mod diameter;

use std::collections::VecDeque;

use compact::Compact;
pub use cuts::{Failure, Weakness, cut_off, weaknesses};
pub use diameter::{Diameter, diameter};

use crate::{Graph, NodeId};

/// The active peers in groups that can reach one another: larger groups first, equal ones by their lowest number; ascending
/// within.
pub fn components(graph: &Graph) -> Vec<Vec<NodeId>> {
    let compact = Compact::of(graph);
    let mut seen = vec![false; graph.slots()];
    let mut groups = Vec::new();
    for start in graph.nodes().filter(|&node| graph.is_active(node)) {
        if seen[start.index()] {
            continue;
        }
        seen[start.index()] = true;
        let mut group = vec![start.0];
        let mut at = 0;
        while let Some(&node) = group.get(at) {
            at += 1;
            for &next in compact.neighbors(node) {
                if !std::mem::replace(&mut seen[next as usize], true) {
                    group.push(next);
                }
            }
        }
        group.sort_unstable();
        groups.push(group.into_iter().map(NodeId).collect::<Vec<_>>());
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
    groups
}

/// Hops from each peer to the nearest of `sources`, indexed by peer; `None` where there is no way.
pub fn distances(graph: &Graph, sources: impl IntoIterator<Item = NodeId>) -> Vec<Option<u32>> {
    let compact = Compact::of(graph);
    let mut hops = vec![None; graph.slots()];
    let mut queue = VecDeque::new();
    for source in sources {
        if graph.is_active(source) && hops[source.index()].is_none() {
            hops[source.index()] = Some(0);
            queue.push_back((source.0, 0));
        }
    }
    while let Some((node, distance)) = queue.pop_front() {
        for &next in compact.neighbors(node) {
            if hops[next as usize].is_none() {
                hops[next as usize] = Some(distance + 1);
                queue.push_back((next, distance + 1));
            }
        }
    }
    hops
}

/// The peer with the most hops to the nearest of `sources`, and how many; the lowest number of several. `None`: nothing can be reached.
pub fn farthest(graph: &Graph, sources: impl IntoIterator<Item = NodeId>) -> Option<(NodeId, u32)> {
    let hops = distances(graph, sources);
    let most = hops.iter().copied().flatten().max()?;
    let at = hops.iter().position(|&hop| hop == Some(most))?;
    Some((NodeId(at as u32), most))
}

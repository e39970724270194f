//! The longest of all shortest paths.
//!
//! Bounding diameters (Takes and Kosters, "Computing the eccentricity distribution of large graphs", 2013): the
//! eccentricity found by one breadth-first search bounds that of every other peer through its distance, so that few of the
//! possible searches are needed; in the worst case, on a ring, about all of them.

use super::compact::Compact;
use crate::{Graph, NodeId};

/// Up to this many peers in a component the diameter is exact, whatever it costs (seconds at most).
const EXACT: usize = 10_000;
/// Links looked at in a larger component before the bounds must do.
const WORK: usize = 2_000_000_000;
const UNSEEN: u32 = u32::MAX;

/// Bounds of the diameter, in hops, over paths that exist; in a graph of several components that of the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diameter {
    /// There is a shortest path this long.
    pub lower: u32,
    /// There is none longer. Equal to `lower` where every component has at most 10,000 peers, and usually beyond.
    pub upper: u32,
    /// Two peers that are `lower` hops apart.
    pub ends: (NodeId, NodeId),
}

/// The diameter of the graph; `None` without active peers.
pub fn diameter(graph: &Graph) -> Option<Diameter> {
    let compact = Compact::of(graph);
    super::components(graph).iter().map(|component| of_component(&compact, component)).reduce(|a, b| {
        let widest = if b.lower > a.lower { b } else { a };
        Diameter { upper: a.upper.max(b.upper), ..widest }
    })
}

fn of_component(graph: &Compact, component: &[NodeId]) -> Diameter {
    let mut budget = if component.len() <= EXACT { usize::MAX } else { WORK };
    let mut found = Diameter { lower: 0, upper: u32::MAX, ends: (component[0], component[0]) };
    let mut hops = vec![UNSEEN; graph.len()];
    let mut queue = Vec::with_capacity(component.len());
    // Peers whose eccentricity may yet exceed the longest path found, with its bounds.
    let mut open: Vec<(NodeId, u32, u32)> = component.iter().map(|&node| (node, 0, u32::MAX)).collect();
    let mut outermost = true;
    loop {
        let Some(&(source, ..)) = pick(&open, outermost) else {
            return Diameter { upper: found.lower, ..found };
        };
        outermost = !outermost;
        let (end, width) = eccentricity(graph, source.0, &mut hops, &mut queue);
        if width > found.lower || found.upper == u32::MAX {
            found.lower = width;
            found.ends = (source, NodeId(end));
        }
        open.retain_mut(|(node, lower, upper)| {
            let distance = hops[node.index()];
            *lower = (*lower).max(distance).max(width.saturating_sub(distance));
            *upper = (*upper).min(width.saturating_add(distance));
            *node != source && *upper > found.lower
        });
        found.upper = open.iter().map(|&(.., upper)| upper).max().unwrap_or(0).max(found.lower);
        budget = budget.saturating_sub(graph.halves().max(1));
        if budget == 0 {
            return found;
        }
    }
}

/// In turn the peer that may be the most remote, and the one that may be the most central; the lowest number of several.
fn pick(open: &[(NodeId, u32, u32)], outermost: bool) -> Option<&(NodeId, u32, u32)> {
    if outermost {
        open.iter().max_by_key(|&&(node, _, upper)| (upper, std::cmp::Reverse(node)))
    } else {
        open.iter().min_by_key(|&&(node, lower, _)| (lower, node))
    }
}

/// Writes the distances from `source` and returns the peer found last with its distance.
fn eccentricity(graph: &Compact, source: u32, hops: &mut [u32], queue: &mut Vec<u32>) -> (u32, u32) {
    hops.fill(UNSEEN);
    queue.clear();
    queue.push(source);
    hops[source as usize] = 0;
    let mut at = 0;
    let mut last = source;
    while let Some(&node) = queue.get(at) {
        at += 1;
        last = node;
        for &next in graph.neighbors(node) {
            if hops[next as usize] == UNSEEN {
                hops[next as usize] = hops[node as usize] + 1;
                queue.push(next);
            }
        }
    }
    (last, hops[last as usize])
}

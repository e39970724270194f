//! Cut vertices and bridges: the single failures that cut somebody off.
//!
//! Tarjan's low-link depth-first search ("Depth-first search and linear graph algorithms", 1972), with a stack of its own
//! instead of recursion. To ask who loses the last gateway, all gateways hang on one virtual peer that cannot fail; the
//! same search then also finds the gateway that is the only one.

use super::compact::Compact;
use crate::{Graph, NodeId};

/// One thing that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// A peer: a cut vertex.
    Peer(NodeId),
    /// A link, the lower number first: a bridge.
    Link(NodeId, NodeId),
}

/// A failure that cuts somebody off, beside the failed peer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weakness {
    /// What fails.
    pub failure: Failure,
    /// How many peers it cuts off; [`cut_off`] names them.
    pub cut_off: usize,
}

/// Every single failure that would cut somebody off: peers first, then links, ascending. O(peers + links).
///
/// - With `anchors` (say, the gateways of a room) a peer is cut off if it could reach one of them and no longer can.
/// - With none given, the peers are cut off that are not in the largest part that remains of the component.
pub fn weaknesses(graph: &Graph, anchors: &[NodeId]) -> Vec<Weakness> {
    let mut found = if anchors.is_empty() {
        let compact = Compact::of(graph);
        let starts = (0..graph.slots() as u32).filter(|&id| graph.is_active(NodeId(id)));
        Cuts::of(&compact, starts, None)
    } else {
        let compact = Compact::anchored(graph, &usable(graph, anchors));
        let root = graph.slots() as u32;
        Cuts::of(&compact, std::iter::once(root), Some(root))
    };
    found.sort_unstable_by_key(|weakness| weakness.failure);
    found
}

/// The peers that a failure would cut off, ascending, by the rule of [`weaknesses`] (of several largest parts, the one
/// with the lowest number stays). Empty for a failure that cuts nobody off.
pub fn cut_off(graph: &Graph, failure: Failure, anchors: &[NodeId]) -> Vec<NodeId> {
    let compact = Compact::of(graph);
    let around = match failure {
        Failure::Peer(peer) | Failure::Link(peer, _) if !graph.is_active(peer) => return Vec::new(),
        Failure::Peer(peer) => compact.neighbors(peer.0).to_vec(),
        Failure::Link(a, b) => vec![a.0, b.0],
    };
    let mut seen = vec![false; compact.len()];
    if let Failure::Peer(peer) = failure {
        seen[peer.index()] = true;
    }
    let passable = |a: u32, b: u32| match failure {
        Failure::Peer(_) => true,
        Failure::Link(x, y) => (a, b) != (x.0, y.0) && (a, b) != (y.0, x.0),
    };
    let mut parts: Vec<Vec<u32>> = Vec::new();
    for start in around {
        if std::mem::replace(&mut seen[start as usize], true) {
            continue;
        }
        let mut part = vec![start];
        let mut at = 0;
        while let Some(&node) = part.get(at) {
            at += 1;
            for &next in compact.neighbors(node) {
                if passable(node, next) && !std::mem::replace(&mut seen[next as usize], true) {
                    part.push(next);
                }
            }
        }
        part.sort_unstable();
        parts.push(part);
    }
    if anchors.is_empty() {
        parts.sort_by_key(|part| (std::cmp::Reverse(part.len()), part[0]));
        parts.drain(..1.min(parts.len()));
    } else {
        let anchors = usable(graph, anchors);
        let failed = if let Failure::Peer(peer) = failure { Some(peer.0) } else { None };
        let anchored = |part: &[u32]| part.iter().any(|node| anchors.binary_search(node).is_ok());
        // Without any anchor in the component before the failure, nobody loses one.
        let any = parts.iter().any(|part| anchored(part))
            || failed.is_some_and(|peer| anchors.binary_search(&peer).is_ok());
        parts.retain(|part| any && !anchored(part));
    }
    let mut off: Vec<NodeId> = parts.into_iter().flatten().map(NodeId).collect();
    off.sort_unstable();
    off
}

fn usable(graph: &Graph, anchors: &[NodeId]) -> Vec<u32> {
    let mut usable: Vec<u32> =
        anchors.iter().filter(|&&anchor| graph.is_active(anchor)).map(|anchor| anchor.0).collect();
    usable.sort_unstable();
    usable.dedup();
    usable
}

/// The depth-first search.
struct Cuts<'g> {
    graph: &'g Compact,
    /// The virtual peer: it cannot fail, and its part is the one that stays.
    root: Option<u32>,
    /// Order of discovery, from 1; 0 is undiscovered.
    order: Vec<u32>,
    low: Vec<u32>,
    size: Vec<u32>,
    /// Of the parts that hang on a peer: how many peers in all, and in the largest.
    hanging: Vec<(u32, u32)>,
    found: Vec<Weakness>,
}

/// A peer on the way from the start of the search, and the next of its links.
struct Step {
    node: u32,
    parent: Option<u32>,
    next: usize,
}

impl<'g> Cuts<'g> {
    fn of(graph: &'g Compact, starts: impl Iterator<Item = u32>, root: Option<u32>) -> Vec<Weakness> {
        let n = graph.len();
        let mut cuts = Self {
            graph,
            root,
            order: vec![0; n],
            low: vec![0; n],
            size: vec![0; n],
            hanging: vec![(0, 0); n],
            found: Vec::new(),
        };
        let mut clock = 0;
        for start in starts {
            if cuts.order[start as usize] == 0 {
                cuts.component(start, &mut clock);
            }
        }
        cuts.found
    }

    /// Visits a component; what fails is judged at the end, when its size is known.
    fn component(&mut self, start: u32, clock: &mut u32) {
        let mut visited = Vec::new();
        let mut bridges = Vec::new();
        let mut steps = vec![self.discover(start, None, clock)];
        visited.push(start);
        while let Some(step) = steps.last_mut() {
            let (node, parent) = (step.node, step.parent);
            if let Some(&next) = self.graph.neighbors(node).get(step.next) {
                step.next += 1;
                if Some(next) == parent {
                    continue;
                }
                if self.order[next as usize] == 0 {
                    steps.push(self.discover(next, Some(node), clock));
                    visited.push(next);
                } else {
                    self.low[node as usize] = self.low[node as usize].min(self.order[next as usize]);
                }
                continue;
            }
            steps.pop();
            let Some(parent) = parent else { continue };
            let (size, low) = (self.size[node as usize], self.low[node as usize]);
            self.size[parent as usize] += size;
            self.low[parent as usize] = self.low[parent as usize].min(low);
            if low >= self.order[parent as usize] {
                let (all, largest) = &mut self.hanging[parent as usize];
                *all += size;
                *largest = (*largest).max(size);
            }
            if low > self.order[parent as usize] {
                bridges.push((parent, node));
            }
        }
        self.judge(start, &visited, &bridges);
    }

    fn discover(&mut self, node: u32, parent: Option<u32>, clock: &mut u32) -> Step {
        *clock += 1;
        self.order[node as usize] = *clock;
        self.low[node as usize] = *clock;
        self.size[node as usize] = 1;
        Step { node, parent, next: 0 }
    }

    fn judge(&mut self, start: u32, visited: &[u32], bridges: &[(u32, u32)]) {
        let total = self.size[start as usize];
        let root = self.root;
        for &node in visited.iter().filter(|&&node| Some(node) != root) {
            let (hanging, largest) = self.hanging[node as usize];
            let above = total - 1 - hanging;
            // The part with the virtual peer stays; without one, the largest stays.
            let cut_off = if self.root.is_some() { hanging } else { total - 1 - largest.max(above) };
            self.add(Failure::Peer(NodeId(node)), if total > 1 { cut_off } else { 0 });
        }
        for &(above, below) in bridges.iter().filter(|&&(above, _)| Some(above) != root) {
            let hanging = self.size[below as usize];
            let cut_off = if self.root.is_some() { hanging } else { hanging.min(total - hanging) };
            self.add(Failure::Link(NodeId(above.min(below)), NodeId(above.max(below))), cut_off);
        }
    }

    fn add(&mut self, failure: Failure, cut_off: u32) {
        if cut_off > 0 {
            self.found.push(Weakness { failure, cut_off: cut_off as usize });
        }
    }
}

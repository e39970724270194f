//! A frozen copy of the open links, for algorithms that walk all of them.

use crate::{Graph, NodeId};

/// Neighbour lists end to end, indexed by peer; possibly one virtual peer more, number `root`.
pub(super) struct Compact {
    starts: Vec<usize>,
    targets: Vec<u32>,
}

impl Compact {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut compact = Self { starts: vec![0], targets: Vec::new() };
        for id in 0..graph.slots() as u32 {
            compact.targets.extend(graph.neighbors(NodeId(id)).map(|neighbor| neighbor.0));
            compact.starts.push(compact.targets.len());
        }
        compact
    }

    /// With a virtual peer above all others that is linked to each of `anchors` (active, ascending, each once).
    pub(super) fn anchored(graph: &Graph, anchors: &[u32]) -> Self {
        let root = graph.slots() as u32;
        let mut compact = Self { starts: vec![0], targets: Vec::new() };
        for id in 0..root {
            compact.targets.extend(graph.neighbors(NodeId(id)).map(|neighbor| neighbor.0));
            if anchors.binary_search(&id).is_ok() {
                compact.targets.push(root);
            }
            compact.starts.push(compact.targets.len());
        }
        compact.targets.extend(anchors);
        compact.starts.push(compact.targets.len());
        compact
    }

    /// Peers, the virtual one included.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn neighbors(&self, node: u32) -> &[u32] {
        &self.targets[self.starts[node as usize]..self.starts[node as usize + 1]]
    }

    /// Halves of links: the work of one search.
    pub(super) fn halves(&self) -> usize {
        self.targets.len()
    }
}

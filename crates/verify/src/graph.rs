//! An independent look at the mesh: rooms as adjacency lists, breadth-first search, and whether a path is one.
//!
//! Written apart from `routing` on purpose: what is compared must not share its errors.

use std::collections::{HashMap, HashSet, VecDeque};

use hopcast_protocol::PeerName;
use hopcast_topology::Plan;

/// One room of the plan, without the peers that are known to be dead.
#[derive(Debug)]
pub(crate) struct RoomGraph {
    pub(crate) name: String,
    pub(crate) peers: Vec<PeerName>,
    index: HashMap<PeerName, usize>,
    neighbors: Vec<Vec<usize>>,
}

impl RoomGraph {
    /// The room's living peers and the plan's links between them.
    pub(crate) fn new(plan: &Plan, room: &hopcast_topology::plan::Room, dead: &HashSet<PeerName>) -> Self {
        let peers: Vec<PeerName> = room.peers.iter().filter(|peer| !dead.contains(*peer)).cloned().collect();
        let index: HashMap<PeerName, usize> =
            peers.iter().cloned().enumerate().map(|(i, peer)| (peer, i)).collect();
        let mut neighbors = vec![vec![]; peers.len()];
        for link in &plan.links {
            if let (Some(&a), Some(&b)) = (index.get(&link.a), index.get(&link.b)) {
                neighbors[a].push(b);
                neighbors[b].push(a);
            }
        }
        Self { name: room.name.to_string(), peers, index, neighbors }
    }

    /// The peer's place in [`RoomGraph::peers`].
    pub(crate) fn index(&self, peer: &str) -> Option<usize> {
        self.index.get(peer).copied()
    }

    /// Hops from the nearest of some peers to every peer; `None` where no path leads.
    pub(crate) fn hops(&self, from: impl IntoIterator<Item = usize>) -> Vec<Option<u32>> {
        let mut hops = vec![None; self.peers.len()];
        let mut queue: VecDeque<usize> = from.into_iter().collect();
        for &start in &queue {
            hops[start] = Some(0);
        }
        while let Some(at) = queue.pop_front() {
            let next = hops[at].map(|hops: u32| hops + 1);
            for &neighbor in &self.neighbors[at] {
                if hops[neighbor].is_none() {
                    hops[neighbor] = next;
                    queue.push_back(neighbor);
                }
            }
        }
        hops
    }

    /// Checks that a path leads from `from` to `to` over living peers and links of this room, through no peer twice.
    pub(crate) fn check_path(&self, path: &[PeerName], from: &PeerName, to: &PeerName) -> Result<(), String> {
        let text = || show(path);
        if path.first() != Some(from) || path.last() != Some(to) {
            return Err(format!("{} does not lead from {from} to {to}", text()));
        }
        let mut seen = HashSet::with_capacity(path.len());
        let mut last = None;
        for peer in path {
            let at = self.index(peer.as_str()).ok_or_else(|| {
                format!("{} runs through {peer}, which is not alive in {}", text(), self.name)
            })?;
            if !seen.insert(at) {
                return Err(format!("{} runs through {peer} twice", text()));
            }
            if let Some(last) = last
                && !self.neighbors[at].contains(&last)
            {
                let last = &self.peers[last];
                return Err(format!("{}: {last} - {peer} is no link of {}", text(), self.name));
            }
            last = Some(at);
        }
        Ok(())
    }
}

/// A path as text, cut in the middle where it is long.
pub(crate) fn show(path: &[PeerName]) -> String {
    let names: Vec<&str> = path.iter().map(PeerName::as_str).collect();
    if names.len() <= 24 {
        return names.join(" > ");
    }
    let (head, tail) = (names[..12].join(" > "), names[names.len() - 11..].join(" > "));
    format!("{head} > ({} more) > {tail}", names.len() - 23)
}

/// A small pseudo-random sequence (SplitMix64, Steele et al. 2014), so that a run can be repeated by its seed.
#[derive(Debug, Clone)]
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn names(numbers: &[u32]) -> Vec<PeerName> {
        numbers.iter().map(|number| PeerName::new(format!("peer-{number}")).unwrap()).collect()
    }

    fn ring(count: u32, dead: &[u32]) -> RoomGraph {
        let plan = testing::target(count).plan;
        RoomGraph::new(&plan, &plan.rooms[0], &names(dead).into_iter().collect())
    }

    #[test]
    fn hops_in_a_ring_are_the_shorter_way_round() {
        let hops = ring(7, &[]).hops([0]);
        assert_eq!(hops, [0, 1, 2, 3, 3, 2, 1].map(Some));
        assert_eq!(ring(7, &[]).hops([0, 3]), [0, 1, 1, 0, 1, 2, 1].map(Some));
    }

    #[test]
    fn the_dead_lengthen_and_cut_ways() {
        let lengthened = ring(7, &[2]);
        assert_eq!(lengthened.hops(lengthened.index("peer-1")), [0, 5, 4, 3, 2, 1].map(Some));
        let cut = ring(7, &[2, 5]);
        let hops = cut.hops(cut.index("peer-1"));
        assert_eq!(hops[cut.index("peer-3").unwrap()], None);
        assert_eq!(hops[cut.index("peer-6").unwrap()], Some(2));
        assert_eq!(cut.index("peer-2"), None);
    }

    #[test]
    fn a_path_runs_over_links_of_the_living_and_through_nobody_twice() {
        let (room, dead) = (ring(7, &[]), ring(7, &[2]));
        let check = |room: &RoomGraph, path: &[u32], from: u32, to: u32| {
            room.check_path(&names(path), &names(&[from])[0], &names(&[to])[0])
        };
        assert_eq!(check(&room, &[1, 2, 3], 1, 3), Ok(()));
        assert_eq!(check(&room, &[1], 1, 1), Ok(()));
        for (path, why) in [
            (&[1, 3][..], "peer-1 - peer-3 is no link"),
            (&[1, 2], "does not lead from"),
            (&[], "does not lead from"),
            (&[1, 2, 1, 2, 3], "twice"),
            (&[1, 2, 9, 3], "not alive"),
        ] {
            let text = check(&room, path, 1, 3).unwrap_err();
            assert!(text.contains(why), "{text}");
        }
        assert!(check(&dead, &[1, 2, 3], 1, 3).unwrap_err().contains("peer-2, which is not alive"));
    }

    #[test]
    fn long_paths_are_cut_in_the_middle() {
        assert_eq!(show(&names(&[1, 2])), "peer-1 > peer-2");
        let long: Vec<u32> = (1..=30).collect();
        let text = show(&names(&long));
        assert!(text.contains("peer-12 > (7 more) > peer-20") && text.ends_with("peer-30"), "{text}");
    }

    #[test]
    fn a_seed_repeats_its_sequence() {
        let draw = |seed| {
            let mut sequence = Sequence(seed);
            (0..100).map(|_| sequence.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(1).iter().collect::<HashSet<_>>().len(), 10);
    }
}

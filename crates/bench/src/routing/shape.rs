//! The graphs that are measured.

use crate::random::Random;

/// How peers are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Four random rings over all peers: degree 8.
    Random,
    /// Barabasi and Albert: each new peer links to 4, the likelier the more links they have.
    Hubs,
    /// A square, four neighbours each.
    Grid,
    /// The original's: i to i+1 and i+4.
    Ring,
}

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Hubs => "hubs",
            Self::Grid => "grid",
            Self::Ring => "ring",
        }
    }

    /// About so many peers, and their links, each once.
    pub(super) fn links(self, peers: usize) -> (usize, Vec<(u32, u32)>) {
        let mut random = Random::new(7);
        let mut links: Vec<(u32, u32)> = Vec::with_capacity(peers * 4);
        let mut count = peers;
        match self {
            Self::Random => {
                let mut order: Vec<u32> = (0..peers as u32).collect();
                for _ in 0..4 {
                    random.shuffle(&mut order);
                    links.extend((0..peers).map(|at| (order[at], order[(at + 1) % peers])));
                }
            }
            Self::Hubs => {
                // Each end of each link once: drawing from it is drawing by degree.
                let mut ends: Vec<u32> = Vec::with_capacity(peers * 8);
                for new in 1..peers as u32 {
                    let mut chosen = [u32::MAX; 4];
                    for at in 0..4.min(new as usize) {
                        let mut end = new - 1 - at as u32;
                        if new > 4 {
                            end = ends[random.below(ends.len())];
                            while chosen.contains(&end) {
                                end = ends[random.below(ends.len())];
                            }
                        }
                        chosen[at] = end;
                    }
                    for end in chosen.into_iter().filter(|&end| end != u32::MAX) {
                        links.push((end, new));
                        ends.extend([end, new]);
                    }
                }
            }
            Self::Grid => {
                let side = (peers as f64).sqrt() as usize;
                count = side * side;
                for at in 0..count {
                    if at % side + 1 < side {
                        links.push((at as u32, at as u32 + 1));
                    }
                    if at + side < count {
                        links.push((at as u32, (at + side) as u32));
                    }
                }
            }
            Self::Ring => {
                let to = |from: usize, step: usize| ((from + step) % peers) as u32;
                links.extend((0..peers).flat_map(|at| [(at as u32, to(at, 1)), (at as u32, to(at, 4))]));
            }
        }
        for link in &mut links {
            *link = (link.0.min(link.1), link.0.max(link.1));
        }
        links.retain(|link| link.0 != link.1);
        links.sort_unstable();
        links.dedup();
        (count, links)
    }
}

/// Neighbours of each peer, ascending.
pub(super) fn neighbors(peers: usize, links: &[(u32, u32)]) -> Vec<Vec<u32>> {
    let mut lists = vec![Vec::new(); peers];
    for &(a, b) in links {
        lists[a as usize].push(b);
        lists[b as usize].push(a);
    }
    lists
}

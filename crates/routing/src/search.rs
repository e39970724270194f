//! Shortest paths, without an allocation per query.
//!
//! A bidirectional breadth-first search over the graph's lines. All marks live in a [`Search`] that is used again and
//! again, for any number of graphs: each query has its own stamp, so nothing is cleared in between.
//!
//! # Which of several shortest paths
//! The answer is a function of the two numbers and of the links and peers that are there NOW; it does not depend on how
//! the graph came to be, nor on earlier queries. Exactly: both ends grow a ball around themselves, a whole level at a
//! time, always the one whose outermost level has fewer peers (the requester's if equal). A level is gone through in the order in
//! which its peers were found, each peer's neighbours ascending by number; with several targets, their level 0 is ascending by number. A
//! peer hangs on the one that found it. The first link found between the two balls joins the path.
//!
//! Why not the lexicographically smallest path: it needs the whole last level of both balls, which costs several times the
//! search itself on a random graph, since the first contact usually comes early in it.

use std::ops::ControlFlow;

use crate::graph::{Graph, NodeId};

/// How many peers ahead of the one that is looked at a search reads the beginning of a line, so that it comes into the cache
/// meanwhile.
const AHEAD: usize = 4;

/// The scratch memory of searches. 8 bytes for each peer of the largest graph it has seen, plus the frontiers of the largest
/// search.
///
/// It belongs to one thread; a graph may be searched by many at once.
#[derive(Debug, Default, Clone)]
pub struct Search {
    marks: Vec<Mark>,
    from: Ball,
    to: Ball,
    path: Vec<NodeId>,
    stamp: u32,
}

/// Who found a peer, if the stamp is this query's.
#[derive(Debug, Default, Clone, Copy)]
struct Mark {
    stamp: u32,
    parent: u32,
}

/// What one side has found: every peer in order, the outermost level from `level` on.
#[derive(Debug, Default, Clone)]
struct Ball {
    found: Vec<u32>,
    level: usize,
    stamp: u32,
}

impl Ball {
    fn restart(&mut self, stamp: u32) {
        self.found.clear();
        self.level = 0;
        self.stamp = stamp;
    }

    fn frontier(&self) -> usize {
        self.found.len() - self.level
    }

    /// Finds the next level. Breaks with (a peer of this ball, its neighbour in the other) at the first contact.
    fn grow(&mut self, graph: &Graph, marks: &mut [Mark], other: u32) -> ControlFlow<(u32, u32)> {
        let Self { found, level, stamp } = self;
        let (stamp, end) = (*stamp, found.len());
        let mut read = false;
        for at in *level..end {
            let parent = found[at];
            if let Some(&ahead) = found.get(at + AHEAD) {
                read |= graph.touch(ahead);
            }
            graph.runs(parent, |halves| {
                for half in halves {
                    if !half.is_open() {
                        continue;
                    }
                    let mark = &mut marks[half.peer() as usize];
                    if mark.stamp == stamp {
                        continue;
                    }
                    if mark.stamp == other {
                        return ControlFlow::Break((parent, half.peer()));
                    }
                    *mark = Mark { stamp, parent };
                    found.push(half.peer());
                }
                ControlFlow::Continue(())
            })?;
        }
        std::hint::black_box(read); // once: what was read is of no use but for having been read
        *level = end;
        ControlFlow::Continue(())
    }
}

impl Search {
    /// Empty scratch; it grows with the graphs that it is used for.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shortest path from one peer to another, both included; of length 1 where they are the same. `None`: there is
    /// no way now, or an end is not active.
    pub fn path(&mut self, graph: &Graph, from: NodeId, to: NodeId) -> Option<&[NodeId]> {
        self.begin(graph, from, std::iter::once(to))?;
        self.meet(graph, usize::MAX)
    }

    /// The shortest path from a peer to the nearest of many, both included; of length 1 where the peer is itself one of
    /// them. Targets that are not active do not count, nor do those in `exclude` (which paths may still pass through). The order and
    /// number of repetitions of targets do not matter; ascending ones are cheapest.
    ///
    /// Costs O(targets) on top of the search; where that is most of the room, [`Search::nearest_where`] is faster.
    pub fn nearest(
        &mut self,
        graph: &Graph,
        from: NodeId,
        targets: impl IntoIterator<Item = NodeId>,
        exclude: &[NodeId],
    ) -> Option<&[NodeId]> {
        self.nearest_within(graph, from, targets, exclude, usize::MAX)
    }

    /// As [`Search::nearest`], over so many hops at most: what lies beyond is not looked at.
    pub fn nearest_within(
        &mut self,
        graph: &Graph,
        from: NodeId,
        targets: impl IntoIterator<Item = NodeId>,
        exclude: &[NodeId],
        hops: usize,
    ) -> Option<&[NodeId]> {
        self.begin(graph, from, targets.into_iter().filter(|target| !exclude.contains(target)))?;
        self.meet(graph, hops)
    }

    /// As [`Search::nearest`], with a test instead of a list: one ball grows around the peer until it finds a target. The
    /// first one found counts, which may be another of the same distance than `nearest` would choose.
    pub fn nearest_where(
        &mut self,
        graph: &Graph,
        from: NodeId,
        mut is_target: impl FnMut(NodeId) -> bool,
    ) -> Option<&[NodeId]> {
        self.begin(graph, from, std::iter::empty())?;
        let mut checked = 0;
        loop {
            while checked < self.from.found.len() {
                let node = self.from.found[checked];
                if is_target(NodeId(node)) {
                    return Some(self.join(node, None));
                }
                checked += 1;
            }
            if self.from.frontier() == 0 {
                return None;
            }
            // Nobody carries the other stamp, so this never meets.
            let _ = self.from.grow(graph, &mut self.marks, self.to.stamp);
        }
    }

    /// Whether there is a path now.
    pub fn connected(&mut self, graph: &Graph, a: NodeId, b: NodeId) -> bool {
        self.path(graph, a, b).is_some()
    }

    /// Every peer that can be reached, in the order of a breadth-first search with neighbours ascending, `from` first;
    /// empty where `from` is not active.
    pub fn reach<'a>(
        &'a mut self,
        graph: &Graph,
        from: NodeId,
    ) -> impl ExactSizeIterator<Item = NodeId> + 'a {
        if self.begin(graph, from, std::iter::empty()).is_none() {
            self.from.found.clear();
        }
        while self.from.level < self.from.found.len() {
            let _ = self.from.grow(graph, &mut self.marks, self.to.stamp);
        }
        self.from.found.iter().map(|&node| NodeId(node))
    }

    /// How many peers the last query looked at, its targets included: what it cost.
    pub fn visited(&self) -> usize {
        self.from.found.len() + self.to.found.len()
    }

    /// Heap memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
            + (self.from.found.capacity() + self.to.found.capacity() + self.path.capacity())
                * size_of::<u32>()
    }

    /// Marks the ends of a query. `None`: the requester is not active.
    fn begin(&mut self, graph: &Graph, from: NodeId, to: impl Iterator<Item = NodeId>) -> Option<()> {
        if self.marks.len() < graph.slots() {
            self.marks.reserve_exact(graph.slots() - self.marks.len());
            self.marks.resize(graph.slots(), Mark::default());
        }
        if self.stamp >= u32::MAX - 2 {
            self.marks.fill(Mark::default());
            self.stamp = 0;
        }
        self.from.restart(self.stamp + 1);
        self.to.restart(self.stamp + 2);
        self.stamp += 2;
        if !graph.is_active(from) {
            return None;
        }
        self.to.found.extend(to.filter(|&target| graph.is_active(target)).map(|target| target.0));
        if !self.to.found.is_sorted() {
            self.to.found.sort_unstable();
        }
        self.to.found.dedup();
        for &target in &self.to.found {
            self.marks[target as usize] = Mark { stamp: self.to.stamp, parent: target };
        }
        self.from.found.push(from.0);
        let mark = &mut self.marks[from.index()];
        if mark.stamp != self.to.stamp {
            *mark = Mark { stamp: self.from.stamp, parent: from.0 };
        }
        Some(())
    }

    /// Grows both balls until they touch, or until what they could find has more hops than asked for.
    ///
    /// The first contact is a shortest path: with the balls complete up to distances f and t and no contact before,
    /// the distance is above f + t, and a link between the balls gives a path of f + t + 1.
    fn meet(&mut self, graph: &Graph, hops: usize) -> Option<&[NodeId]> {
        let from = self.from.found[0];
        if self.marks[from as usize].stamp == self.to.stamp {
            self.path.clear();
            self.path.push(NodeId(from));
            return Some(&self.path);
        }
        for _ in 0..hops {
            let (ours, theirs) = (self.from.frontier(), self.to.frontier());
            if ours == 0 || theirs == 0 {
                return None;
            }
            let forward = ours <= theirs;
            let touch = if forward {
                self.from.grow(graph, &mut self.marks, self.to.stamp)
            } else {
                self.to.grow(graph, &mut self.marks, self.from.stamp)
            };
            if let ControlFlow::Break((near, far)) = touch {
                let (here, there) = if forward { (near, far) } else { (far, near) };
                return Some(self.join(here, Some(there)));
            }
        }
        None
    }

    /// Writes down the way from the requester to `here` and from `there` to its target.
    fn join(&mut self, here: u32, there: Option<u32>) -> &[NodeId] {
        self.path.clear();
        let walk = |mut node: u32, path: &mut Vec<NodeId>| loop {
            path.push(NodeId(node));
            let parent = self.marks[node as usize].parent;
            if parent == node {
                break;
            }
            node = parent;
        };
        walk(here, &mut self.path);
        self.path.reverse();
        if let Some(there) = there {
            walk(there, &mut self.path);
        }
        &self.path
    }
}

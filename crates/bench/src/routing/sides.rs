//! Who is measured: a room of ours, petgraph, bare arrays. Each answers the same questions.

use std::{collections::VecDeque, time::Instant};

use anyhow::{Context as _, Result, ensure};
use hopcast_protocol::PeerName;
use hopcast_routing::{Bounds, Changes, Kept, NodeId, Room, Rules, Search};
use petgraph::{
    algo::astar,
    graph::NodeIndex,
    stable_graph::StableUnGraph,
    visit::{VisitMap as _, Visitable as _},
};

use super::bare::{Bare, Scratch};

/// A changing graph that knows shortest paths.
pub(super) trait Side {
    /// The link is lost.
    fn cut(&mut self, link: (u32, u32)) -> Result<()>;
    /// A link that was lost is back.
    fn join(&mut self, link: (u32, u32)) -> Result<()>;
    /// Hops of the shortest path, after the whole path was written down.
    fn path(&mut self, from: u32, to: u32) -> Option<usize>;
}

/// One query: first a link is lost, and the one that was lost before is back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    pub cut: (u32, u32),
    pub from: u32,
    pub to: u32,
}

/// What a block of queries took, from the first change until the path is there, and what was found.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub microseconds: Vec<f64>,
    pub hops: Vec<Option<usize>>,
}

/// Asks until the queries or the seconds are used up, but at least `least` times. The links are all there again at its end.
pub(super) fn ask(side: &mut impl Side, queries: &[Query], least: usize, seconds: f64) -> Result<Block> {
    let mut block = Block::default();
    let mut lost: Option<(u32, u32)> = None;
    let began = Instant::now();
    for (at, query) in queries.iter().enumerate() {
        if at >= least && began.elapsed().as_secs_f64() > seconds {
            break;
        }
        let begin = Instant::now();
        side.cut(query.cut)?;
        if let Some(link) = lost {
            side.join(link)?;
        }
        let hops = side.path(query.from, query.to);
        block.microseconds.push(begin.elapsed().as_secs_f64() * 1e6);
        block.hops.push(hops);
        lost = Some(query.cut);
    }
    if let Some(link) = lost {
        side.join(link)?;
    }
    Ok(block)
}

/// A room as the signalling server has it: peers are named, links are announced and reported on.
pub(super) struct Ours {
    pub room: Room<PeerName>,
    pub search: Search,
    pub names: Vec<PeerName>,
    pub ids: Vec<NodeId>,
    changes: Changes,
}

/// The nearest of some holders as the signalling server finds it for gateways: read off a kept tree once requests have
/// paid for it, searched for until then.
pub(super) struct Gateways {
    holders: Vec<NodeId>,
    kept: Kept,
    path: Vec<NodeId>,
}

pub(super) fn names(peers: usize) -> Result<Vec<PeerName>> {
    (1..=peers).map(|peer| Ok(PeerName::new(format!("peer-{peer}"))?)).collect()
}

impl Ours {
    pub(super) fn new(neighbors: &[Vec<u32>]) -> Result<Self> {
        let names = names(neighbors.len())?;
        let mut room = Room::new(Rules::default());
        let mut changes = Changes::new();
        let ids: Vec<_> = names.iter().map(|name| room.join(name, &mut changes)).collect();
        for (peer, list) in neighbors.iter().enumerate() {
            room.announce(ids[peer], list.iter().map(|&next| &names[next as usize]), &mut changes)?;
            changes.clear();
        }
        Ok(Self { room, search: Search::new(), names, ids, changes })
    }

    fn report(&mut self, (a, b): (u32, u32), up: bool) -> Result<()> {
        self.changes.clear();
        self.room.report(self.ids[a as usize], &self.names[b as usize], up, &mut self.changes)?;
        ensure!(self.changes.links.len() == 1, "a report changed nothing");
        Ok(())
    }
}

impl Gateways {
    pub(super) fn new(ours: &Ours, holders: &[u32]) -> Self {
        let holders = holders.iter().map(|&holder| ours.ids[holder as usize]).collect();
        Self { holders, kept: Kept::new(Bounds::default()), path: Vec::new() }
    }

    /// Peers on the path, and how many were looked at for it.
    pub(super) fn ask(&mut self, ours: &mut Ours, from: u32) -> (Option<usize>, usize) {
        let from = ours.ids[from as usize];
        if self.kept.prepare(ours.room.graph(), self.holders.iter().copied()) {
            let found = self.kept.path(from, &mut self.path);
            return (found.then_some(self.path.len()), self.kept.visited());
        }
        let found = self.search(ours, from);
        self.kept.earn(ours.search.visited());
        (found, ours.search.visited())
    }

    /// What was changed last.
    pub(super) fn follow(&mut self, ours: &Ours) {
        self.kept.follow(ours.room.graph(), &ours.changes);
    }

    /// Peers that the last change looked at.
    pub(super) fn repaired(&self) -> usize {
        self.kept.visited()
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_kept()
    }

    /// With nothing kept.
    pub(super) fn search(&self, ours: &mut Ours, from: NodeId) -> Option<usize> {
        let path = ours.room.nearest(&mut ours.search, from, self.holders.iter().copied(), &[]);
        std::hint::black_box(path).map(<[_]>::len)
    }
}

impl Side for Ours {
    fn cut(&mut self, link: (u32, u32)) -> Result<()> {
        self.report(link, false)
    }

    fn join(&mut self, link: (u32, u32)) -> Result<()> {
        self.report(link, true)
    }

    fn path(&mut self, from: u32, to: u32) -> Option<usize> {
        // The requester's number is its connection's; the target comes as a name.
        let target = self.room.id(&self.names[to as usize])?;
        let path = self.room.path(&mut self.search, self.ids[from as usize], target)?;
        Some(std::hint::black_box(path).len() - 1)
    }
}

/// The limit.
pub(super) struct Limit {
    pub bare: Bare,
    pub scratch: Scratch,
}

impl Limit {
    pub(super) fn new(neighbors: &[Vec<u32>]) -> Self {
        Self { bare: Bare::new(neighbors), scratch: Scratch::new(neighbors.len()) }
    }
}

impl Side for Limit {
    fn cut(&mut self, (a, b): (u32, u32)) -> Result<()> {
        self.bare.cut(a, b);
        Ok(())
    }

    fn join(&mut self, (a, b): (u32, u32)) -> Result<()> {
        self.bare.join(a, b);
        Ok(())
    }

    fn path(&mut self, from: u32, to: u32) -> Option<usize> {
        let path = self.scratch.path(&self.bare, from, to)?;
        Some(std::hint::black_box(path).len() - 1)
    }
}

/// petgraph's graph that keeps its numbers when something is removed.
pub(super) struct Petgraph {
    graph: StableUnGraph<(), ()>,
    how: How,
}

/// petgraph offers both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Astar,
    Bfs,
}

impl Petgraph {
    pub(super) fn new(neighbors: &[Vec<u32>]) -> Self {
        let links = neighbors.iter().map(Vec::len).sum::<usize>() / 2;
        let mut graph = StableUnGraph::with_capacity(neighbors.len(), links + 1);
        for _ in neighbors {
            graph.add_node(());
        }
        for (a, list) in neighbors.iter().enumerate() {
            for &b in list.iter().filter(|&&b| b as usize > a) {
                graph.add_edge(NodeIndex::new(a), NodeIndex::new(b as usize), ());
            }
        }
        Self { graph, how: How::Astar }
    }

    pub(super) fn by(&mut self, how: How) -> &mut Self {
        self.how = how;
        self
    }
}

impl Side for Petgraph {
    fn cut(&mut self, (a, b): (u32, u32)) -> Result<()> {
        let edge = self.graph.find_edge(a.into(), b.into()).context("a link to cut is not there")?;
        self.graph.remove_edge(edge);
        Ok(())
    }

    fn join(&mut self, (a, b): (u32, u32)) -> Result<()> {
        self.graph.add_edge(a.into(), b.into(), ());
        Ok(())
    }

    fn path(&mut self, from: u32, to: u32) -> Option<usize> {
        let (from, to) = (NodeIndex::from(from), NodeIndex::from(to));
        match self.how {
            How::Astar => {
                let (hops, path) = astar(&self.graph, from, |node| node == to, |_| 1_u32, |_| 0)?;
                std::hint::black_box(path);
                Some(hops as usize)
            }
            How::Bfs => {
                // petgraph's `Bfs` with parents, which it does not tell.
                let mut discovered = self.graph.visit_map();
                let mut parents = vec![NodeIndex::end(); self.graph.node_count()];
                let mut stack = VecDeque::from([from]);
                discovered.visit(from);
                while let Some(node) = stack.pop_front() {
                    if node == to {
                        let mut path = vec![to];
                        let mut at = to;
                        while at != from {
                            at = parents[at.index()];
                            path.push(at);
                        }
                        return Some(std::hint::black_box(path).len() - 1);
                    }
                    for next in self.graph.neighbors(node) {
                        if discovered.visit(next) {
                            parents[next.index()] = node;
                            stack.push_back(next);
                        }
                    }
                }
                None
            }
        }
    }
}

//! Reading a room: names, peers, links, paths. Nothing here changes it.

use std::{fmt, hash::Hash};

use super::Room;
use crate::{
    Graph, NodeId, Search,
    graph::{Flags, Half},
};

/// A peer as a room knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer<'a, N> {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: &'a N,
    /// Whether it has a connection.
    pub connected: bool,
    /// Whether paths may run through it: the same, except under [`Liveness::Announced`](super::Liveness).
    pub present: bool,
}

/// A link that exists: declared, or announced by either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The end with the lower number.
    pub a: NodeId,
    /// The other end.
    pub b: NodeId,
    /// Neither end reports it down.
    pub up: bool,
    /// It is a seed link.
    pub seed: bool,
}

impl<N: Clone + Eq + Hash + fmt::Display + fmt::Debug> Room<N> {
    /// The number of a peer: while it is connected, or a link names it.
    pub fn id(&self, name: &N) -> Option<NodeId> {
        self.names.id(name)
    }

    /// The name of a number.
    pub fn name(&self, id: NodeId) -> Option<&N> {
        self.names.name(id)
    }

    /// Whether the peer has a connection.
    pub fn is_connected(&self, id: NodeId) -> bool {
        self.state(id).is_connected()
    }

    /// Whether paths may run through the peer.
    pub fn is_present(&self, id: NodeId) -> bool {
        self.graph.is_active(id)
    }

    /// Whether the link exists, up or down.
    pub fn has_link(&self, a: NodeId, b: NodeId) -> bool {
        exists(self.graph.flags(a, b), self.graph.flags(b, a))
    }

    /// Whether a path may take the link now.
    pub fn is_open(&self, a: NodeId, b: NodeId) -> bool {
        self.graph.is_open(a, b)
    }

    /// Whether every link of a path can be taken now: whether a route along it still stands.
    pub fn is_path(&self, path: &[NodeId]) -> bool {
        path.first().is_some_and(|&first| self.is_present(first))
            && path.windows(2).all(|hop| self.is_open(hop[0], hop[1]))
    }

    /// Connections.
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// Peers that the room knows, connected or named by a link.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether the room knows nobody: it may be dropped.
    pub fn is_empty(&self) -> bool {
        self.connected == 0 && self.links == 0
    }

    /// Links that exist, up or down.
    pub fn link_count(&self) -> usize {
        self.links
    }

    /// Every peer that the room knows, ascending by number.
    pub fn peers(&self) -> impl Iterator<Item = Peer<'_, N>> + '_ {
        self.graph.nodes().filter_map(|id| {
            let name = self.name(id)?;
            Some(Peer { id, name, connected: self.is_connected(id), present: self.is_present(id) })
        })
    }

    /// Every link that exists, once, ascending.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.graph.nodes().flat_map(|a| self.links_of(a)).filter(|link| link.a < link.b)
    }

    /// The links of one peer, ascending by neighbour; `a` is the peer itself.
    pub fn links_of(&self, a: NodeId) -> impl Iterator<Item = Link> + '_ {
        self.graph.halves(a).filter_map(move |half: Half| {
            let (b, flags) = (NodeId(half.peer()), half.flags());
            exists(flags, self.graph.flags(b, a)).then(|| Link {
                a,
                b,
                up: flags.has(Flags::UP),
                seed: flags.has(Flags::SEED),
            })
        })
    }

    /// The graph of links that are up, for queries and analysis.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// [`Search::path`].
    pub fn path<'s>(&self, search: &'s mut Search, from: NodeId, to: NodeId) -> Option<&'s [NodeId]> {
        search.path(&self.graph, from, to)
    }

    /// [`Search::nearest`].
    pub fn nearest<'s>(
        &self,
        search: &'s mut Search,
        from: NodeId,
        holders: impl IntoIterator<Item = NodeId>,
        exclude: &[NodeId],
    ) -> Option<&'s [NodeId]> {
        search.nearest(&self.graph, from, holders, exclude)
    }

    /// [`Search::nearest_within`] over ways that touch none of `avoid`, neither as holder nor as hop; who asks is never
    /// avoided.
    pub fn nearest_avoiding<'s>(
        &mut self,
        search: &'s mut Search,
        from: NodeId,
        holders: impl IntoIterator<Item = NodeId>,
        exclude: &[NodeId],
        avoid: &[NodeId],
        hops: usize,
    ) -> Option<&'s [NodeId]> {
        // Switched off for this one query: a search has no way to step around single peers, and needs none otherwise.
        let off: Vec<_> = avoid
            .iter()
            .copied()
            .filter(|&node| node != from && self.graph.set_active(node, false))
            .collect();
        let path = search.nearest_within(&self.graph, from, holders, exclude, hops);
        for node in off {
            self.graph.set_active(node, true);
        }
        path
    }

    /// Heap memory, in bytes, without what the names themselves point to.
    pub fn bytes(&self) -> usize {
        self.graph.bytes() + self.names.bytes() + self.states.bytes()
    }
}

/// A link exists while it is declared or announced.
pub(super) fn exists(ab: Flags, ba: Flags) -> bool {
    ab.has(Flags::SEED) || ab.has(Flags::ANNOUNCED) || ba.has(Flags::ANNOUNCED)
}

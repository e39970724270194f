//! The routes of one room that somebody may still use, and which of them a link or peer carries.
//!
//! A route lives until a link or peer on it goes, it is retired, or it falls out: past [`ROUTE_TABLE`] routes of one
//! requester the requester's oldest goes, past [`HOPS`] hops of all routes together the room's oldest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hopcast_protocol::{RouteId, limits::ROUTE_TABLE};
use hopcast_routing::NodeId;

/// Most peers on all remembered routes of a room together.
pub(super) const HOPS: usize = 1 << 20;

/// The source of route numbers: a random word of this server's start, and a counter.
#[derive(Debug)]
pub struct Epoch {
    word: String,
    next: AtomicU64,
}

impl Epoch {
    /// A chosen word: for replays.
    pub fn new(word: impl Into<String>) -> Self {
        Self { word: word.into(), next: AtomicU64::new(1) }
    }

    /// A random word.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self::new(format!("{:08x}", getrandom::u32()?)))
    }

    /// The counter's part of a route id of this epoch.
    pub fn number(&self, route: &RouteId) -> Option<u64> {
        route.as_str().strip_prefix(&self.word)?.strip_prefix('-')?.parse().ok()
    }

    fn issue(&self) -> (u64, RouteId) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = RouteId::new(format!("{}-{number}", self.word));
        (number, id.expect("eight hexadecimal digits, a dash and a number make a name"))
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) id: RouteId,
    /// Requester first.
    pub(super) path: Arc<[NodeId]>,
    number: u64,
    /// When it was last asked for, as a place in a sequence.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    by_number: HashMap<u64, Route>,
    by_path: HashMap<Arc<[NodeId]>, u64>,
    /// By peer: the numbers of the routes that it is on.
    through: Vec<HashSet<u64>>,
    /// By requester: its routes, oldest use first.
    own: HashMap<NodeId, BTreeMap<u64, u64>>,
    /// Over all requesters.
    oldest: BTreeMap<u64, u64>,
    clock: u64,
    hops: usize,
    most_hops: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self::with_most_hops(HOPS)
    }
}

impl Routes {
    fn with_most_hops(most_hops: usize) -> Self {
        Self {
            by_number: HashMap::new(),
            by_path: HashMap::new(),
            through: Vec::new(),
            own: HashMap::new(),
            oldest: BTreeMap::new(),
            clock: 0,
            hops: 0,
            most_hops,
        }
    }

    /// The route along a path, an old one if there is one. Routes that fell out are added to `out`; they must be
    /// told to their peers.
    pub(super) fn along(&mut self, path: &[NodeId], epoch: &Epoch, out: &mut Vec<Route>) -> RouteId {
        self.clock += 1;
        if let Some(&number) = self.by_path.get(path) {
            return self.touch(number);
        }
        let (number, id) = epoch.issue();
        let path: Arc<[NodeId]> = path.into();
        let requester = path[0];
        self.hops += path.len();
        for node in path.iter() {
            if self.through.len() <= node.index() {
                self.through.resize_with(node.index() + 1, HashSet::new);
            }
            self.through[node.index()].insert(number);
        }
        self.by_path.insert(path.clone(), number);
        self.own.entry(requester).or_default().insert(self.clock, number);
        self.oldest.insert(self.clock, number);
        self.by_number.insert(number, Route { id: id.clone(), path, number, used: self.clock });

        let own = &self.own[&requester];
        if own.len() > ROUTE_TABLE
            && let Some((_, &eldest)) = own.first_key_value()
        {
            out.extend(self.remove(eldest));
        }
        while self.hops > self.most_hops
            && self.by_number.len() > 1
            && let Some((_, &eldest)) = self.oldest.first_key_value()
        {
            out.extend(self.remove(eldest));
        }
        id
    }

    fn touch(&mut self, number: u64) -> RouteId {
        let route = self.by_number.get_mut(&number).expect("every path in the index has its route");
        let before = std::mem::replace(&mut route.used, self.clock);
        self.oldest.remove(&before);
        self.oldest.insert(self.clock, number);
        if let Some(own) = self.own.get_mut(&route.path[0]) {
            own.remove(&before);
            own.insert(self.clock, number);
        }
        route.id.clone()
    }

    /// Forgets a route.
    pub(super) fn remove(&mut self, number: u64) -> Option<Route> {
        let route = self.by_number.remove(&number)?;
        self.by_path.remove(&route.path);
        self.oldest.remove(&route.used);
        self.hops -= route.path.len();
        for node in route.path.iter() {
            self.through[node.index()].remove(&number);
        }
        if let Some(own) = self.own.get_mut(&route.path[0]) {
            own.remove(&route.used);
            if own.is_empty() {
                self.own.remove(&route.path[0]);
            }
        }
        Some(route)
    }

    /// Forgets the routes over a link.
    pub(super) fn remove_link(&mut self, a: NodeId, b: NodeId, out: &mut Vec<Route>) {
        let (Some(at_a), Some(at_b)) = (self.through.get(a.index()), self.through.get(b.index())) else {
            return;
        };
        let (few, many) = if at_a.len() <= at_b.len() { (at_a, at_b) } else { (at_b, at_a) };
        let over = |path: &[NodeId]| path.windows(2).any(|hop| hop == [a, b] || hop == [b, a]);
        let mut gone: Vec<u64> = few
            .iter()
            .copied()
            .filter(|number| many.contains(number) && over(&self.by_number[number].path))
            .collect();
        gone.sort_unstable();
        out.extend(gone.into_iter().filter_map(|number| self.remove(number)));
    }

    /// Forgets the routes through a peer.
    pub(super) fn remove_peer(&mut self, peer: NodeId, out: &mut Vec<Route>) {
        let Some(through) = self.through.get(peer.index()) else { return };
        let mut gone: Vec<u64> = through.iter().copied().collect();
        gone.sort_unstable();
        out.extend(gone.into_iter().filter_map(|number| self.remove(number)));
        self.through[peer.index()] = HashSet::new(); // the number may be given to another peer
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(nodes: &[usize]) -> Vec<NodeId> {
        nodes.iter().map(|&index| NodeId::from_index(index).unwrap()).collect()
    }

    fn along(routes: &mut Routes, epoch: &Epoch, nodes: &[usize]) -> (String, Vec<String>) {
        let mut out = Vec::new();
        let id = routes.along(&path(nodes), epoch, &mut out);
        (id.to_string(), out.iter().map(|route| route.id.to_string()).collect())
    }

    #[test]
    fn the_same_path_keeps_its_id_and_another_gets_its_own() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        assert_eq!(along(&mut routes, &epoch, &[1, 2, 3]).0, "e-1");
        assert_eq!(along(&mut routes, &epoch, &[1, 4, 3]).0, "e-2");
        assert_eq!(along(&mut routes, &epoch, &[1, 2, 3]).0, "e-1");
        assert_eq!(along(&mut routes, &epoch, &[3, 2, 1]).0, "e-3", "the way back is another route");
        assert_eq!(epoch.number(&RouteId::new("e-3").unwrap()), Some(3));
        assert_eq!(epoch.number(&RouteId::new("f-3").unwrap()), None);
    }

    #[test]
    fn a_link_or_peer_takes_only_the_routes_over_it() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        along(&mut routes, &epoch, &[1, 2, 3]);
        along(&mut routes, &epoch, &[3, 2, 1]);
        along(&mut routes, &epoch, &[2, 1, 4]);
        along(&mut routes, &epoch, &[1, 5, 2]); // both ends of the link, but not over it
        let mut out = Vec::new();
        let [a, b] = [1, 2].map(|index| NodeId::from_index(index).unwrap());
        routes.remove_link(a, b, &mut out);
        assert_eq!(out.iter().map(|route| route.id.as_str()).collect::<Vec<_>>(), ["e-1", "e-2", "e-3"]);
        out.clear();
        routes.remove_peer(b, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!((routes.len(), routes.hops), (0, 0));
        assert!(routes.by_path.is_empty() && routes.own.is_empty() && routes.oldest.is_empty());
    }

    #[test]
    fn the_tables_are_bounded_and_the_least_recently_asked_for_falls_out() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        for holder in 0..ROUTE_TABLE {
            assert!(along(&mut routes, &epoch, &[9999, holder]).1.is_empty());
        }
        along(&mut routes, &epoch, &[9999, 0]);
        assert_eq!(along(&mut routes, &epoch, &[9999, 5000]).1, ["e-2"], "e-1 was used again");

        let (mut routes, epoch) = (Routes::with_most_hops(6), Epoch::new("e"));
        along(&mut routes, &epoch, &[1, 2, 3]);
        along(&mut routes, &epoch, &[2, 3, 4]);
        assert_eq!(along(&mut routes, &epoch, &[3, 4]).1, ["e-1"]);
    }
}

//! The routes of one room that somebody may still use, and which of them a link or peer carries.
//!
//! A route lives until a link or peer on it goes, it is retired, it is not used for [`ROUTE_IDLE`], or it falls out: past
//! [`ROUTE_TABLE`] routes of one requester the requester's oldest goes, past [`HOPS`] hops of all routes together the room's.
//!
//! A client of the original cannot say that it uses a path: its last [`LASTING`] are kept while it is connected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hopcast_protocol::{
    RouteId,
    limits::{ROUTE_IDLE, ROUTE_TABLE},
};
use hopcast_routing::NodeId;

use super::lost::Quest;

/// Most peers on all remembered routes of a room together, the names that their requests excluded included.
pub(super) const HOPS: usize = 1 << 20;
/// Paths that are remembered for a requester that speaks the original's protocol.
pub(super) const LASTING: usize = 8;
/// Places for routes that a peer on a first route gets.
const FEW: usize = 4;
/// Most routes that one call ends because nobody used them; the next call goes on.
const IDLE_BATCH: usize = 1024;

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

/// When a route was last used: the time, and a place in a sequence.
type Stamp = (Duration, u64);

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) id: RouteId,
    /// Requester first.
    pub(super) path: Arc<[NodeId]>,
    /// What it was last asked for.
    pub(super) quest: Quest,
    /// Whether somebody was told its id.
    pub(super) told: bool,
    number: u64,
    stamp: Stamp,
    /// It does not end by itself.
    lasting: bool,
}

impl Route {
    /// When it was last used.
    pub(super) fn used(&self) -> Duration {
        self.stamp.0
    }

    fn weight(&self) -> usize {
        self.path.len() + self.quest.names()
    }
}

/// What a path is remembered for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) quest: Quest,
    /// When it was last used: now, unless it takes the place of a route that was lost.
    pub(super) used: Duration,
    /// Somebody on it is told its id.
    pub(super) told: bool,
    /// The requester cannot say that it uses it.
    pub(super) lasting: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    // Numbers and paths are this server's own, so a fast hash will do.
    by_number: hashbrown::HashMap<u64, Route>,
    by_path: hashbrown::HashMap<Arc<[NodeId]>, u64>,
    /// By peer: the numbers of the routes that it is on, and of some that are no more: those are left out when it is looked
    /// at, and thrown out before it grows.
    through: Vec<Vec<u64>>,
    /// By requester: its routes, oldest use first.
    own: HashMap<NodeId, BTreeMap<Stamp, u64>>,
    /// Over all requesters: those that end by themselves.
    ending: BTreeMap<Stamp, u64>,
    /// And those that do not.
    lasting: BTreeMap<Stamp, u64>,
    clock: u64,
    hops: usize,
    most_hops: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Self::with_most_hops(HOPS)
    }
}

/// The least recently used route, and when that was, but for the one that is being told: it may have been used the longest time
/// ago itself, where it is in the place of a lost one.
fn eldest_but(order: &BTreeMap<Stamp, u64>, told: u64) -> Option<(Stamp, u64)> {
    order.iter().map(|(&stamp, &number)| (stamp, number)).find(|&(_, number)| number != told)
}

impl Routes {
    fn with_most_hops(most_hops: usize) -> Self {
        Self {
            by_number: hashbrown::HashMap::new(),
            by_path: hashbrown::HashMap::new(),
            through: Vec::new(),
            own: HashMap::new(),
            ending: BTreeMap::new(),
            lasting: BTreeMap::new(),
            clock: 0,
            hops: 0,
            most_hops,
        }
    }

    /// The route along a path, an old one if there is one. Routes that fell out are added to `out`; they must be
    /// told to their peers.
    pub(super) fn along(
        &mut self,
        path: &[NodeId],
        asked: Asked,
        epoch: &Epoch,
        out: &mut Vec<Route>,
    ) -> RouteId {
        let Asked { quest, used, told, lasting } = asked;
        let (number, id) = if let Some(&number) = self.by_path.get(path) {
            self.touch(number, used);
            let route = self.by_number.get_mut(&number).expect("every path in the index has its route");
            self.hops = self.hops + quest.names() - route.quest.names();
            route.quest = quest;
            route.told |= told;
            (number, route.id.clone())
        } else {
            let (number, id) = epoch.issue();
            let path: Arc<[NodeId]> = path.into();
            for node in path.iter() {
                if self.through.len() <= node.index() {
                    self.through.resize_with(node.index() + 1, Vec::new);
                }
                let through = &mut self.through[node.index()];
                if through.len() == through.capacity() {
                    through.retain(|number| self.by_number.contains_key(number));
                    // Half of it is free afterwards, so that the next look over all of it is as far away.
                    through.reserve(through.len().max(FEW));
                }
                through.push(number);
            }
            self.by_path.insert(path.clone(), number);
            self.clock += 1;
            let stamp = (used, self.clock);
            let route = Route { id: id.clone(), path, quest, told, number, stamp, lasting };
            self.hops += route.weight();
            self.own.entry(route.path[0]).or_default().insert(stamp, number);
            self.order(lasting).insert(stamp, number);
            self.by_number.insert(number, route);
            (number, id)
        };
        let own = &self.own[&path[0]];
        if own.len() > if lasting { LASTING } else { ROUTE_TABLE }
            && let Some(eldest) = eldest_but(own, number)
        {
            out.extend(self.remove(eldest.1));
        }
        while self.hops > self.most_hops
            && let Some(eldest) =
                [&self.ending, &self.lasting].into_iter().filter_map(|order| eldest_but(order, number)).min()
        {
            out.extend(self.remove(eldest.1));
        }
        id
    }

    fn order(&mut self, lasting: bool) -> &mut BTreeMap<Stamp, u64> {
        if lasting { &mut self.lasting } else { &mut self.ending }
    }

    /// A requester uses a route of its own. Others' routes, and those that are no more, are left alone.
    pub(super) fn refresh(&mut self, number: u64, requester: NodeId, now: Duration) {
        if self.by_number.get(&number).is_some_and(|route| route.path[0] == requester) {
            self.touch(number, now);
        }
    }

    fn touch(&mut self, number: u64, used: Duration) {
        self.clock += 1;
        let clock = self.clock;
        let Some(route) = self.by_number.get_mut(&number) else { return };
        let before = route.stamp;
        route.stamp = (before.0.max(used), clock);
        let (after, lasting, requester) = (route.stamp, route.lasting, route.path[0]);
        let order = self.order(lasting);
        order.remove(&before);
        order.insert(after, number);
        if let Some(own) = self.own.get_mut(&requester) {
            own.remove(&before);
            own.insert(after, number);
        }
    }

    /// Forgets the routes that were not used for [`ROUTE_IDLE`], a bounded number at a time.
    pub(super) fn remove_idle(&mut self, now: Duration, out: &mut Vec<Route>) {
        for _ in 0..IDLE_BATCH {
            let Some((&(used, _), &eldest)) = self.ending.first_key_value() else { return };
            if now.saturating_sub(used) <= ROUTE_IDLE {
                return;
            }
            out.extend(self.remove(eldest));
        }
    }

    /// Forgets a route.
    pub(super) fn remove(&mut self, number: u64) -> Option<Route> {
        let route = self.by_number.remove(&number)?;
        self.by_path.remove(&route.path);
        self.order(route.lasting).remove(&route.stamp);
        self.hops -= route.weight();
        if let Some(own) = self.own.get_mut(&route.path[0]) {
            own.remove(&route.stamp);
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
        let few = if at_a.len() <= at_b.len() { at_a } else { at_b };
        let over = |path: &[NodeId]| path.windows(2).any(|hop| hop == [a, b] || hop == [b, a]);
        let mut gone: Vec<u64> = few
            .iter()
            .copied()
            .filter(|number| self.by_number.get(number).is_some_and(|route| over(&route.path)))
            .collect();
        gone.sort_unstable();
        out.extend(gone.into_iter().filter_map(|number| self.remove(number)));
    }

    /// Forgets the routes through a peer.
    pub(super) fn remove_peer(&mut self, peer: NodeId, out: &mut Vec<Route>) {
        let Some(through) = self.through.get_mut(peer.index()) else { return };
        let mut gone = std::mem::take(through); // nothing is left: the number may be given to another peer
        // Where many peers leave at once, the first few of them end nearly all routes.
        gone.retain(|number| self.by_number.contains_key(number));
        gone.sort_unstable();
        out.extend(gone.into_iter().filter_map(|number| self.remove(number)));
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

    fn asked(seconds: u64) -> Asked {
        let quest = Quest::Peer("x".parse().unwrap());
        Asked { quest, used: Duration::from_secs(seconds), told: true, lasting: false }
    }

    fn put(routes: &mut Routes, epoch: &Epoch, nodes: &[usize], asked: Asked) -> (String, Vec<String>) {
        let mut out = Vec::new();
        let id = routes.along(&path(nodes), asked, epoch, &mut out);
        (id.to_string(), ids(&out))
    }

    fn ids(routes: &[Route]) -> Vec<String> {
        routes.iter().map(|route| route.id.to_string()).collect()
    }

    fn along(routes: &mut Routes, epoch: &Epoch, nodes: &[usize]) -> (String, Vec<String>) {
        put(routes, epoch, nodes, asked(0))
    }

    fn idle(routes: &mut Routes, seconds: u64) -> Vec<String> {
        let mut out = Vec::new();
        routes.remove_idle(Duration::from_secs(seconds), &mut out);
        ids(&out)
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
        assert!(routes.by_path.is_empty() && routes.own.is_empty() && routes.ending.is_empty());
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

    #[test]
    fn what_is_told_just_now_is_not_what_falls_out() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        for holder in 0..ROUTE_TABLE {
            put(&mut routes, &epoch, &[9999, holder], asked(100));
        }
        // In the place of a lost one that was used before all of them.
        assert_eq!(put(&mut routes, &epoch, &[9999, 1, 5000], asked(50)).1, ["e-1"]);

        let (mut routes, epoch) = (Routes::with_most_hops(6), Epoch::new("e"));
        put(&mut routes, &epoch, &[1, 2, 3], asked(100));
        assert_eq!(put(&mut routes, &epoch, &[4, 5, 6, 7], asked(50)).1, ["e-1"]);
        assert!(put(&mut routes, &epoch, &[4, 5, 6, 7], asked(60)).1.is_empty(), "one alone stays");
    }

    #[test]
    fn sixty_seconds_without_use_end_a_route_and_a_use_by_its_requester_alone_keeps_it() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        for (nodes, at) in [([1, 2], 0), ([3, 2], 0), ([4, 2], 5)] {
            put(&mut routes, &epoch, &nodes, asked(at));
        }
        let node = |index| NodeId::from_index(index).unwrap();
        let seconds = Duration::from_secs;
        routes.refresh(1, node(1), seconds(50));
        routes.refresh(2, node(1), seconds(50));
        routes.refresh(99, node(1), seconds(50));
        assert!(idle(&mut routes, 60).is_empty());
        assert_eq!(idle(&mut routes, 61), ["e-2"], "another's word does not count");
        put(&mut routes, &epoch, &[4, 2], asked(62));
        assert_eq!(idle(&mut routes, 111), ["e-1"]);
        assert_eq!(idle(&mut routes, 123), ["e-3"], "a request was a use");
        assert_eq!((routes.len(), routes.hops), (0, 0));
        // One that takes the place of a lost one keeps that one's age.
        put(&mut routes, &epoch, &[1, 2], asked(200));
        put(&mut routes, &epoch, &[1, 3, 2], asked(150));
        assert_eq!(idle(&mut routes, 211), ["e-5"]);
    }

    #[test]
    fn an_originals_last_paths_do_not_end_by_themselves_and_are_few() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        for holder in 0..LASTING {
            let fell = put(&mut routes, &epoch, &[9999, holder], Asked { lasting: true, ..asked(0) }).1;
            assert!(fell.is_empty());
        }
        assert!(idle(&mut routes, 100_000).is_empty());
        assert_eq!(put(&mut routes, &epoch, &[9999, 77], Asked { lasting: true, ..asked(1) }).1, ["e-1"]);
        assert_eq!(routes.len(), LASTING);
    }

    #[test]
    fn idle_routes_end_a_bounded_number_at_a_time() {
        let (mut routes, epoch) = (Routes::default(), Epoch::new("e"));
        for requester in 0..=IDLE_BATCH {
            along(&mut routes, &epoch, &[requester, 9999]);
        }
        assert_eq!(idle(&mut routes, 100).len(), IDLE_BATCH);
        assert_eq!(idle(&mut routes, 100).len(), 1);
    }
}

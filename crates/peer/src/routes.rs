//! The routes that the signalling server has broadcast to this peer: who may ask over them, and where to.
//!
//! Pure: time is an argument. At most 256 (the least recently used falls out), forgotten after 60 s without use; one with a
//! transfer under way is in use. The server forgets a route in the same way: it sees the requests, and of other uses the
//! requester tells it ([`Routes::take_used`]).
//! A route that was retired is remembered for a while as retired, so that nobody waits for its broadcast, and so is what
//! the server put in its place.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use hopcast_protocol::{
    ContentId, PeerName, RoomName, RouteId,
    limits::{ROUTE_IDLE, ROUTE_TABLE},
};
use tokio::time::Instant;

/// How many retired ids are remembered: as many as can stand, since one lost link may end all of them at once.
const RETIRED: usize = ROUTE_TABLE;
/// How many routes' successors are remembered.
const SUCCESSORS: usize = 64;

/// A route as this peer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// The room it leads through.
    pub room: RoomName,
    /// Towards the requester; `None`: this peer is the requester.
    pub prev: Option<PeerName>,
    /// Towards the holder; `None`: this peer is the holder.
    pub next: Option<PeerName>,
    /// Hops from here to the holder.
    pub hops: u32,
    /// The whole path, requester first; only the requester knows it.
    pub path: Rc<[PeerName]>,
}

impl Route {
    /// Who holds what is asked for; known to the requester only.
    pub fn holder(&self) -> Option<&PeerName> {
        self.path.last()
    }
}

#[derive(Debug)]
struct Entry {
    route: Rc<Route>,
    used: Instant,
    // Breaks ties of `used`: a paused or coarse clock gives equal instants.
    stamp: u64,
    /// When the server last heard that it is used.
    told: Instant,
}

impl Entry {
    /// Whoever transfers something over a route keeps it.
    fn is_busy(&self) -> bool {
        Rc::strong_count(&self.route) > 1
    }

    fn is_idle(&self, now: Instant) -> bool {
        !self.is_busy() && now.saturating_duration_since(self.used) > ROUTE_IDLE
    }
}

/// What the server put in the place of a lost route.
#[derive(Debug)]
struct Successor {
    of: RouteId,
    is: RouteId,
    content: ContentId,
}

/// The table.
#[derive(Debug, Default)]
pub struct Routes {
    entries: HashMap<RouteId, Entry>,
    retired: VecDeque<RouteId>,
    successors: VecDeque<Successor>,
    stamp: u64,
}

impl Routes {
    /// A broadcast: the route stands, from now on in this form. Where it had that form already, who transfers something over it
    /// has the same one.
    pub fn insert(&mut self, route: Route, now: Instant) -> Rc<Route> {
        self.retired.retain(|id| *id != route.id);
        if self.entries.len() >= ROUTE_TABLE && !self.entries.contains_key(&route.id) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| (entry.used, entry.stamp));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.entries.remove(&id);
            }
        }
        self.stamp += 1;
        let same =
            self.entries.get(&route.id).map(|entry| entry.route.clone()).filter(|known| **known == route);
        let route = same.unwrap_or_else(|| Rc::new(route));
        let entry = Entry { route: route.clone(), used: now, stamp: self.stamp, told: now };
        self.entries.insert(route.id.clone(), entry);
        route
    }

    /// The server has put a route that it broadcast just now in the place of one that was lost, for a content.
    pub fn succeed(&mut self, of: RouteId, is: RouteId, content: ContentId) {
        if self.successors.len() == SUCCESSORS {
            self.successors.pop_front();
        }
        self.successors.push_back(Successor { of, is, content });
    }

    /// What stands now in the place of a lost route to a content.
    pub fn successor(&mut self, of: &RouteId, content: &ContentId, now: Instant) -> Option<Rc<Route>> {
        let mut at = of.clone();
        for _ in 0..SUCCESSORS {
            let next = self.successors.iter().rev().find(|next| next.of == at && next.content == *content)?;
            at = next.is.clone();
            if let Some(route) = self.get(at.as_str(), now) {
                return Some(route);
            }
        }
        None
    }

    /// The route of that id, which is thereby used.
    pub fn get(&mut self, id: &str, now: Instant) -> Option<Rc<Route>> {
        let entry = self.entries.get_mut(id)?;
        if entry.is_idle(now) {
            self.entries.remove(id);
            return None;
        }
        self.stamp += 1;
        (entry.used, entry.stamp) = (now, self.stamp);
        Some(entry.route.clone())
    }

    /// The server says that the route is no more.
    pub fn retire(&mut self, id: &RouteId) {
        let stood = self.entries.remove(id).is_some();
        if self.retired.contains(id) {
            return;
        }
        if self.retired.len() == RETIRED {
            if !stood {
                return; // nobody here uses it, so it takes no other one's place
            }
            self.retired.pop_front();
        }
        self.retired.push_back(id.clone());
    }

    /// True for a route that stood once and was retired.
    pub fn is_retired(&self, id: &str) -> bool {
        self.retired.iter().any(|retired| retired.as_str() == id)
    }

    /// Forgets what was not used for 60 s. Returns how long until the next one is due; `None` when the table is empty.
    pub fn sweep(&mut self, now: Instant) -> Option<Duration> {
        self.entries.retain(|_, entry| !entry.is_idle(now));
        for entry in self.entries.values_mut().filter(|entry| entry.is_busy()) {
            entry.used = now;
        }
        let oldest = self.entries.values().map(|entry| entry.used).min()?;
        Some((oldest + ROUTE_IDLE).saturating_duration_since(now))
    }

    /// The routes of this peer's own that were used since the server last heard of them. It is told now.
    pub fn take_used(&mut self, now: Instant) -> Vec<(RoomName, RouteId)> {
        let mut used = Vec::new();
        for (id, entry) in &mut self.entries {
            let own = entry.route.prev.is_none() && entry.route.next.is_some();
            if own && (entry.used > entry.told || entry.is_busy()) {
                entry.told = now;
                used.push((entry.route.room.clone(), id.clone()));
            }
        }
        used
    }

    /// The routes that this peer asked for and that still stand, the most recently used first: what is left when no
    /// signalling server answers.
    pub fn standing(&self, now: Instant) -> Vec<Rc<Route>> {
        let mut own: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.route.prev.is_none() && entry.route.next.is_some())
            .filter(|entry| !entry.is_idle(now))
            .collect();
        own.sort_by_key(|entry| std::cmp::Reverse((entry.used, entry.stamp)));
        own.into_iter().map(|entry| entry.route.clone()).collect()
    }

    /// How many routes stand.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: &str, prev: Option<&str>) -> Route {
        let name = |name: &str| PeerName::new(name).unwrap();
        Route {
            id: RouteId::new(id).unwrap(),
            room: RoomName::new("rock").unwrap(),
            prev: prev.map(name),
            next: Some(name("peer-9")),
            hops: 2,
            path: Rc::new([]),
        }
    }

    #[test]
    fn a_repeated_broadcast_leaves_a_transfer_under_way_a_use() {
        let (mut routes, start) = (Routes::default(), Instant::now());
        routes.insert(route("e-1", None), start);
        let transfer = routes.get("e-1", start).unwrap();
        let asked = routes.insert(route("e-1", None), start);
        assert!(Rc::ptr_eq(&transfer, &asked));
        drop(asked);
        let later = start + ROUTE_IDLE * 3;
        assert!(routes.sweep(later).is_some() && routes.len() == 1, "it is under way");
        drop(transfer);
        routes.sweep(later + ROUTE_IDLE * 2);
        assert!(routes.is_empty());
        // In another form it is another one.
        let old = routes.insert(route("e-1", None), start);
        assert_eq!(
            routes.insert(route("e-1", Some("peer-3")), start).prev,
            route("e-1", Some("peer-3")).prev
        );
        assert_eq!(old.prev, None);
    }

    #[test]
    fn the_least_recently_used_falls_out() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        for i in 0..ROUTE_TABLE {
            routes.insert(route(&format!("e-{i}"), None), now);
        }
        assert!(routes.get("e-0", now).is_some());
        routes.insert(route("e-new", None), now);
        assert_eq!(routes.len(), ROUTE_TABLE);
        assert!(routes.get("e-0", now).is_some(), "used a moment ago");
        assert!(routes.get("e-1", now).is_none(), "the oldest");
        routes.insert(route("e-new", None), now);
        assert!(routes.get("e-2", now).is_some(), "a repeated broadcast costs no other route its place");
    }

    #[test]
    fn sixty_seconds_without_use_end_a_route() {
        let (mut routes, start) = (Routes::default(), Instant::now());
        routes.insert(route("e-1", None), start);
        assert!(routes.get("e-1", start + ROUTE_IDLE).is_some(), "that was a use");
        let later = start + ROUTE_IDLE * 2;
        assert_eq!(routes.sweep(later), Some(Duration::ZERO));
        assert!(routes.standing(later + Duration::from_millis(1)).is_empty());
        assert_eq!(routes.sweep(later + Duration::from_millis(1)), None);
        assert!(routes.get("e-1", later).is_none() && routes.is_empty());
    }

    #[test]
    fn retired_is_known_as_retired_until_broadcast_again() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        routes.insert(route("e-1", None), now);
        routes.retire(&RouteId::new("e-1").unwrap());
        assert!(routes.get("e-1", now).is_none() && routes.is_retired("e-1"));
        assert!(!routes.is_retired("e-2"));
        routes.insert(route("e-1", None), now);
        assert!(routes.get("e-1", now).is_some() && !routes.is_retired("e-1"));
        for i in 0..1000 {
            routes.retire(&RouteId::new(format!("e-{i}")).unwrap());
        }
        assert_eq!(routes.retired.len(), RETIRED);
    }

    #[test]
    fn as_many_as_stand_can_be_lost_at_once() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        let id = |i: usize| format!("e-{i}");
        let retire = |routes: &mut Routes, i| routes.retire(&RouteId::new(id(i)).unwrap());
        for i in 0..1000 {
            retire(&mut routes, i); // what another one uses
        }
        for i in 0..ROUTE_TABLE {
            routes.insert(route(&id(1000 + i), None), now);
        }
        for i in 0..1000 + ROUTE_TABLE {
            retire(&mut routes, i);
        }
        assert!((0..ROUTE_TABLE).all(|i| routes.is_retired(&id(1000 + i))));
    }

    #[test]
    fn standing_routes_are_the_requesters_own() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        routes.insert(route("e-1", None), now);
        routes.insert(route("e-2", Some("peer-3")), now);
        routes.insert(route("e-3", None), now);
        routes.get("e-1", now);
        let ids: Vec<_> = routes.standing(now).iter().map(|route| route.id.to_string()).collect();
        assert_eq!(ids, ["e-1", "e-3"]);
    }

    #[test]
    fn a_route_with_a_transfer_under_way_is_in_use() {
        let (mut routes, start) = (Routes::default(), Instant::now());
        routes.insert(route("e-1", Some("peer-3")), start);
        let transfer = routes.get("e-1", start).unwrap();
        assert_eq!(routes.sweep(start + ROUTE_IDLE * 2), Some(ROUTE_IDLE));
        drop(transfer);
        assert!(routes.get("e-1", start + ROUTE_IDLE * 3).is_some());
        assert_eq!(routes.sweep(start + ROUTE_IDLE * 5), None);
    }

    #[test]
    fn the_server_is_told_of_uses_that_it_did_not_see_and_once() {
        let (mut routes, start) = (Routes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let told = |routes: &mut Routes, now| -> Vec<_> {
            let mut ids: Vec<_> = routes.take_used(now).into_iter().map(|(_, id)| id.to_string()).collect();
            ids.sort();
            ids
        };
        routes.insert(route("e-1", None), start);
        routes.insert(route("e-2", None), start);
        routes.insert(route("e-3", Some("peer-3")), start);
        assert!(told(&mut routes, at(1)).is_empty(), "it has just broadcast them");
        routes.get("e-1", at(2));
        routes.get("e-3", at(2));
        assert_eq!(told(&mut routes, at(25)), ["e-1"], "others' routes are the others' to tell");
        assert!(told(&mut routes, at(50)).is_empty());
        let transfer = routes.get("e-2", at(51));
        assert_eq!(told(&mut routes, at(75)), ["e-2"]);
        assert_eq!(told(&mut routes, at(100)), ["e-2"], "still under way");
        drop(transfer);
        routes.insert(route("e-1", None), at(101));
        assert!(told(&mut routes, at(125)).is_empty(), "a request was seen");
    }

    #[test]
    fn the_successor_of_a_lost_route_is_for_its_content_and_stands() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        let id = |id: &str| RouteId::new(id).unwrap();
        let [x, y]: [ContentId; 2] = ["manifest:x", "manifest:y"].map(|content| content.parse().unwrap());
        for (of, is) in [("e-1", "e-2"), ("e-2", "e-3")] {
            routes.insert(route(is, None), now);
            routes.succeed(id(of), id(is), x.clone());
        }
        let found = |routes: &mut Routes, content: &ContentId| {
            routes.successor(&id("e-1"), content, now).map(|route| route.id.to_string())
        };
        assert_eq!(found(&mut routes, &x).as_deref(), Some("e-2"));
        assert_eq!(found(&mut routes, &y), None);
        routes.retire(&id("e-2"));
        assert_eq!(found(&mut routes, &x).as_deref(), Some("e-3"), "that one was lost as well");
        routes.retire(&id("e-3"));
        assert_eq!(found(&mut routes, &x), None);
        routes.succeed(id("e-3"), id("e-1"), x.clone());
        assert_eq!(found(&mut routes, &x), None, "a circle ends");
        for number in 0..1000 {
            routes.succeed(id(&format!("e-{number}")), id("e-1"), x.clone());
        }
        assert_eq!(routes.successors.len(), SUCCESSORS);
    }
}

//! The link-state rules, one by one.

use hopcast_routing::{
    Changes, LinkChange, Links, Liveness, NodeId, PeerChange, Room, RoomError, Rules, Search,
};

type Names = Room<String>;

fn name(n: u32) -> String {
    format!("peer-{n}")
}

fn names(list: &[u32]) -> Vec<String> {
    list.iter().copied().map(name).collect()
}

/// A room and the calls that tests make on it, by number.
struct Bench {
    room: Names,
    search: Search,
    changes: Changes,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { room: Room::new(rules), search: Search::new(), changes: Changes::new() }
    }

    fn open() -> Self {
        Self::new(Rules::default())
    }

    fn declared(links: &[(u32, u32)]) -> Self {
        let mut bench = Self::new(Rules { links: Links::Declared, ..Rules::default() });
        for &(a, b) in links {
            bench.room.seed(&name(a), &name(b), &mut bench.changes).expect("no self-link");
        }
        bench.changes.clear();
        bench
    }

    fn join(&mut self, list: &[u32]) {
        for &n in list {
            self.room.join(&name(n), &mut self.changes);
        }
    }

    fn id(&self, n: u32) -> NodeId {
        self.room.id(&name(n)).expect("the room knows the peer")
    }

    fn leave(&mut self, n: u32) {
        self.room.leave(self.id(n), &mut self.changes);
    }

    fn announce(&mut self, n: u32, list: &[u32]) -> Result<(), RoomError<String>> {
        self.room.announce(self.id(n), &names(list), &mut self.changes)
    }

    fn report(&mut self, n: u32, other: u32, up: bool) -> Result<(), RoomError<String>> {
        self.room.report(self.id(n), &name(other), up, &mut self.changes)
    }

    fn path(&mut self, a: u32, b: u32) -> Option<Vec<String>> {
        let (a, b) = (self.room.id(&name(a))?, self.room.id(&name(b))?);
        let path = self.room.path(&mut self.search, a, b)?;
        Some(
            path.iter().map(|&id| self.room.name(id).expect("a peer on a path has a name").clone()).collect(),
        )
    }

    fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}

#[test]
fn either_end_makes_a_link() {
    let mut bench = Bench::open();
    bench.join(&[1, 2, 3]);
    bench.announce(1, &[2]).unwrap();
    bench.announce(3, &[2]).unwrap();
    assert_eq!(bench.path(1, 3), Some(names(&[1, 2, 3])));
    assert_eq!(bench.room.link_count(), 2);
}

#[test]
fn an_announcement_leaves_what_others_announced() {
    let mut bench = Bench::open();
    bench.join(&[1, 2, 3]);
    bench.announce(1, &[2, 3]).unwrap();
    bench.announce(2, &[1]).unwrap();
    bench.announce(1, &[3]).unwrap();
    assert_eq!(bench.path(1, 2), Some(names(&[1, 2])), "peer-2 still announces it");
    bench.announce(2, &[]).unwrap();
    assert_eq!(bench.path(1, 2), None);
    assert_eq!(bench.path(1, 3), Some(names(&[1, 3])));
}

#[test]
fn paths_run_through_connected_peers_only() {
    let mut bench = Bench::open();
    bench.join(&[1, 3]);
    bench.announce(1, &[2]).unwrap();
    bench.announce(3, &[2]).unwrap();
    assert_eq!(bench.path(1, 3), None, "peer-2 was never here");
    bench.join(&[2]);
    assert_eq!(bench.path(1, 3), Some(names(&[1, 2, 3])));
    bench.leave(2);
    assert_eq!(bench.path(1, 3), None);
}

#[test]
fn announced_liveness_takes_ghosts() {
    let mut bench = Bench::new(Rules { liveness: Liveness::Announced, ..Rules::default() });
    bench.join(&[1, 3]);
    bench.announce(1, &[2]).unwrap();
    bench.announce(3, &[2]).unwrap();
    assert_eq!(bench.path(1, 3), Some(names(&[1, 2, 3])));
    bench.leave(3);
    assert_eq!(bench.path(1, 2), Some(names(&[1, 2])), "peer-1 still names peer-2");
    assert_eq!(bench.path(1, 3), None, "nobody names peer-3 any more");
    bench.leave(1);
    assert_eq!(bench.path(1, 2), None);
}

#[test]
fn a_report_cuts_a_link_until_it_is_taken_back() {
    let mut bench = Bench::declared(&[(1, 2), (2, 3), (3, 1)]);
    bench.join(&[1, 2, 3]);
    let (one, two) = (bench.id(1), bench.id(2));
    bench.changes.clear();
    bench.report(1, 2, false).unwrap();
    bench.report(2, 1, false).unwrap();
    assert_eq!(
        bench.changes().links,
        [LinkChange { a: one, b: two, up: false }],
        "the second report changes nothing"
    );
    assert_eq!(bench.path(1, 2), Some(names(&[1, 3, 2])));
    bench.report(1, 2, true).unwrap();
    assert_eq!(bench.path(1, 2), Some(names(&[1, 3, 2])), "peer-2 still reports it down");
    bench.report(2, 1, true).unwrap();
    assert_eq!(bench.changes().links, [LinkChange { a: two, b: one, up: true }]);
    assert_eq!(bench.path(1, 2), Some(names(&[1, 2])));
}

#[test]
fn the_next_connection_of_that_end_clears_its_report() {
    let mut bench = Bench::declared(&[(1, 2)]);
    bench.join(&[1, 2]);
    bench.report(1, 2, false).unwrap();
    bench.leave(2);
    bench.join(&[2]);
    assert_eq!(bench.path(1, 2), None, "the other end's connection clears nothing");
    bench.leave(1);
    bench.join(&[1]);
    assert_eq!(bench.path(1, 2), Some(names(&[1, 2])));
}

#[test]
fn a_report_outlives_the_link_while_its_peer_is_connected() {
    let mut bench = Bench::open();
    bench.join(&[1, 2]);
    bench.announce(2, &[1]).unwrap();
    bench.report(1, 2, false).unwrap();
    bench.leave(2);
    assert_eq!(bench.room.link_count(), 0);
    bench.join(&[2]);
    bench.announce(2, &[1]).unwrap();
    assert_eq!(bench.path(1, 2), None, "peer-1 has not taken it back");
    bench.leave(2);
    bench.leave(1);
    bench.join(&[3]);
    assert_eq!(bench.room.len(), 1, "reports keep nobody alive: only peer-3 is known");
}

#[test]
fn only_links_can_be_reported() {
    let mut bench = Bench::open();
    bench.join(&[1, 2]);
    let refused = Err(RoomError::NotALink { peer: name(1), neighbor: name(2) });
    assert_eq!(bench.report(1, 2, false), refused);
    assert_eq!(bench.report(1, 9, false), Err(RoomError::NotALink { peer: name(1), neighbor: name(9) }));
}

#[test]
fn a_declared_room_refuses_other_links_whole() {
    let mut bench = Bench::declared(&[(1, 2), (2, 3)]);
    bench.join(&[1, 2, 3]);
    bench.announce(1, &[2]).unwrap();
    bench.changes.clear();
    assert_eq!(bench.announce(1, &[2, 3]), Err(RoomError::NotALink { peer: name(1), neighbor: name(3) }));
    assert_eq!(
        bench.announce(1, &[77]),
        Err(RoomError::NotALink { peer: name(1), neighbor: name(77) }),
        "an unknown name"
    );
    assert!(bench.changes().is_empty());
    assert_eq!(bench.room.len(), 3, "a refused name leaves no trace");
    assert_eq!(bench.path(1, 3), Some(names(&[1, 2, 3])));
}

#[test]
fn own_name_and_repetitions_are_ignored() {
    let mut bench = Bench::open();
    bench.join(&[1]);
    bench.announce(1, &[1, 2, 2]).unwrap();
    assert_eq!(bench.room.link_count(), 1);
    bench.announce(1, &[]).unwrap();
    assert_eq!(bench.room.link_count(), 0);
}

#[test]
fn seed_links_survive_their_peers() {
    let mut bench = Bench::declared(&[(1, 2)]);
    bench.join(&[1, 2]);
    bench.announce(1, &[2]).unwrap();
    bench.leave(1);
    assert!(bench.changes().links.is_empty(), "the link itself stays up");
    bench.join(&[1]);
    assert_eq!(bench.path(1, 2), Some(names(&[1, 2])), "without an announcement");
}

#[test]
fn a_changed_topology_replaces_the_seed_links() {
    let mut bench = Bench::declared(&[(1, 2), (2, 3)]);
    bench.join(&[1, 2, 3]);
    bench.announce(1, &[2]).unwrap();
    let (one, two, three) = (bench.id(1), bench.id(2), bench.id(3));
    bench.changes.clear();
    let links = [(name(3), name(2)), (name(1), name(3))];
    bench.room.reseed(links.iter().map(|(a, b)| (a, b)), &mut bench.changes).unwrap();
    assert_eq!(
        bench.changes().links,
        [LinkChange { a: one, b: two, up: false }, LinkChange { a: one, b: three, up: true }],
        "the announcement of a link that is no longer declared goes with it"
    );
    assert_eq!(bench.path(1, 2), Some(names(&[1, 3, 2])));
    bench.room.unseed(&name(1), &name(3), &mut bench.changes);
    assert_eq!(bench.path(1, 2), None);
}

#[test]
fn a_newer_connection_replaces_what_the_older_one_said() {
    let mut bench = Bench::open();
    bench.join(&[1, 2, 3]);
    bench.announce(1, &[2]).unwrap();
    bench.announce(3, &[1]).unwrap();
    let one = bench.id(1);
    bench.changes.clear();
    bench.join(&[1]);
    assert_eq!(bench.id(1), one);
    assert_eq!(
        bench.changes().peers,
        [PeerChange { peer: one, present: false }, PeerChange { peer: one, present: true }]
    );
    assert_eq!(bench.path(1, 2), None);
    assert_eq!(bench.path(1, 3), Some(names(&[1, 3])));
    assert_eq!(bench.room.connected(), 3);
}

#[test]
fn names_can_be_read_until_the_next_change() {
    let mut bench = Bench::open();
    bench.join(&[1]);
    bench.announce(1, &[2]).unwrap();
    let two = bench.id(2);
    bench.announce(1, &[]).unwrap();
    assert_eq!(bench.room.name(two), Some(&name(2)), "still readable for whoever reads the changes");
    bench.join(&[3]);
    assert_eq!(bench.room.id(&name(2)), None);
    assert_eq!(bench.id(3), two, "the number is used again");
}

#[test]
fn an_empty_room_keeps_nothing() {
    let mut bench = Bench::open();
    let many: Vec<u32> = (1..=300).collect();
    bench.join(&many);
    for n in 1..300 {
        bench.announce(n, &[n + 1, 300]).unwrap();
    }
    for n in many {
        bench.leave(n);
    }
    assert!(bench.room.is_empty());
    bench.join(&[1]);
    bench.leave(1);
    let one = bench.room.bytes();
    assert!(one < 2048, "{one} bytes for an empty room");
}

#[test]
fn a_route_stands_while_its_links_do() {
    let mut bench = Bench::declared(&[(1, 2), (2, 3)]);
    bench.join(&[1, 2, 3]);
    let route = [bench.id(1), bench.id(2), bench.id(3)];
    assert!(bench.room.is_path(&route));
    bench.report(3, 2, false).unwrap();
    assert!(!bench.room.is_path(&route) && bench.room.is_path(&route[..2]));
    bench.report(3, 2, true).unwrap();
    bench.leave(1);
    assert!(!bench.room.is_path(&route) && bench.room.is_path(&route[1..]));
    assert!(!bench.room.is_path(&route[..1]) && !bench.room.is_path(&[]));
}

#[test]
fn a_peer_that_is_gone_says_nothing() {
    let mut bench = Bench::declared(&[(1, 2)]);
    bench.join(&[1]);
    let one = bench.id(1);
    bench.leave(1);
    assert_eq!(bench.announce(1, &[2]), Err(RoomError::NotConnected(one.index())));
    assert_eq!(bench.report(1, 2, false), Err(RoomError::NotConnected(one.index())));
}

#[test]
fn a_way_may_be_asked_for_that_avoids_peers_and_nobody_else_is_touched_by_that() {
    let mut bench = Bench::declared(&[(1, 2), (2, 4), (1, 3), (3, 5), (5, 4)]);
    bench.join(&[1, 2, 3, 4, 5]);
    let (one, two, three, four) = (bench.id(1), bench.id(2), bench.id(3), bench.id(4));
    let mut hops = |exclude: &[NodeId], avoid: &[NodeId]| {
        let path =
            bench.room.nearest_avoiding(&mut bench.search, one, [two, four], exclude, avoid, usize::MAX);
        path.map(|path| (path.len() - 1, *path.last().unwrap()))
    };
    assert_eq!(hops(&[], &[]), Some((1, two)));
    assert_eq!(hops(&[two], &[]), Some((2, four)), "an excluded holder is a hop all the same");
    assert_eq!(hops(&[], &[two]), Some((3, four)), "an avoided one is neither");
    assert_eq!(hops(&[], &[two, three]), None);
    assert_eq!(hops(&[], &[one, two]), Some((3, four)), "who asks is there");
    assert_eq!(bench.path(1, 4), Some(names(&[1, 2, 4])), "the next question finds everybody");
    bench.leave(2);
    let path = bench.room.nearest_avoiding(&mut bench.search, one, [two, four], &[], &[two], usize::MAX);
    assert_eq!(path.map(<[_]>::len), Some(4));
    assert_eq!(bench.room.nearest(&mut bench.search, one, [two], &[]), None, "who is away stays away");
}

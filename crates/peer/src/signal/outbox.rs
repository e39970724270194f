//! What one room's server should know, what it has been told, and therefore what to say next.
//!
//! Pure. Wishes are kept as a state and not as a queue of messages, so that it is bounded, a reconnect simply says
//! everything again, and something that came and went while nobody listened is never said at all.

use std::collections::{BTreeSet, VecDeque};

use hopcast_protocol::{
    ClientMessage, ContentId, PeerName, RoomName, RouteId, Sha256,
    limits::{EXCLUDE, HELD, HOLD_BATCH, ROUTE_TABLE},
};

/// Most requests for a path that wait to be sent.
const ASKS: usize = 64;

/// The state of one room.
#[derive(Debug)]
pub struct Outbox {
    peer: PeerName,
    room: RoomName,
    neighbors: Vec<PeerName>,
    announced: bool,
    gateway: bool,
    told_gateway: bool,
    held: BTreeSet<Sha256>,
    told_held: BTreeSet<Sha256>,
    /// In a `drop` that is on its way.
    saying_dropped: Vec<Sha256>,
    down: BTreeSet<PeerName>,
    told_down: BTreeSet<PeerName>,
    /// Neighbours that left while they were told down: the server may remember it should they come back.
    left_down: BTreeSet<PeerName>,
    asks: VecDeque<ClientMessage>,
    used: BTreeSet<RouteId>,
}

impl Outbox {
    /// Nothing is told yet.
    pub fn new(peer: PeerName, room: RoomName) -> Self {
        Self {
            peer,
            room,
            neighbors: vec![],
            announced: false,
            gateway: false,
            told_gateway: false,
            held: BTreeSet::new(),
            told_held: BTreeSet::new(),
            saying_dropped: vec![],
            down: BTreeSet::new(),
            told_down: BTreeSet::new(),
            left_down: BTreeSet::new(),
            asks: VecDeque::new(),
            used: BTreeSet::new(),
        }
    }

    /// This peer's neighbours in the room.
    pub fn set_neighbors(&mut self, neighbors: Vec<PeerName>) {
        if neighbors != self.neighbors {
            self.down.retain(|peer| neighbors.contains(peer));
            self.left_down.extend(self.told_down.extract_if(.., |peer| !neighbors.contains(peer)));
            self.neighbors = neighbors;
            self.announced = false;
        }
    }

    /// Say again what the server takes from its file's peers alone: it was refused, perhaps because the server rereads the
    /// file later than this peer.
    pub fn introduce_again(&mut self) {
        self.announced = false;
        self.told_gateway = false;
    }

    /// Whether this peer can get anything.
    pub fn set_gateway(&mut self, gateway: bool) {
        self.gateway = gateway;
    }

    /// This peer holds a blob; ignored beyond the protocol's bound.
    pub fn hold(&mut self, sha256: Sha256) {
        if self.held.len() < HELD {
            self.held.insert(sha256);
        }
    }

    /// It no longer holds it.
    pub fn drop_held(&mut self, sha256: &Sha256) {
        self.held.remove(sha256);
    }

    /// Whether the server may still believe that this peer holds it.
    pub fn is_told(&self, sha256: &Sha256) -> bool {
        self.told_held.contains(sha256) || self.saying_dropped.contains(sha256)
    }

    /// The last message has left. True: it was a `drop`.
    pub fn said(&mut self) -> bool {
        let dropped = !self.saying_dropped.is_empty();
        self.saying_dropped.clear();
        dropped
    }

    /// A link does not work, or works again.
    pub fn link(&mut self, neighbor: &PeerName, up: bool) {
        if up {
            self.down.remove(neighbor);
        } else if self.neighbors.contains(neighbor) {
            self.down.insert(neighbor.clone());
        }
    }

    /// Asks for the way to the nearest holder, with `exclude` and `avoid` as in the message. False: too many are waiting.
    pub fn ask(
        &mut self,
        content: ContentId,
        mut exclude: Vec<PeerName>,
        mut avoid: Vec<PeerName>,
        id: u64,
    ) -> bool {
        if self.asks.len() >= ASKS {
            return false;
        }
        exclude.truncate(EXCLUDE);
        avoid.truncate(EXCLUDE);
        self.asks.push_back(ClientMessage::RequestPath {
            target: None,
            content: Some(content),
            exclude,
            avoid,
            id: Some(id),
        });
        true
    }

    /// A route of this peer's own was used; ignored beyond the protocol's bound.
    pub fn used(&mut self, route: RouteId) {
        if self.used.len() < ROUTE_TABLE {
            self.used.insert(route);
        }
    }

    /// The next message, which is thereby as good as said ([`Outbox::said`]). Links go before requests, so that a path asked for after a failure
    /// avoids it; `drop` goes before `hold`.
    pub fn next_message(&mut self) -> Option<ClientMessage> {
        if !self.announced {
            self.announced = true;
            return Some(ClientMessage::Announce {
                peer: self.peer.clone(),
                room: self.room.clone(),
                neighbors: self.neighbors.clone(),
            });
        }
        if let Some(peer) = self.neighbors.iter().find(|peer| self.left_down.contains(*peer)).cloned() {
            self.left_down.remove(&peer);
            return Some(ClientMessage::Link { neighbor: peer, up: true });
        }
        if let Some(peer) = self.down.difference(&self.told_down).next().cloned() {
            self.told_down.insert(peer.clone());
            return Some(ClientMessage::Link { neighbor: peer, up: false });
        }
        if let Some(peer) = self.told_down.difference(&self.down).next().cloned() {
            self.told_down.remove(&peer);
            return Some(ClientMessage::Link { neighbor: peer, up: true });
        }
        if self.gateway != self.told_gateway {
            self.told_gateway = self.gateway;
            return Some(if self.gateway {
                ClientMessage::Hold { contents: vec![], all: true }
            } else {
                ClientMessage::Drop { contents: vec![], all: true }
            });
        }
        let batch: Vec<_> = self.told_held.difference(&self.held).take(HOLD_BATCH).copied().collect();
        if !batch.is_empty() {
            for sha256 in &batch {
                self.told_held.remove(sha256);
            }
            self.saying_dropped.clone_from(&batch);
            return Some(ClientMessage::Drop { contents: blobs(batch), all: false });
        }
        let batch: Vec<_> = self.held.difference(&self.told_held).take(HOLD_BATCH).copied().collect();
        if !batch.is_empty() {
            self.told_held.extend(&batch);
            return Some(ClientMessage::Hold { contents: blobs(batch), all: false });
        }
        if let Some(ask) = self.asks.pop_front() {
            return Some(ask);
        }
        let routes: Vec<_> = std::mem::take(&mut self.used).into_iter().collect();
        (!routes.is_empty()).then_some(ClientMessage::Use { routes })
    }

    /// The connection is gone, and with it all that the server was told. Whoever asked has to ask again.
    pub fn disconnected(&mut self) {
        self.announced = false;
        self.told_gateway = false;
        self.told_held.clear();
        self.saying_dropped.clear();
        self.told_down.clear();
        self.left_down.clear();
        self.asks.clear();
        self.used.clear();
    }
}

fn blobs(batch: Vec<Sha256>) -> Vec<ContentId> {
    batch.into_iter().map(ContentId::Blob).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerName {
        PeerName::new(name).unwrap()
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new(peer("peer-1"), RoomName::new("rock").unwrap());
        outbox.set_neighbors(vec![peer("peer-2"), peer("peer-5")]);
        outbox
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.next_message())
            .map(|message| serde_json::to_string(&message).unwrap())
            .collect()
    }

    #[test]
    fn everything_is_said_once_and_again_after_a_reconnect() {
        let mut outbox = outbox();
        outbox.set_gateway(true);
        outbox.hold(Sha256([1; 32]));
        outbox.link(&peer("peer-5"), false);
        let announce = r#"{"type":"announce","peer":"peer-1","room":"rock","neighbors":["peer-2","peer-5"]}"#;
        let all = [
            announce.to_owned(),
            r#"{"type":"link","neighbor":"peer-5","up":false}"#.to_owned(),
            r#"{"type":"hold","all":true}"#.to_owned(),
            format!(r#"{{"type":"hold","contents":["sha256:{}"]}}"#, "01".repeat(32)),
        ];
        assert_eq!(drain(&mut outbox), all);
        assert!(drain(&mut outbox).is_empty());
        outbox.disconnected();
        assert_eq!(drain(&mut outbox), all);
    }

    #[test]
    fn what_was_refused_is_said_again() {
        let mut outbox = outbox();
        outbox.hold(Sha256([1; 32]));
        outbox.set_gateway(true);
        drain(&mut outbox);
        outbox.introduce_again();
        let announce = r#"{"type":"announce","peer":"peer-1","room":"rock","neighbors":["peer-2","peer-5"]}"#;
        assert_eq!(drain(&mut outbox), [announce, r#"{"type":"hold","all":true}"#]);
        outbox.set_gateway(false);
        drain(&mut outbox);
        outbox.introduce_again();
        assert_eq!(drain(&mut outbox), [announce]);
    }

    #[test]
    fn what_came_and_went_is_not_said() {
        let mut outbox = outbox();
        drain(&mut outbox);
        outbox.hold(Sha256([1; 32]));
        outbox.drop_held(&Sha256([1; 32]));
        outbox.link(&peer("peer-2"), false);
        outbox.link(&peer("peer-2"), true);
        outbox.link(&peer("peer-9"), false);
        assert!(drain(&mut outbox).is_empty());
    }

    #[test]
    fn drops_go_first_and_links_before_requests() {
        let mut outbox = outbox();
        outbox.hold(Sha256([1; 32]));
        drain(&mut outbox);
        assert!(outbox.ask(ContentId::Blob(Sha256([3; 32])), vec![peer("peer-4")], vec![], 7));
        outbox.hold(Sha256([2; 32]));
        outbox.drop_held(&Sha256([1; 32]));
        outbox.link(&peer("peer-2"), false);
        let kinds: Vec<_> =
            drain(&mut outbox).iter().map(|text| text.split('"').nth(3).unwrap().to_owned()).collect();
        assert_eq!(kinds, ["link", "drop", "hold", "request_path"]);
    }

    #[test]
    fn uses_go_in_one_message_and_not_over_a_later_connection() {
        let mut outbox = outbox();
        drain(&mut outbox);
        for route in ["e-2", "e-1", "e-2"] {
            outbox.used(RouteId::new(route).unwrap());
        }
        assert_eq!(drain(&mut outbox), [r#"{"type":"use","routes":["e-1","e-2"]}"#]);
        outbox.used(RouteId::new("e-3").unwrap());
        outbox.disconnected();
        assert_eq!(drain(&mut outbox).iter().filter(|text| text.contains("use")).count(), 0);
        for number in 0..1000 {
            outbox.used(RouteId::new(format!("e-{number}")).unwrap());
        }
        let Some(ClientMessage::Use { routes }) = outbox.next_message() else { panic!() };
        assert_eq!(routes.len(), ROUTE_TABLE);
    }

    #[test]
    fn a_drop_is_said_when_it_has_left() {
        let (mut outbox, blob) = (outbox(), Sha256([1; 32]));
        drain(&mut outbox);
        outbox.hold(blob);
        assert!(!outbox.is_told(&blob));
        drain(&mut outbox);
        assert!(outbox.is_told(&blob) && !outbox.said());
        outbox.drop_held(&blob);
        assert!(outbox.is_told(&blob));
        drain(&mut outbox);
        assert!(outbox.is_told(&blob), "it is on its way");
        assert!(outbox.said() && !outbox.is_told(&blob));
        outbox.hold(blob);
        drain(&mut outbox);
        outbox.drop_held(&blob);
        outbox.disconnected();
        assert!(!outbox.is_told(&blob), "a server that is away believes nothing");
    }

    #[test]
    fn batches_and_queues_are_bounded() {
        let mut outbox = outbox();
        for number in 0..20_000u32 {
            let mut sha256 = [0; 32];
            sha256[..4].copy_from_slice(&number.to_be_bytes());
            outbox.hold(Sha256(sha256));
        }
        assert_eq!(drain(&mut outbox).len(), 1 + HELD / HOLD_BATCH);
        let asked = (0..1000)
            .filter(|&id| {
                let many = vec![peer("x"); 100];
                outbox.ask(ContentId::Blob(Sha256([0; 32])), many.clone(), many, id)
            })
            .count();
        assert_eq!(asked, ASKS);
        let Some(ClientMessage::RequestPath { exclude, avoid, .. }) = outbox.next_message() else { panic!() };
        assert_eq!((exclude.len(), avoid.len()), (EXCLUDE, EXCLUDE));
        outbox.disconnected();
        assert_eq!(drain(&mut outbox).iter().filter(|text| text.contains("request_path")).count(), 0);
    }

    #[test]
    fn a_neighbour_that_left_is_no_longer_down_nor_when_it_comes_back() {
        let mut outbox = outbox();
        outbox.link(&peer("peer-5"), false);
        drain(&mut outbox);
        outbox.set_neighbors(vec![peer("peer-2")]);
        assert_eq!(
            drain(&mut outbox),
            [r#"{"type":"announce","peer":"peer-1","room":"rock","neighbors":["peer-2"]}"#]
        );
        outbox.set_neighbors(vec![peer("peer-2"), peer("peer-5")]);
        let came_back = drain(&mut outbox);
        let up = r#"{"type":"link","neighbor":"peer-5","up":true}"#;
        let down = r#"{"type":"link","neighbor":"peer-5","up":false}"#;
        assert_eq!(came_back[1..], [up]);
        assert!(drain(&mut outbox).is_empty());
        // Also where it fails again before anything is said.
        outbox.link(&peer("peer-5"), false);
        drain(&mut outbox);
        outbox.set_neighbors(vec![peer("peer-2")]);
        outbox.set_neighbors(vec![peer("peer-2"), peer("peer-5")]);
        outbox.link(&peer("peer-5"), false);
        assert_eq!(drain(&mut outbox)[1..], [up, down]);
    }
}

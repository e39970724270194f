//! Requests whose path was lost and is to be found anew, without anybody asking.
//!
//! ```text
//!   a link or peer goes ──▶ its routes are ended and told at once ──▶ Lost: one entry for each (connection, quest)
//!                                                                        │  at most WORK at a time, MEND_EVERY apart
//!                                           path, or error, to its peers ◀── mend
//! ```
//!
//! A first loss is mended in the call that brought it; those that follow at once wait together, so that a path is not
//! computed over a peer that is about to go as well. While more keeps being lost, the pause after a round is [`REST`] times what
//! the round cost: in a storm nearly every new path is lost again at once, so that mending may take a small share of a processor
//! only (the idea of the link-state protocols' back-off, RFC 8405, with the measured cost in place of fixed delays). When
//! nothing more is lost, rounds follow at [`MEND_EVERY`]. Who asks again by itself is taken out.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use hopcast_protocol::{ContentId, PeerName, RouteId};

use super::output::ConnectionId;

/// A room mends this often at most.
pub const MEND_EVERY: Duration = Duration::from_millis(20);
/// What one round of mending may cost, in units of [`UNIT`]: some ten milliseconds.
pub(super) const WORK: usize = 400_000;
/// What it costs to look at one peer in a search.
const UNIT: Duration = Duration::from_nanos(25);
/// What a path costs beside the peers that its search looks at. A round so has 1,600 at most, and fits into every queue.
pub(super) const SEARCH: usize = 256;
/// What a frame to one peer costs, its way through the socket included.
pub(super) const FRAME: usize = 256;
/// While more is being lost, the pause after a round, in multiples of what it cost.
const REST: u32 = 16;
/// Most requests that wait. Beyond that a requester hears of the end of its route only, and asks by itself.
const MOST: usize = 1 << 14;

/// What a path was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Quest {
    /// A peer.
    Peer(PeerName),
    /// The nearest holder that is not excluded, over a way that touches nobody who is to be avoided.
    Content { content: ContentId, exclude: Vec<PeerName>, avoid: Vec<PeerName> },
}

impl Quest {
    /// Names that it keeps beyond one.
    pub(super) fn names(&self) -> usize {
        match self {
            Self::Peer(_) => 0,
            Self::Content { exclude, avoid, .. } => exclude.len() + avoid.len(),
        }
    }

    /// The content, if it was asked for one.
    pub(super) fn content(&self) -> Option<&ContentId> {
        match self {
            Self::Peer(_) => None,
            Self::Content { content, .. } => Some(content),
        }
    }
}

/// Who asked for what.
pub(super) type Key = (ConnectionId, Quest);

/// The route that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Former {
    /// Its id, if anybody knows it.
    pub(super) route: Option<RouteId>,
    /// When it was last used.
    pub(super) used: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lost {
    waiting: HashMap<Key, Former>,
    /// In this order; some are no longer waiting.
    order: VecDeque<Key>,
    mended: Option<Duration>,
    /// What the last round cost.
    cost: Duration,
    /// Something was lost since it began.
    fresh: bool,
}

impl Lost {
    /// A path was lost. What is waiting already keeps its place.
    pub(super) fn push(&mut self, key: Key, former: Former) {
        if self.order.len() >= MOST && !self.waiting.contains_key(&key) {
            return;
        }
        self.fresh = true;
        if self.waiting.insert(key.clone(), former).is_none() {
            self.order.push_back(key);
        }
    }

    /// It was asked for anew.
    pub(super) fn remove(&mut self, key: &Key) {
        if self.waiting.remove(key).is_some() && self.waiting.is_empty() {
            self.order.clear();
        }
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<(Key, Former)> {
        loop {
            let key = self.order.pop_front()?;
            if let Some(former) = self.waiting.remove(&key) {
                return Some((key, former));
            }
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long to wait before the next round; zero begins one.
    pub(super) fn begin(&mut self, now: Duration) -> Duration {
        let pause = if self.fresh { MEND_EVERY.max(self.cost * REST) } else { MEND_EVERY };
        let wait = self.mended.map_or(Duration::ZERO, |last| (last + pause).saturating_sub(now));
        if wait.is_zero() {
            self.mended = Some(now);
            self.fresh = false;
        }
        wait
    }

    /// The round that was begun has cost so many units.
    pub(super) fn end(&mut self, work: usize) {
        self.cost = UNIT * u32::try_from(work).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(connection: u64, target: &str) -> Key {
        (ConnectionId(connection), Quest::Peer(target.parse().unwrap()))
    }

    fn former(route: &str) -> Former {
        Former { route: Some(RouteId::new(route).unwrap()), used: Duration::ZERO }
    }

    #[test]
    fn what_is_lost_twice_or_asked_for_again_is_computed_once() {
        let mut lost = Lost::default();
        lost.push(key(1, "a"), former("e-1"));
        lost.push(key(2, "a"), former("e-2"));
        lost.push(key(1, "a"), former("e-3"));
        lost.push(key(3, "a"), former("e-4"));
        lost.remove(&key(2, "a"));
        lost.remove(&key(9, "a"));
        assert_eq!(lost.pop(), Some((key(1, "a"), former("e-3"))));
        assert_eq!(lost.pop(), Some((key(3, "a"), former("e-4"))));
        assert!(lost.is_empty() && lost.pop().is_none());
        lost.push(key(1, "a"), former("e-5"));
        lost.remove(&key(1, "a"));
        assert!(lost.is_empty() && lost.order.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_rounds_are_apart() {
        let mut lost = Lost::default();
        for connection in 0..MOST as u64 + 10 {
            lost.push(key(connection, "a"), former("e-1"));
        }
        assert_eq!((lost.waiting.len(), lost.order.len()), (MOST, MOST));
        let now = Duration::from_secs(7);
        assert_eq!(lost.begin(now), Duration::ZERO);
        assert_eq!(lost.begin(now), MEND_EVERY);
        assert_eq!(lost.begin(now + MEND_EVERY), Duration::ZERO);
    }

    #[test]
    fn while_more_is_lost_the_pause_grows_with_what_a_round_cost() {
        let mut lost = Lost::default();
        let mut now = Duration::from_secs(7);
        lost.push(key(1, "a"), former("e-1"));
        assert_eq!(lost.begin(now), Duration::ZERO, "the first does not wait");
        lost.end(WORK);
        let cost = UNIT * WORK as u32;
        assert_eq!(lost.begin(now), MEND_EVERY, "what is left over is gone on with");
        lost.push(key(2, "a"), former("e-2"));
        assert_eq!(lost.begin(now), cost * REST);
        now += cost * REST;
        assert_eq!(lost.begin(now), Duration::ZERO);
        lost.end(1);
        lost.push(key(3, "a"), former("e-3"));
        assert_eq!(lost.begin(now), MEND_EVERY, "a cheap round needs no longer pause");
    }
}

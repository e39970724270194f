//! Requests whose path was lost and is to be found anew, without anybody asking.
//!
//! ```text
//!   a link or peer goes ──▶ its routes are ended and told at once ──▶ Lost: one entry for each (connection, quest)
//!                                                                        │  at most WORK at a time, MEND_EVERY apart
//!                                           path, or error, to its peers ◀── mend
//! ```
//!
//! A first loss is mended in the call that brought it; those that follow at once wait together, so that a path is not
//! computed over a peer that is about to go as well: when 10,000 peers leave together, each request of those that stay
//! is computed a few times, not once for each that left. Who asks again by itself is taken out.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use hopcast_protocol::{ContentId, PeerName, RouteId};

use super::output::ConnectionId;

/// A room mends this often at most.
pub const MEND_EVERY: Duration = Duration::from_millis(20);
/// What one round of mending may cost: peers looked at, and [`SEARCH`] for each path on top. Some milliseconds.
pub(super) const WORK: usize = 100_000;
/// What a path costs beside the peers that its search looks at. So a round has 400 at most, and fits into every queue.
pub(super) const SEARCH: usize = 256;
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
}

impl Lost {
    /// A path was lost. What is waiting already keeps its place.
    pub(super) fn push(&mut self, key: Key, former: Former) {
        if self.order.len() >= MOST && !self.waiting.contains_key(&key) {
            return;
        }
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
        let wait = self.mended.map_or(Duration::ZERO, |last| (last + MEND_EVERY).saturating_sub(now));
        if wait.is_zero() {
            self.mended = Some(now);
        }
        wait
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
}

//! Routes that have ended and whose peers are yet to be told, because there are many.
//!
//! When many peers leave at once (a host goes down, a network is cut), nearly every route ends with the first of them, and
//! nearly everyone who would be told is about to leave as well. So telling waits [`REST`] times as long as it will cost: in such
//! a storm most of those who would have to be told are gone by then. What costs no more than [`AT_ONCE`] is told in the call that
//! ended it. A peer that still uses a route meanwhile meets a neighbour that is gone, as it does in the moment before any
//! message comes.
//!
//! Routes hold numbers, and the number of a peer that has left may be another's by then: that one is told of a route that it does
//! not know, and ignores it.

use std::{time::Duration, vec};

use super::routes::{HOPS, Route};

/// So many messages are sent at once, a few milliseconds' worth.
const AT_ONCE: usize = 1 << 14;
/// What a message costs, its way through the socket included.
const MESSAGE: Duration = Duration::from_nanos(150);
/// So many messages do not wait: what a room's routes are together.
const MOST: usize = HOPS;
/// How long telling waits, in multiples of what it costs.
const REST: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Untold {
    routes: Vec<Route>,
    messages: usize,
    since: Option<Duration>,
}

impl Untold {
    /// Takes over what has ended, unless it is to be told at once: then nothing is taken. What nobody was told of is dropped.
    pub(super) fn take(&mut self, gone: &mut Vec<Route>) -> bool {
        let more: usize = gone.iter().filter(|route| route.told).map(|route| route.path.len()).sum();
        if self.routes.is_empty() && more <= AT_ONCE {
            return false;
        }
        self.messages += more;
        self.routes.extend(gone.drain(..).filter(|route| route.told));
        true
    }

    /// How long to wait until they are to be told, zero if it is time; `None` where there are none.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        if self.routes.is_empty() {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        // What waits is bounded, and so is how long.
        let wait = if self.messages > MOST { Duration::ZERO } else { MESSAGE * REST * self.messages as u32 };
        Some((since + wait).saturating_sub(now))
    }

    /// All of them.
    pub(super) fn drain(&mut self) -> vec::IntoIter<Route> {
        (self.messages, self.since) = (0, None);
        std::mem::take(&mut self.routes).into_iter()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::routes::{Asked, Epoch, Routes},
        *,
    };
    use hopcast_routing::NodeId;

    use crate::core::lost::Quest;

    /// Routes over so many peers each.
    fn ended(routes: usize, peers: usize) -> Vec<Route> {
        ended_of(routes, peers, true)
    }

    fn ended_of(routes: usize, peers: usize, told: bool) -> Vec<Route> {
        let (mut table, epoch, mut ended) = (Routes::default(), Epoch::new("e"), Vec::new());
        for first in 0..routes {
            let path: Vec<_> = (first..first + peers).filter_map(NodeId::from_index).collect();
            let quest = Quest::Peer("x".parse().unwrap());
            let asked = Asked { quest, used: Duration::ZERO, told, lasting: false };
            table.along(&path, asked, &epoch, &mut ended);
        }
        for number in 1..=routes as u64 {
            ended.extend(table.remove(number));
        }
        ended
    }

    #[test]
    fn a_few_are_told_at_once_and_many_after_as_long_as_it_takes_twice() {
        let mut untold = Untold::default();
        let (mut few, mut many) = (ended(10, 10), ended(200, 100));
        assert!(!untold.take(&mut few));
        assert_eq!((few.len(), untold.wait(Duration::ZERO)), (10, None));
        assert!(untold.take(&mut many) && many.is_empty());
        let now = Duration::from_secs(7);
        assert_eq!(untold.wait(now), Some(Duration::from_millis(6)), "20,000 messages");
        assert!(untold.take(&mut few), "behind those");
        assert_eq!(untold.wait(now + Duration::from_secs(1)), Some(Duration::ZERO));
        assert_eq!(untold.drain().count(), 210);
        assert!(untold.is_empty() && untold.wait(now).is_none());
    }

    #[test]
    fn what_nobody_was_told_of_does_not_wait() {
        let mut untold = Untold::default();
        assert!(untold.take(&mut ended(200, 100)));
        let mut unknown = ended_of(300, 100, false);
        assert!(untold.take(&mut unknown) && unknown.is_empty());
        assert_eq!(untold.drain().count(), 200);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut untold = Untold::default();
        while untold.messages <= MOST {
            assert_ne!(untold.wait(Duration::ZERO), Some(Duration::ZERO));
            untold.take(&mut ended(1000, 1000));
        }
        assert_eq!(untold.wait(Duration::ZERO), Some(Duration::ZERO));
    }
}

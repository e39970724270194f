//! What all checks of one run share: the target, what is dead, and how requests are bounded.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hopcast_protocol::PeerName;
use hopcast_topology::plan::Peer;
use tokio::time::{Instant, timeout_at};

use crate::{
    error::VerifyError,
    graph::RoomGraph,
    http::Client,
    options::{OnProgress, Options, Progress},
    place::Place,
    report::{Check, Tally},
    target::{PeerTarget, ProcessRole, Separation, Target},
};

/// Longest wait for a short answer of a peer or the server.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// Pause between two looks at a state that may still change.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Context<'a> {
    pub(crate) target: &'a Target,
    pub(crate) options: &'a Options,
    progress: &'a OnProgress<'a>,
    planned: HashMap<&'a str, &'a Peer>,
    running: HashMap<&'a str, &'a PeerTarget>,
    /// Found by the check `peers`, which reports them; every later check does without them.
    pub(crate) dead: HashSet<PeerName>,
    /// Why the signalling server can't be asked. Found by the check `peers`, too: one failure, however many questions.
    pub(crate) mute: Option<String>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        target: &'a Target,
        options: &'a Options,
        progress: &'a OnProgress<'a>,
    ) -> Result<Self, VerifyError> {
        let planned: HashMap<&str, &Peer> =
            target.plan.peers.iter().map(|peer| (peer.name.as_str(), peer)).collect();
        let mut running = HashMap::with_capacity(target.peers.len());
        for peer in &target.peers {
            if !planned.contains_key(peer.name.as_str()) {
                return Err(VerifyError::Target(format!("the plan has no {}", peer.name)));
            }
            if running.insert(peer.name.as_str(), peer).is_some() {
                return Err(VerifyError::Target(format!("{} is there twice", peer.name)));
            }
        }
        Ok(Self { target, options, progress, planned, running, dead: HashSet::new(), mute: None })
    }

    /// The peer as the plan has it.
    pub(crate) fn planned(&self, peer: &str) -> Option<&'a Peer> {
        self.planned.get(peer).copied()
    }

    /// The peer as it runs, dead or alive.
    pub(crate) fn running(&self, peer: &str) -> Option<&'a PeerTarget> {
        self.running.get(peer).copied()
    }

    /// True if the plan links the two.
    pub(crate) fn linked(&self, a: &str, b: &str) -> bool {
        self.planned(a).is_some_and(|peer| peer.neighbors.iter().any(|neighbor| neighbor.as_str() == b))
    }

    /// The peers that live, in the order of their numbers.
    pub(crate) fn living(&self) -> Vec<&'a PeerTarget> {
        let living = self.target.plan.peers.iter().filter(|peer| !self.dead.contains(&peer.name));
        living.filter_map(|peer| self.running(peer.name.as_str())).collect()
    }

    /// Where a living peer listens.
    pub(crate) fn endpoint(&self, peer: &str) -> Option<SocketAddr> {
        if self.dead.contains(peer) { None } else { self.running(peer).map(|peer| peer.endpoint) }
    }

    /// From where the peer dials: what comes from there looks to everybody as if it came from the peer. `None` where that
    /// place is gone with the peer's process.
    pub(crate) fn place(&self, peer: &PeerTarget) -> Option<Place> {
        match self.target.separation {
            Separation::Addresses => Some(Place::Address(peer.endpoint.ip())),
            Separation::Namespaces => peer.pid.map(Place::Inside),
            Separation::Hosts => Some(Place::Here),
        }
    }

    /// Whether peers can be told apart by their addresses, and looked at from here.
    pub(crate) fn sees_processes(&self) -> bool {
        self.target.separation != Separation::Hosts
    }

    /// A client of a peer that comes as a player does: where everything has a network of its own, from the door's, which every
    /// peer's machine knows already. From here each peer would be one more neighbour to this kernel, whose table of them is
    /// bounded for all namespaces together (arp(7), `gc_thresh3`) and nearly full with 160 peers of four links.
    pub(crate) fn player(&self, peer: &PeerTarget) -> Client {
        let mut processes = self.target.processes.iter();
        let door = match self.target.separation {
            Separation::Addresses | Separation::Hosts => None,
            Separation::Namespaces => processes.find(|process| process.role == ProcessRole::Signalling),
        };
        Client::from(peer.endpoint, door.map_or(Place::Here, |process| Place::Inside(process.pid)))
    }

    /// The plan's rooms without the dead.
    pub(crate) fn rooms(&self) -> Vec<RoomGraph> {
        let plan = &self.target.plan;
        plan.rooms.iter().map(|room| RoomGraph::new(plan, room, &self.dead)).collect()
    }

    /// When a check that starts now must be over.
    pub(crate) fn deadline(&self) -> Instant {
        let peers = u32::try_from(self.target.plan.peers.len()).unwrap_or(u32::MAX);
        Instant::now() + self.options.check_deadline + self.options.per_peer.saturating_mul(peers)
    }

    /// Between two looks at a state that may still change; whoever looks has a deadline.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
    }

    /// Tells how far a check is.
    pub(crate) fn progress(&self, check: &'static str, done: u64, total: u64) {
        (self.progress)(Progress { check, done, total });
    }

    /// [`Context::each_of`] with [`Options::concurrency`].
    pub(crate) async fn each<I, T, F>(
        &self,
        check: &'static str,
        tally: &mut Tally,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(I) -> F,
        take: impl FnMut(&mut Tally, T),
    ) where
        F: Future<Output = T>,
    {
        self.each_of(self.options.concurrency, check, tally, items, work, take).await;
    }

    /// Runs `work` on every item, at most `at_a_time`, within the check's deadline; what did not
    /// finish is a failure in the tally.
    pub(crate) async fn each_of<I, T, F>(
        &self,
        at_a_time: usize,
        check: &'static str,
        tally: &mut Tally,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(I) -> F,
        mut take: impl FnMut(&mut Tally, T),
    ) where
        F: Future<Output = T>,
    {
        let items: Vec<I> = items.into_iter().collect();
        let (total, deadline) = (items.len() as u64, self.deadline());
        let mut results = stream::iter(items).map(work).buffer_unordered(at_a_time.max(1));
        self.progress(check, 0, total);
        let mut done = 0;
        loop {
            match timeout_at(deadline, results.next()).await {
                Ok(Some(result)) => take(tally, result),
                Ok(None) => break,
                Err(_) => {
                    tally.fail(format!("stopped at its deadline after {done} of {total}"));
                    break;
                }
            }
            done += 1;
            self.progress(check, done, total);
        }
    }
}

/// A check's name and claim, and the clock of its report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) name: &'static str,
    claim: &'static str,
    began: Instant,
    before: Duration,
}

impl Clock {
    pub(crate) fn start(name: &'static str, claim: &'static str) -> Self {
        Self { name, claim, began: Instant::now(), before: Duration::ZERO }
    }

    /// Stands still from here to [`Clock::resume`], for a check in two parts.
    pub(crate) fn pause(&mut self) {
        self.before += self.began.elapsed();
    }

    /// See [`Clock::pause`].
    pub(crate) fn resume(&mut self) {
        self.began = Instant::now();
    }

    pub(crate) fn finish(self, tally: Tally) -> Check {
        tally.finish(self.name, self.claim, (self.before + self.began.elapsed()).as_secs_f64())
    }
}

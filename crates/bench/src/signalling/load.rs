//! The load side: as many clients as a room has peers, one thread, next to no memory. It reads no more of a frame than tells
//! whose it is.
//!
//! A request is done when every peer on its path has its frame. Each requester has one request under way at a time.
//!
//! With a rate each request has a time when it is due, whatever became of those before, and its latency counts from then. What
//! falls due while all requesters wait is sent by the next that has its answer: a server that stalls would otherwise be asked
//! less while it does, and would look better than who asks finds it (coordinated omission).

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use crate::{
    random::Random,
    socket::{frame, open, parse, upgrade},
};

/// Connections that are being opened at a time: fewer than the kernel keeps waiting for a listener (1024).
const OPENING: usize = 512;
/// Nothing comes for so long: given up.
const STALL: Duration = Duration::from_secs(60);

/// Which server, and in which way it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Speech {
    /// `hopcast.1`: the compact form.
    Compact,
    /// The original's: everybody gets the whole path.
    Original,
    /// The floor's, with the sizes that the real server's frames had.
    Floor(Sizes),
}

/// Of the payloads of a path's frames.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sizes {
    /// At a hop and at the target, in bytes.
    pub hop: f64,
    /// At the requester, in bytes for each peer on the path.
    pub requester_per_peer: f64,
    /// Whether a hop's frame has the whole path, too: then `hop` is for each peer on it.
    pub whole: bool,
}

/// Hops between two peers of a ring with links to the next and the fourth next.
pub(crate) fn hops(peers: usize, from: usize, to: usize) -> usize {
    let ahead = (to + peers - from) % peers;
    // Three ahead is four ahead and one back.
    let along = |distance: usize| distance / 4 + [0, 1, 2, 2][distance % 4];
    along(ahead).min(along(peers - ahead))
}

#[derive(Debug, Default)]
struct Route {
    got: usize,
    /// Who asked, and how many frames there will be.
    owner: Option<(usize, usize)>,
}

#[derive(Debug, Default, Clone)]
struct Requester {
    /// When the request under way was due, and how many frames it will have.
    begun: Option<(Instant, usize)>,
}

#[derive(Debug, Default)]
struct State {
    routes: HashMap<Vec<u8>, Route>,
    requesters: HashMap<usize, Requester>,
    answered: Vec<Answered>,
    open: usize,
    failure: Option<String>,
    hop: (usize, usize),
    requester: (usize, usize),
    random: Option<Random>,
    sequence: usize,
    /// Of the paths of `requester`: peers.
    path_peers: usize,
}

/// All clients of a room.
pub(super) struct Load {
    speech: Speech,
    peers: usize,
    streams: Vec<Rc<TcpStream>>,
    state: Rc<RefCell<State>>,
    done: Arc<Notify>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// A request that is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// When it should have gone out; without a rate: when it did.
    pub due: Instant,
    /// Since then.
    pub milliseconds: f64,
}

/// What a block of requests took.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub answered: Vec<Answered>,
    pub seconds: f64,
}

impl Asked {
    pub(super) fn milliseconds(&self) -> Vec<f64> {
        self.answered.iter().map(|one| one.milliseconds).collect()
    }
}

/// The times when requests are due: the first at once, then so many a second.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    begin: Instant,
    rate: f64,
}

impl Schedule {
    fn due(self, number: usize) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many are due in the seconds since its begin.
    fn count(self, seconds: f64) -> usize {
        (seconds * self.rate) as usize + 1
    }

    /// Notifies whenever one is due, as long as what is returned is kept. In a thread of its own: tokio's timer has whole
    /// milliseconds, as long as a path takes.
    fn ring(self, done: Arc<Notify>) -> Arc<()> {
        let kept = Arc::new(());
        let alive = Arc::downgrade(&kept);
        thread::spawn(move || {
            let mut number = 1;
            while alive.strong_count() > 0 {
                thread::sleep(self.due(number).saturating_duration_since(Instant::now()));
                done.notify_one();
                number += 1;
            }
        });
        kept
    }
}

/// Opens all connections and announces everybody's links, as fast as the server takes them.
pub(super) async fn enter(server: SocketAddr, room: &str, peers: usize, speech: Speech) -> Result<Load> {
    let mut opened: Vec<_> = stream::iter((0..peers).map(|peer| async move {
        let text = upgrade(&server.to_string(), &format!("peer-{peer}"), room, speech != Speech::Original);
        let (stream, early) = timeout(STALL, open(server, &text)).await.map_err(|_| unanswered())??;
        let links = [(peer + 1) % peers, (peer + 4) % peers].map(|next| format!("\"peer-{next}\"")).join(",");
        let announce =
            format!(r#"{{"type":"announce","peer":"peer-{peer}","room":"{room}","neighbors":[{links}]}}"#);
        send(&stream, announce.as_bytes())?;
        anyhow::Ok((peer, stream, early))
    }))
    .buffer_unordered(OPENING)
    .collect::<Vec<_>>()
    .await
    .into_iter()
    .collect::<Result<_>>()?;
    opened.sort_by_key(|(peer, ..)| *peer);
    let state =
        Rc::new(RefCell::new(State { open: peers, random: Some(Random::new(17)), ..State::default() }));
    let done = Arc::new(Notify::new());
    let mut load = Load { speech, peers, streams: Vec::new(), state, done, readers: Vec::new() };
    for (peer, stream, early) in opened {
        let stream = Rc::new(stream);
        load.streams.push(stream.clone());
        let (state, done) = (load.state.clone(), load.done.clone());
        let me = if speech == Speech::Original { format!("peer-{peer}\"") } else { String::new() };
        load.readers.push(tokio::task::spawn_local(async move {
            if let Err(error) = read(&stream, early, speech, peer, &me, &state, &done).await {
                state.borrow_mut().failure.get_or_insert(format!("peer-{peer}: {error:#}"));
            }
            state.borrow_mut().open -= 1;
            done.notify_one();
        }));
    }
    Ok(load)
}

/// A connection that is not opened in time. A common cause is named where it is seen: a table of tracked connections that is
/// full, so that the kernel drops new ones (`nf_conntrack` in the kernel's networking documentation).
fn unanswered() -> anyhow::Error {
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    match (read("count"), read("max")) {
        (Some(count), Some(max)) if count > max / 2 => anyhow!(
            "no answer in time; this machine tracks {count} connections and {max} at the most (nf_conntrack), \
             closed ones for two minutes: try again later"
        ),
        _ => anyhow!("no answer in time"),
    }
}

/// A short message: the socket's buffer always takes it.
fn send(stream: &TcpStream, text: &[u8]) -> Result<()> {
    let wire = frame(text);
    let written = stream.try_write(&wire).context("the server takes no message")?;
    ensure!(written == wire.len(), "the server does not read");
    Ok(())
}

thread_local! {
    /// One for all connections: what is in it is looked at before anybody else reads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

async fn read(
    stream: &TcpStream,
    mut rest: Vec<u8>,
    speech: Speech,
    peer: usize,
    me: &str,
    state: &RefCell<State>,
    done: &Notify,
) -> Result<()> {
    loop {
        stream.readable().await?;
        let more = BUFFER.with_borrow_mut(|buffer| -> Result<bool> {
            // What is left of an unfinished frame goes in front.
            let kept = rest.len();
            if buffer.len() < kept + (64 << 10) {
                buffer.resize(kept + (64 << 10), 0);
            }
            buffer[..kept].copy_from_slice(&rest);
            let count = match stream.try_read(&mut buffer[kept..]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(anyhow!(error).context("the server sends nothing more")),
            };
            let filled = &buffer[..kept + count];
            let mut at = 0;
            while let Some((opcode, begin, end)) = parse(&filled[at..]) {
                let payload = &filled[at + begin..at + end];
                match opcode {
                    9 => {
                        // A pong with the same payload: the server's pings have none.
                        stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0])?;
                    }
                    8 => bail!("the server closed: {}", String::from_utf8_lossy(payload)),
                    _ => {
                        state.borrow_mut().came(payload, speech, peer, me)?;
                        done.notify_one();
                    }
                }
                at += end;
            }
            rest.clear();
            rest.extend_from_slice(&filled[at..]);
            Ok(count > 0)
        })?;
        if !more {
            return Ok(());
        }
    }
}

/// The text between a prefix, which comes early, and the next quotation mark.
fn after<'a>(payload: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let begin = payload.windows(prefix.len()).position(|window| window == prefix)? + prefix.len();
    let len = payload[begin..].iter().position(|&byte| byte == b'"')?;
    Some(&payload[begin..begin + len])
}

impl State {
    /// A frame has come to `peer`.
    fn came(&mut self, payload: &[u8], speech: Speech, peer: usize, me: &str) -> Result<()> {
        let key = match speech {
            Speech::Original => payload.strip_prefix(br#"{"type":"path","path":[""#).map(|rest| {
                let end = rest.iter().position(|&byte| byte == b'"').unwrap_or(rest.len());
                &rest[..end]
            }),
            _ => after(payload, br#""route":""#),
        };
        let key = key.filter(|_| payload.starts_with(br#"{"type":"path""#));
        let Some(key) = key else {
            // Routes end as they fall out of a requester's table; that is none of the load's business.
            if payload.starts_with(br#"{"type":"route_down""#) {
                return Ok(());
            }
            bail!("unexpected: {}", String::from_utf8_lossy(&payload[..payload.len().min(300)]));
        };
        let mine = match speech {
            Speech::Original => key == &me.as_bytes()[..me.len() - 1],
            _ => payload.windows(8).any(|window| window == br#""path":["#),
        };
        if !self.routes.contains_key(key) {
            self.routes.insert(key.to_vec(), Route::default());
        }
        let route = self.routes.get_mut(key).context("it was put in just now")?;
        route.got += 1;
        let (count, bytes) = if mine { &mut self.requester } else { &mut self.hop };
        *count += 1;
        *bytes += payload.len();
        if mine {
            let begun = self.requesters.get(&peer).and_then(|requester| requester.begun);
            let (_, frames) = begun.context("a path that was not asked for")?;
            if let Speech::Compact | Speech::Original = speech {
                let from = payload.windows(8).position(|window| window == br#""path":["#).unwrap_or_default();
                let list = &payload[from + 8..];
                let end = list.iter().position(|&byte| byte == b']').unwrap_or(list.len());
                let named = list[..end].split(|&byte| byte == b',').count();
                ensure!(named == frames, "a path of {named} peers, the shortest has {frames}");
            }
            self.path_peers += frames;
            route.owner = Some((peer, frames));
        }
        if let Some((owner, frames)) = route.owner
            && route.got >= frames
        {
            self.routes.remove(key);
            let begun = self.requesters.get_mut(&owner).and_then(|requester| requester.begun.take());
            let (due, _) = begun.context("a path that was not asked for")?;
            self.answered.push(Answered { due, milliseconds: due.elapsed().as_secs_f64() * 1e3 });
        }
        Ok(())
    }
}

impl Load {
    /// Sends the next request of a requester, which was due then.
    fn ask(&self, from: usize, due: Instant) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let random = state.random.as_mut().context("it is always there")?;
        let to = loop {
            let to = random.below(self.peers);
            if to != from {
                break to;
            }
        };
        state.sequence += 1;
        let frames = hops(self.peers, from, to) + 1;
        let text = match self.speech {
            Speech::Compact => {
                format!(r#"{{"type":"request_path","target":"peer-{to}","id":{}}}"#, state.sequence)
            }
            Speech::Original => format!(r#"{{"type":"request_path","target":"peer-{to}"}}"#),
            Speech::Floor(sizes) => {
                let requester = (sizes.requester_per_peer * frames as f64) as usize;
                let hop = if sizes.whole { sizes.hop * frames as f64 } else { sizes.hop } as usize;
                format!("write {from}-{} {frames} 4 {} {hop} {requester} {from}", state.sequence, self.peers)
            }
        };
        state.requesters.entry(from).or_default().begun = Some((due, frames));
        drop(state);
        send(&self.streams[from], text.as_bytes())
    }

    fn check(&self) -> Result<()> {
        match &self.state.borrow().failure {
            Some(failure) => Err(anyhow!("{failure}")),
            None => Ok(()),
        }
    }

    fn idle(&self, requesters: &[usize]) -> Vec<usize> {
        let state = self.state.borrow();
        let busy =
            |from: &usize| state.requesters.get(from).is_some_and(|requester| requester.begun.is_some());
        requesters.iter().copied().filter(|from| !busy(from)).collect()
    }

    /// So many requesters ask; with a rate so many a second together, else each again as soon as it has its answer. It goes on
    /// as long as `more` says so of the seconds since its begin, or until `most` were asked for; what was due by then is
    /// asked.
    pub(super) async fn run(
        &self,
        requesters: usize,
        rate: Option<f64>,
        most: usize,
        more: impl Fn(f64) -> bool,
    ) -> Result<Asked> {
        let requesters: Vec<usize> = (0..requesters).map(|at| at * self.peers / requesters).collect();
        self.state.borrow_mut().answered.clear();
        let begin = Instant::now();
        let schedule = rate.map(|rate| Schedule { begin, rate });
        let _ringing = schedule.map(|schedule| schedule.ring(self.done.clone()));
        let (mut sent, mut end) = (0_usize, None);
        loop {
            self.check()?;
            let elapsed = begin.elapsed().as_secs_f64();
            if end.is_none() && (!more(elapsed) || sent >= most) {
                end = Some(elapsed);
            }
            let due = match (schedule, end) {
                (Some(schedule), _) => schedule.count(end.unwrap_or(elapsed)),
                (None, None) => most,
                (None, Some(_)) => sent,
            };
            let due = due.min(most).saturating_sub(sent);
            let idle = self.idle(&requesters);
            if end.is_some() && due == 0 && idle.len() == requesters.len() {
                break;
            }
            let stalled = end.is_some_and(|end| elapsed > end + STALL.as_secs_f64());
            ensure!(!stalled, "requests stay without an answer");
            // Those that are idle take turns.
            let first = if idle.is_empty() { 0 } else { sent % idle.len() };
            for at in 0..idle.len().min(due) {
                let due = schedule.map_or_else(Instant::now, |schedule| schedule.due(sent));
                self.ask(idle[(first + at) % idle.len()], due)?;
                sent += 1;
            }
            // Either something came or the next request is due.
            let waited = timeout(STALL, self.done.notified()).await;
            waited.map_err(|_| anyhow!("requests stay without an answer"))?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Asked { answered: std::mem::take(&mut self.state.borrow_mut().answered), seconds })
    }

    /// What the frames' sizes were so far.
    pub(super) fn sizes(&self) -> Sizes {
        let state = self.state.borrow();
        let mean = |bytes: usize, count: usize| bytes as f64 / count.max(1) as f64;
        let requester_per_peer = mean(state.requester.1, state.path_peers);
        let whole = self.speech == Speech::Original;
        let hop = if whole { requester_per_peer } else { mean(state.hop.1, state.hop.0) };
        Sizes { hop, requester_per_peer, whole }
    }

    /// Closes all connections at once.
    pub(super) async fn leave(self) {
        for reader in &self.readers {
            reader.abort();
        }
        for reader in self.readers {
            let _ = reader.await;
        }
        drop(self.streams);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_done_when_every_peer_on_its_path_has_its_frame() {
        let mut state = State::default();
        let begun = Some((Instant::now(), 3));
        state.requesters.insert(5, Requester { begun });
        let hop = br#"{"type":"path","route":"e-1","room":"r","prev":"peer-5","next":"peer-9","hops":1}"#;
        let last = br#"{"type":"path","route":"e-1","room":"r","prev":"peer-8","hops":0}"#;
        let own = br#"{"type":"path","route":"e-1","room":"r","path":["peer-5","peer-8","peer-9"],"next":"peer-8","hops":2,"id":1}"#;
        state.came(last, Speech::Compact, 9, "").unwrap();
        state.came(own, Speech::Compact, 5, "").unwrap();
        assert!(state.answered.is_empty());
        state.came(hop, Speech::Compact, 8, "").unwrap();
        assert_eq!((state.answered.len(), state.routes.len()), (1, 0));
        // A path that is longer than it need be is no answer.
        let begun = Some((Instant::now(), 2));
        state.requesters.insert(5, Requester { begun });
        assert!(state.came(own, Speech::Compact, 5, "").is_err());
        assert!(state.came(br#"{"type":"error","code":"no_path"}"#, Speech::Compact, 5, "").is_err());
    }

    /// One requester, at a thousand a second, and a server that gives no answer for a while.
    #[tokio::test]
    async fn what_falls_due_in_a_stall_is_asked_and_counts_from_then() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let _server = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let random = Some(Random::new(1));
        let load = Load {
            speech: Speech::Floor(Sizes::default()),
            peers: 2,
            streams: vec![Rc::new(stream)],
            state: Rc::new(RefCell::new(State { random, ..State::default() })),
            done: Arc::new(Notify::new()),
            readers: Vec::new(),
        };
        let begin = Instant::now();
        let stalls_until = begin + Duration::from_millis(100);
        let server = async {
            loop {
                tokio::task::yield_now().await;
                let asked = load.state.borrow().requesters.get(&0).is_some_and(|one| one.begun.is_some());
                if asked && Instant::now() > stalls_until {
                    let mut state = load.state.borrow_mut();
                    let own = br#"{"type":"path","route":"e-1","path":["peer-0","peer-1"]}"#;
                    state.came(own, load.speech, 0, "").unwrap();
                    state.came(br#"{"type":"path","route":"e-1"}"#, load.speech, 1, "").unwrap();
                    load.done.notify_one();
                }
            }
        };
        let asked = tokio::select! {
            asked = load.run(1, Some(1000.0), usize::MAX, |seconds| seconds < 0.05) => asked.unwrap(),
            () = server => unreachable!("it goes on"),
        };
        assert!(asked.answered.len() >= 50, "{}", asked.answered.len());
        for (at, one) in asked.answered.iter().enumerate() {
            let since = one.due.saturating_duration_since(asked.answered[0].due);
            assert!(
                since.abs_diff(Duration::from_millis(at as u64)) < Duration::from_micros(1),
                "{at}: {since:?}"
            );
            let answered = one.due + Duration::from_secs_f64(one.milliseconds / 1e3);
            assert!(answered + Duration::from_micros(1) > stalls_until, "{at}: {one:?}");
        }
    }

    #[test]
    fn hops_of_a_ring_with_links_to_the_fourth_next() {
        let found: Vec<_> = (0..10).map(|to| hops(10, 0, to)).collect();
        assert_eq!(found, [0, 1, 2, 2, 1, 2, 1, 2, 2, 1]);
    }
}

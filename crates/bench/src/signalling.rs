//! `hopcast bench signalling`: the real server as a process beside a floor, a bare server of the same parts that writes as many
//! frames of the same size.
//!
//! Each round starts both anew, one after the other: all peers of a room (ring with links to the fourth next) enter at once
//! and announce their links, as after a restart; 64 of them ask for the way to random others, each again as soon as every peer on
//! its path has its frame; then they ask at half that rate, where a request's time counts from when it was due; then all leave at once. A storm is the same without the questions. The servers' processor time and memory are read
//! from the kernel. Another time a small room is asked all the while by another thread: whether it suffers, beside the same with a server of its own. At last a room is left and
//! entered over and over: whether the server grows. The load side links neither server; it runs on the same machine, so times include its work, processor time
//! does not.

mod floor;
mod load;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
    time::{sleep, timeout},
};

pub use self::floor::serve as serve_floor;
pub(crate) use self::load::hops as ring_hops;
use self::load::{Answered, Asked, Load, Sizes, Speech};
use crate::{
    percentile,
    process::{Process, Running},
    programs,
    row::{Figures, Row, Target},
    stop,
};

const REQUESTERS: usize = 64;
const ROOM: &str = "bench";
/// Peers of a small room.
const SMALL: usize = 160;
/// Paths that are asked for each time that a room was entered: as many each time, however fast the machine is just then, since
/// the server remembers them.
const CHURN_PATHS: usize = 1000;
/// How long a small room is asked before the storm.
const CALM: Duration = Duration::from_secs(2);
/// As many enter a large room meanwhile, in one storm after the other: one of 2,000 is over in tenths of a second. Not more: a
/// firewall that tracks connections keeps each for two minutes, 262,144 at the most.
const STORMY: usize = 16_000;
/// How long a server may take to start, to take everybody in, to let everybody go.
const SETTLE: Duration = Duration::from_secs(60);
/// How many of a server's last lines are shown where a measurement fails.
const LAST_LINES: usize = 20;
/// Descriptors that are no connection's.
const OTHER_FILES: u64 = 256;

/// The original's processor time for a path, in microseconds, and how many paths a second it had: measured earlier on a machine
/// of this kind, in rooms of so many peers (see docs/benchmarks).
const ORIGINAL: [(usize, f64, f64); 3] =
    [(160, 200.0, 7100.0), (2000, 4600.0, 305.0), (10_000, 80_000.0, 20.0)];
/// The processor seconds that it took for 10,000 leaving at once, at least.
const ORIGINAL_LEAVE: f64 = 7.0;
/// Of rows beside it.
const ELSEWHERE: &str = "theirs: the original's, measured before on another machine";

/// What one server took in one round.
#[derive(Debug, Clone, Default)]
struct Session {
    enter_seconds: f64,
    enter_cpu: f64,
    idle_bytes: f64,
    cpu_us: f64,
    rate: f64,
    half_p50: f64,
    half_p99: f64,
    leave_seconds: f64,
    leave_cpu: f64,
    sizes: Sizes,
}

/// Measures a room of so many peers, or all sizes and what happens beside a storm and under churn. `note` is told what is being
/// done.
pub fn run(peers: Option<usize>, quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let one = peers.map(|peers| [peers]);
    let sizes: &[usize] = match &one {
        Some(one) => one,
        None if quick => &[160, 2000],
        None => &[160, 2000, 10_000],
    };
    let most = sizes.iter().copied().max().unwrap_or_default() as u64;
    let files = raise_open_files();
    ensure!(
        files >= most + OTHER_FILES,
        "{} descriptors are needed for {most} peers, this process may open {files}: raise `ulimit -n`",
        most + OTHER_FILES
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for &peers in sizes {
        for speech in [Speech::Compact, Speech::Original] {
            // 10,000 peers with whole paths: 14 MB for each path, the original's way of doing it.
            if speech == Speech::Original && peers > 2000 {
                continue;
            }
            rows.extend(runtime.block_on(LocalSet::new().run_until(room(peers, speech, quick, note)))?);
        }
    }
    if peers.is_some() {
        return Ok(rows);
    }
    rows.push(runtime.block_on(LocalSet::new().run_until(others(most as usize, quick, note)))?);
    rows.push(runtime.block_on(LocalSet::new().run_until(churn(quick, note)))?);
    Ok(rows)
}

fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

async fn room(peers: usize, speech: Speech, quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let (rounds, seconds) = if quick { (3, 0.8) } else { (3, 3.0) };
    let way = if speech == Speech::Original { "whole paths" } else { "hopcast.1" };
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let storms = speech == Speech::Compact && peers >= 2000;
    let (mut calm_ours, mut calm_floors) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        note(&format!("a room of {peers}, {way}: round {round} of {rounds}"));
        let mine = session(peers, speech, seconds).await?;
        floors.push(session(peers, Speech::Floor(mine.sizes), seconds).await?);
        ours.push(mine);
        if storms {
            calm_ours.push(session(peers, speech, 0.0).await?);
            calm_floors.push(session(peers, Speech::Floor(Sizes::default()), 0.0).await?);
        }
    }
    let of = |sessions: &[Session], get: fn(&Session) -> f64| sessions.iter().map(get).collect::<Vec<_>>();
    let size = format!("{peers} peers, {way}, {REQUESTERS} asking");
    let prefix = if speech == Speech::Original { "signalling.whole_" } else { "signalling." };
    let figures = |metric: &str, size: &str, unit, get: fn(&Session) -> f64| {
        Figures::new(format!("{prefix}{metric}"), size, unit, of(&ours, get)).limit(of(&floors, get))
    };
    let mut rows = vec![figures("cpu", &size, "us/path", |one| one.cpu_us).row(Target::OverLimit(1.5))?];
    let original = ORIGINAL.iter().find(|(size, ..)| *size == peers);
    if let Some(&(_, cpu, rate)) = original {
        // Ten times is asked for from 2,000 on; in small rooms there is less to win.
        let times = if peers >= 2000 { 10.0 } else { 1.0 };
        let size = format!("{size}; {ELSEWHERE}");
        rows.push(
            figures("cpu_original", &size, "us/path", |one| one.cpu_us)
                .theirs(vec![cpu])
                .row(Target::UnderTheirs(times))?,
        );
        rows.push(
            figures("rate", &size, "paths/s", |one| one.rate)
                .theirs(vec![rate])
                .row(Target::AboveTheirs(1.0))?,
        );
    }
    rows.push(
        figures("p99", &format!("{size} at half the rate"), "ms", |one| one.half_p99)
            .own(of(&ours, |one| one.half_p50))
            .row(Target::OverOwn("p50", 5.0))?,
    );
    if !storms {
        return Ok(rows);
    }
    let at_once = format!("{peers} peers at once");
    let storm = |metric: &str, unit, get: fn(&Session) -> f64| {
        Figures::new(format!("storm.{metric}"), &at_once, unit, of(&calm_ours, get))
            .limit(of(&calm_floors, get))
    };
    rows.push(
        Figures::new(
            "signalling.idle",
            format!("{peers} peers"),
            "B/peer",
            of(&calm_ours, |one| one.idle_bytes),
        )
        .limit(of(&calm_floors, |one| one.idle_bytes))
        .row(Target::AtMost(7000.0))?,
    );
    rows.push(storm("enter", "s", |one| one.enter_seconds).row(Target::OverLimit(2.0))?);
    rows.push(storm("enter_cpu", "s", |one| one.enter_cpu).row(Target::OverLimit(2.0))?);
    rows.push(storm("leave", "s", |one| one.leave_seconds).row(Target::OverLimit(2.0))?);
    rows.push(storm("leave_cpu", "s", |one| one.leave_cpu).row(Target::OverLimit(2.0))?);
    if peers == 10_000 {
        rows.push(
            Figures::new(
                "storm.leave_cpu_original",
                format!("{at_once}; {ELSEWHERE}"),
                "s",
                of(&calm_ours, |one| one.leave_cpu),
            )
            .theirs(vec![ORIGINAL_LEAVE])
            .row(Target::UnderTheirs(1.0))?,
        );
    }
    // After the questions: thousands of routes end, too, and are looked for anew.
    let busy = format!("{at_once}, {REQUESTERS} of them with all their routes");
    rows.push(
        Figures::new("storm.leave_routes_cpu", busy, "s", of(&ours, |one| one.leave_cpu))
            .limit(of(&floors, |one| one.leave_cpu))
            .row(Target::OverLimit(2.0))?,
    );
    Ok(rows)
}

/// A server that is measured.
struct Server {
    running: Running,
    address: SocketAddr,
    /// What it wrote to its standard error: its last words belong to the failure that they explain.
    log: tempfile::NamedTempFile,
}

impl Server {
    /// What it has to say about a failure: that it has ended, and its last lines.
    fn explain(&mut self, failure: anyhow::Error) -> anyhow::Error {
        let ended =
            self.running.ended().map_or("it runs still".to_owned(), |code| format!("it ended: {code}"));
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        failure.context(format!("the server at {}: {ended}; its last lines:\n{last}", self.address))
    }
}

fn start(speech: Speech) -> Result<Server> {
    // Its own address for each run; a port that was free just now.
    let host = Ipv4Addr::new(127, 100 + (std::process::id() % 100) as u8, 200, 1);
    let at = std::net::TcpListener::bind((host, 0))?.local_addr()?;
    let mut command = if let Speech::Floor(_) = speech {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "floor", &at.to_string()]);
        command
    } else {
        let mut command = Command::new(programs::ours("hopcast-signalling")?);
        command.args(["--listen", &at.to_string()]);
        command
    };
    let log = tempfile::Builder::new().prefix("hopcast-bench-").tempfile()?;
    let running = Running::start(command.stdout(Stdio::null()).stderr(log.reopen()?))?;
    Ok(Server { running, address: at, log })
}

/// Connections that are open, and announcements that were read.
async fn progress(server: SocketAddr) -> Result<(usize, usize)> {
    let text = async {
        let mut stream = TcpStream::connect(server).await?;
        stream
            .write_all(
                format!("GET /metrics HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = timeout(SETTLE, text).await.context("the server does not tell how it is")??;
    let value = |names: [&str; 2]| {
        let line = text.lines().find_map(|line| names.iter().find_map(|name| line.strip_prefix(name)));
        line.and_then(|value| value.trim().parse::<usize>().ok()).unwrap_or_default()
    };
    Ok((
        value(["hopcast_signalling_connections ", "connections "]),
        value(["hopcast_signalling_messages_total{type=\"announce\"} ", "messages "]),
    ))
}

async fn until(server: SocketAddr, what: &str, reached: impl Fn((usize, usize)) -> bool) -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    loop {
        stop::check()?;
        match progress(server).await {
            Ok(now) if reached(now) => return Ok(()),
            outcome if Instant::now() > deadline => {
                return Err(anyhow::anyhow!("{what}: not within {} s ({outcome:?})", SETTLE.as_secs()));
            }
            // To look costs the server something, too.
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn session(peers: usize, speech: Speech, seconds: f64) -> Result<Session> {
    let mut server = start(speech)?;
    let outcome = measure(server.address, server.running.process(), peers, speech, seconds).await;
    outcome.map_err(|failure| server.explain(failure))
}

async fn measure(
    server: SocketAddr,
    process: Process,
    peers: usize,
    speech: Speech,
    seconds: f64,
) -> Result<Session> {
    until(server, "the server listens", |_| true).await?;
    let (cpu, private) = (process.cpu_seconds()?, process.private()?);
    let begin = Instant::now();
    let load = load::enter(server, ROOM, peers, speech).await?;
    until(server, "everybody is in the room", |(_, announced)| announced >= peers).await?;
    let mut session = Session { enter_seconds: begin.elapsed().as_secs_f64(), ..Session::default() };
    session.enter_cpu = process.cpu_seconds()? - cpu;
    session.idle_bytes = process.private()?.saturating_sub(private) as f64 / peers as f64;
    if seconds > 0.0 {
        questions(&load, process, seconds, &mut session).await?;
    }
    let cpu = process.cpu_seconds()?;
    let begin = Instant::now();
    load.leave().await;
    until(server, "everybody is gone", |(connections, _)| connections == 0).await?;
    session.leave_seconds = begin.elapsed().as_secs_f64();
    session.leave_cpu = process.cpu_seconds()? - cpu;
    Ok(session)
}

/// The closed loop, and half its rate.
async fn questions(load: &Load, process: Process, seconds: f64, session: &mut Session) -> Result<()> {
    ask(load, seconds / 4.0, None).await?; // what is allocated once
    let cpu = process.cpu_seconds()?;
    let asked = ask(load, seconds, None).await?;
    let paths = asked.answered.len() as f64;
    session.cpu_us = (process.cpu_seconds()? - cpu) * 1e6 / paths;
    session.rate = paths / asked.seconds;
    session.sizes = load.sizes();
    let half = ask(load, seconds, Some(session.rate / 2.0)).await?;
    let half = half.milliseconds();
    session.half_p50 = percentile(&half, 50.0).context("nothing was asked")?;
    session.half_p99 = percentile(&half, 99.0).context("nothing was asked")?;
    Ok(())
}

async fn ask(load: &Load, seconds: f64, rate: Option<f64>) -> Result<Asked> {
    stop::check()?;
    let asked = load.run(REQUESTERS, rate, usize::MAX, |taken| taken <= seconds).await?;
    ensure!(!asked.answered.is_empty(), "no path was found in {seconds} s");
    Ok(asked)
}

/// A small room beside a storm in a large one: its p99 meanwhile, and before. The limit is the same with a server of its own for
/// the small room: what sharing two cores costs it with perfect isolation in the server.
async fn others(peers: usize, quick: bool, note: &dyn Fn(&str)) -> Result<Row> {
    let rounds = if quick { 2 } else { 3 };
    let (mut before, mut meanwhile, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        note(&format!("a room of {SMALL} beside a storm of {peers}: round {round} of {rounds}"));
        let mut shared = start(Speech::Compact)?;
        let (calm, storm) =
            beside(shared.address, shared.address, peers).await.map_err(|failure| shared.explain(failure))?;
        before.push(calm);
        meanwhile.push(storm);
        drop(shared);
        let (mut small, mut large) = (start(Speech::Compact)?, start(Speech::Compact)?);
        let (_, storm) = beside(small.address, large.address, peers)
            .await
            .map_err(|failure| large.explain(small.explain(failure)))?;
        apart.push(storm);
    }
    let size = format!("{SMALL} peers while {peers} enter and leave");
    Figures::new("storm.others_p99", size, "ms", meanwhile)
        .own(before)
        .limit(apart)
        .row(Target::OverOwn("p99 before", 2.0))
}

/// The p99 of the small room at one server before and while a storm is at another, or the same.
async fn beside(small: SocketAddr, large: SocketAddr, peers: usize) -> Result<(f64, f64)> {
    for server in [small, large] {
        until(server, "the server listens", |_| true).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let asking = thread::spawn({
        let stop = stop.clone();
        move || small_room(small, &stop)
    });
    let already = if small == large { SMALL } else { 0 };
    let storm = async {
        until(small, "the small room is there", |(_, announced)| announced >= SMALL).await?;
        sleep(CALM).await;
        let begin = Instant::now();
        for storm in 1..=(STORMY / peers).max(1) {
            let load = load::enter(large, ROOM, peers, Speech::Compact).await?;
            let all = storm * peers + already;
            until(large, "everybody is in the room", |(_, announced)| announced >= all).await?;
            load.leave().await;
            until(large, "everybody is gone", |(connections, _)| connections <= already).await?;
        }
        anyhow::Ok((begin, Instant::now()))
    }
    .await;
    stop.store(true, Ordering::Relaxed);
    let asked = asking.join().map_err(|_| anyhow::anyhow!("the small room's thread panicked"))?;
    let (asked, (begin, end)) = asked.and_then(|asked| Ok((asked, storm?)))?;
    let p99 = |within: &dyn Fn(Instant) -> bool| {
        let all: Vec<f64> = asked.iter().filter(|one| within(one.due)).map(|one| one.milliseconds).collect();
        percentile(&all, 99.0).context("nothing was asked in the small room")
    };
    Ok((p99(&|at| at < begin)?, p99(&|at| at >= begin && at < end)?))
}

/// Asks at a gentle rate until it is stopped.
fn small_room(server: SocketAddr, stop: &AtomicBool) -> Result<Vec<Answered>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let load = load::enter(server, "small", SMALL, Speech::Compact).await?;
        Ok(load.run(16, Some(200.0), usize::MAX, |_| !stop.load(Ordering::Relaxed)).await?.answered)
    }))
}

/// A room is entered, asked and left, over and over: what the server has grown by in the last quarter. Compared is the least of
/// each quarter: what the allocator holds beyond that comes and goes, what is never given back is in all of them.
async fn churn(quick: bool, note: &dyn Fn(&str)) -> Result<Row> {
    let seconds = if quick { 15.0 } else { 600.0 };
    note(&format!("{seconds} s of churn"));
    let mut server = start(Speech::Compact)?;
    let outcome = come_and_go(server.address, server.running.process(), seconds).await;
    let (resident, rounds) = outcome.map_err(|failure| server.explain(failure))?;
    let quarter = resident.len() / 4;
    let least = |from: usize| {
        let quarter = resident.get(from..from + quarter).unwrap_or_default();
        quarter.iter().copied().min_by(f64::total_cmp).context("too little churn")
    };
    let grown = (least(3 * quarter)? / least(2 * quarter)? - 1.0) * 100.0;
    let size = format!(
        "{SMALL} peers came and went {rounds} times in {seconds} s; the last quarter beside the third"
    );
    // What is beyond the noise of an allocator.
    Figures::new("signalling.churn", size, "% grown", vec![grown.max(0.0)]).row(Target::AtMost(1.0))
}

/// The server's resident memory each time when everybody was there, and how often that was.
async fn come_and_go(server: SocketAddr, process: Process, seconds: f64) -> Result<(Vec<f64>, usize)> {
    until(server, "the server listens", |_| true).await?;
    let begin = Instant::now();
    let (mut resident, mut rounds) = (Vec::new(), 0);
    while begin.elapsed().as_secs_f64() < seconds {
        let load = load::enter(server, ROOM, SMALL, Speech::Compact).await?;
        rounds += 1;
        until(server, "everybody is in the room", |(_, announced)| announced >= rounds * SMALL).await?;
        stop::check()?;
        let most = SETTLE.as_secs_f64();
        let asked = load.run(REQUESTERS, None, CHURN_PATHS, |taken| taken <= most).await?.answered.len();
        ensure!(asked >= CHURN_PATHS, "{asked} paths were found in {SETTLE:?}");
        resident.push(process.resident()? as f64);
        load.leave().await;
        until(server, "everybody is gone", |(connections, _)| connections == 0).await?;
    }
    Ok((resident, rounds))
}

//! `hopcast bench relay`: segments through chains of peers beside chains of socat, haproxy and nginx.
//!
//! Every relay is a process of its own. All chains stand between the same two ends: a source that answers with a body, and a
//! few flows that ask one after the other over kept connections. Ours is the whole thing: a route that the real signalling server
//! broadcast, a signature checked and made at each hop. Each chain is measured in turn; the processor's time is that of its
//! relays alone. iperf3 tells what the loopback of this machine takes at most.

mod load;
mod ours;
mod places;
mod theirs;

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use self::{
    load::Source,
    ours::{Ask, Ours},
    places::Places,
    theirs::Program,
};
use crate::{
    flow::Flow,
    process::{Process, Running},
    programs,
    row::{Figures, Row, Target},
    stop,
};

/// Requests under way at a time: a peer takes 8.
const FLOWS: usize = 4;
/// How long the relays of a chain may take to listen.
const READY: Duration = Duration::from_secs(15);
const MEGABYTE: usize = 1_000_000;
const SEGMENT: usize = 100_000;

/// One chain, whoever's it is.
struct Chain {
    hops: usize,
    relays: Vec<Process>,
    first: std::net::SocketAddr,
    flows: Vec<Flow>,
    ask: Option<Ask>,
}

/// What one block of requests took.
#[derive(Debug, Default)]
struct Block {
    /// Of the body, in MB/s.
    rate: f64,
    /// Of all relays, in seconds for each GB and relay.
    cpu: f64,
    /// The most that the largest relay had in memory during it, in MB.
    resident: f64,
}

/// An error where one of the programs that are compared with is missing.
pub fn check_programs() -> Result<()> {
    for program in Program::ALL.map(Program::name).into_iter().chain(["iperf3"]) {
        programs::debian(program)?;
    }
    Ok(())
}

/// Measures chains of so many relays, or of 1, 3 and 8. `note` is told what is being done.
pub fn run(hops: Option<usize>, quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    check_programs()?;
    let dir = tempfile::Builder::new().prefix("hopcast-bench-").tempdir()?;
    let places = Places::of_this_run();
    let source = Source::listen(places.source())?;
    let mut rows = Vec::new();
    for hops in hops.map_or(vec![1, 3, 8], |hops| vec![hops]) {
        note(&format!("chains of {hops}"));
        rows.extend(chains(dir.path(), places, &source, hops, quick, note)?);
    }
    Ok(rows)
}

fn chains(
    dir: &Path,
    places: Places,
    source: &Source,
    hops: usize,
    quick: bool,
    note: &dyn Fn(&str),
) -> Result<Vec<Row>> {
    let (rounds, seconds) = if quick { (3, 0.5) } else { (5, 2.0) };
    source.set_length(MEGABYTE);
    let ours = Ours::start(dir, places, hops, places.source())?;
    let mut others: Vec<Vec<Running>> = Vec::new();
    let mut chains = vec![chain(&ours.relays, places.relay(0, hops, 1), Some(ours.ask.clone()))?];
    for (number, program) in Program::ALL.into_iter().enumerate() {
        let relays = (1..=hops).map(|at| {
            let next = if at == hops { places.source() } else { places.relay(number + 1, hops, at + 1) };
            program.start(dir, places.relay(number + 1, hops, at), next)
        });
        others.push(relays.collect::<Result<_>>()?);
    }
    for (number, relays) in others.iter_mut().enumerate() {
        let first = places.relay(number + 1, hops, 1);
        let chain = chain(relays, first, None).with_context(|| {
            let ended = relays.iter_mut().find_map(Running::ended).unwrap_or_else(|| "running".to_owned());
            format!("a chain of {} does not answer ({ended})", Program::ALL[number].name())
        })?;
        chains.push(chain);
    }
    let mut large: Vec<Vec<Block>> = chains.iter().map(|_| Vec::new()).collect();
    let mut small: Vec<Vec<Block>> = chains.iter().map(|_| Vec::new()).collect();
    let mut loopback = Vec::new();
    for round in 0..rounds {
        note(&format!("chains of {hops}: round {} of {rounds}", round + 1));
        loopback.push(iperf(places)?);
        source.set_length(MEGABYTE);
        for turn in 0..chains.len() {
            // Each is first, and last, in turn.
            let number = (turn + round) % chains.len();
            large[number].push(chains[number].block(MEGABYTE, seconds)?);
        }
        source.set_length(SEGMENT);
        for turn in 0..chains.len() {
            let number = (turn + round) % chains.len();
            small[number].push(chains[number].block(SEGMENT, seconds)?);
        }
    }
    let of = |blocks: &[Block], get: fn(&Block) -> f64| blocks.iter().map(get).collect::<Vec<_>>();
    let size = format!("{}, 1 MB bodies, {FLOWS} at a time", relays(hops));
    let mut rows = Vec::new();
    for (number, program) in Program::ALL.into_iter().enumerate() {
        let theirs = &large[number + 1];
        rows.push(
            Figures::new(
                format!("relay.cpu_{}", program.name()),
                &size,
                "s/GB/hop",
                of(&large[0], |block| block.cpu),
            )
            .theirs(of(theirs, |block| block.cpu))
            .row(Target::OverTheirs(1.0))?,
        );
        rows.push(
            Figures::new(
                format!("relay.rate_{}", program.name()),
                &size,
                "MB/s",
                of(&large[0], |block| block.rate),
            )
            .theirs(of(theirs, |block| block.rate))
            .limit(loopback.clone())
            .row(Target::AboveTheirs(1.0))?,
        );
    }
    rows.push(
        Figures::new(
            "relay.rate_segments",
            format!("{}, 100 kB bodies, {FLOWS} at a time; theirs: the fastest other's", relays(hops)),
            "MB/s",
            of(&small[0], |block| block.rate),
        )
        .theirs(fastest(&small[1..]))
        .own(of(&large[0], |block| block.rate))
        .row(Target::AboveOwn("rate of 1 MB bodies", 0.7))?,
    );
    let resident = |block: &Block| block.resident;
    let memory: Vec<f64> = large[0].iter().chain(&small[0]).map(resident).collect();
    // The largest of all rounds: it must never be more.
    let most = memory.iter().copied().fold(0.0, f64::max);
    rows.push(
        Figures::new("relay.resident", format!("{}, the largest ever", relays(hops)), "MB", vec![most])
            .row(Target::AtMost(3.0))?,
    );
    Ok(rows)
}

/// The best rate of each round.
fn fastest(others: &[Vec<Block>]) -> Vec<f64> {
    let rounds = others.first().map_or(0, Vec::len);
    (0..rounds).map(|round| others.iter().map(|blocks| blocks[round].rate).fold(0.0, f64::max)).collect()
}

/// As people write it.
fn relays(count: usize) -> String {
    if count == 1 { "1 relay".to_owned() } else { format!("{count} relays") }
}

fn chain(relays: &[Running], first: std::net::SocketAddr, ask: Option<Ask>) -> Result<Chain> {
    let deadline = Instant::now() + READY;
    let request = |ask: &Option<Ask>| request(ask.as_ref(), first);
    let mut flows = Vec::new();
    for _ in 0..FLOWS {
        // Also the relays behind the first must listen: asked until the answer comes.
        flows.push(loop {
            let mut flow = Flow::connect(first, deadline)?;
            match flow.ask(&request(&ask)) {
                Ok(_) => break flow,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => stop::pause(Duration::from_millis(20))?,
            }
        });
    }
    // By now whatever a relay forks for these connections is there.
    let hops = relays.len();
    let relays = relays.iter().flat_map(|relay| relay.process().family()).collect();
    Ok(Chain { hops, relays, first, flows, ask })
}

fn request(ask: Option<&Ask>, first: std::net::SocketAddr) -> String {
    match ask {
        Some(ask) => ask.request(first),
        None => format!("GET /segment HTTP/1.1\r\nHost: {first}\r\n\r\n"),
    }
}

impl Chain {
    fn block(&mut self, length: usize, seconds: f64) -> Result<Block> {
        let cpu = |relays: &[Process]| relays.iter().map(|relay| relay.cpu_seconds()).sum::<Result<f64>>();
        let (first, ask, relays) = (self.first, self.ask.clone(), &self.relays);
        // What starting took is not the load's.
        relays.iter().try_for_each(|relay| relay.forget_most_resident())?;
        let before = cpu(relays)?;
        let begin = Instant::now();
        let until = begin + Duration::from_secs_f64(seconds);
        let bytes = thread::scope(|threads| -> Result<usize> {
            let flows: Vec<_> = self
                .flows
                .iter_mut()
                .map(|flow| {
                    let ask = ask.clone();
                    threads.spawn(move || -> Result<usize> {
                        let mut bytes = 0;
                        while Instant::now() < until {
                            let got = flow.ask(&request(ask.as_ref(), first))?;
                            ensure!(got == length, "a body of {got} bytes instead of {length}");
                            bytes += got;
                        }
                        Ok(bytes)
                    })
                })
                .collect();
            flows.into_iter().map(|flow| flow.join().map_err(|_| anyhow::anyhow!("a flow panicked"))?).sum()
        })?;
        let took = begin.elapsed().as_secs_f64();
        let spent = cpu(relays)? - before;
        let most = relays.iter().map(|relay| relay.most_resident()).collect::<Result<Vec<_>>>()?;
        Ok(Block {
            rate: bytes as f64 / 1e6 / took,
            // Relays, not processes: some have several.
            cpu: spent / (bytes as f64 / 1e9) / self.hops as f64,
            resident: most.into_iter().max().unwrap_or_default() as f64 / 1e6,
        })
    }
}

/// What the loopback takes, in MB/s.
fn iperf(places: Places) -> Result<f64> {
    let iperf3 = programs::debian("iperf3")?;
    let at = places.iperf();
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let mut server = Command::new(&iperf3);
    server.args(["-s", "-B", &address, "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running::start(&mut server)?;
    let deadline = Instant::now() + READY;
    loop {
        let mut client = Command::new(&iperf3);
        client.args(["-c", &address, "-p", &port, "-t", "1", "-J"]);
        // With -J it tells its errors as JSON, too; the server may not be there yet.
        let rate = programs::output(&mut client, Duration::from_secs(20)).and_then(|text| {
            let report: serde_json::Value = serde_json::from_str(&text)?;
            let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
            bits.with_context(|| format!("iperf3 tells no rate: {}", report["error"]))
        });
        match rate {
            Ok(bits) => return Ok(bits / 8e6),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => stop::pause(Duration::from_millis(20))?,
        }
    }
}

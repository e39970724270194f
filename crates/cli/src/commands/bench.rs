//! `hopcast bench`: what hopcast costs, beside what it is compared with, in the same run.

use clap::{Args, Subcommand, value_parser};
use std::time::Instant;

use hopcast_bench::{
    deploy, listen, play,
    programs::Missing,
    relay, routing,
    row::{Machine, Row, Table, Verdict},
    scale, signalling, start,
    stop::{self, Interrupted},
};

use crate::{
    context::Context,
    exit::{self, Failure},
    output::{Output, table},
};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// The benches.
#[derive(Debug, Subcommand)]
enum What {
    /// Shortest paths in a changing room beside petgraph and bare arrays; nearest holders; building a large room
    Routing(Quick),
    /// The signalling server beside a bare server that writes as many frames of the same size
    Signalling {
        /// Only a room of so many peers [default: 160, 2000 and 10000, then the storms]
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(80..=10_000))]
        peers: Option<u32>,
        #[command(flatten)]
        quick: Quick,
    },
    /// Segments through chains of peers beside socat, haproxy and nginx in the same place
    Relay {
        /// Only chains of so many relays [default: 1, 3 and 8]
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=12))]
        hops: Option<u32>,
        #[command(flatten)]
        quick: Quick,
    },
    /// A cold `up` of the file's mesh beside its floor: parallel initdb and start, then a no-op spawn for each peer
    Start {
        /// How often both are measured, in turn; medians are printed
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=20))]
        rounds: u32,
        /// Instead: a mesh of 1,000 peers beside one of 160; what up, status and verify take for each peer
        #[arg(long)]
        many: bool,
        #[command(flatten)]
        quick: Quick,
    },
    /// The first byte of an uncached segment at a player, for each hop, beside the database read
    Play {
        /// Hops between the gateway and the far peer
        #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=64))]
        hops: u32,
        /// Segments measured at each of the two
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=200))]
        segments: u32,
        /// Instead: listeners beside the same ones straight at an nginx, and 50 of one song at once
        #[arg(long)]
        listeners: bool,
        #[command(flatten)]
        quick: Quick,
    },
    /// `up` and `down` of the file's peers on Docker beside the engine's own floor: bare containers of the same image
    Deploy {
        /// How often both are measured, in turn; medians are printed
        #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(1..=20))]
        rounds: u32,
        /// Requests of the floor that are under way at a time
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..=64))]
        in_flight: u32,
        /// How many peers [default: the file's]
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
        peers: Option<u32>,
        /// Measure the floor alone
        #[arg(long)]
        floor_only: bool,
    },
    /// Everything but `deploy`: every row in one table, under 5 minutes with --quick
    All(Quick),
    /// The bare server of `signalling`
    #[command(hide = true)]
    Floor {
        /// Where
        listen: std::net::SocketAddr,
    },
    /// One side of `routing`'s building and leaving, in a process of its own
    #[command(hide = true)]
    Room {
        /// `ours` or `petgraph`
        side: String,
        /// How many
        #[arg(value_parser = value_parser!(u32).range(1..=10_000_000))]
        peers: u32,
    },
}

/// What the benches of rows take.
#[derive(Debug, Clone, Copy, Args)]
struct Quick {
    /// Reduced sizes, each said in its row
    #[arg(long)]
    quick: bool,
}

/// Blocks until the bench is done. The benches have a runtime of their own, so they need a thread without one.
pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    std::thread::scope(|threads| match threads.spawn(|| measure(context, arguments)).join() {
        Ok(result) => result.map_err(with_code),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn measure(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let out = &context.out;
    let note = |text: &str| out.note(text);
    // `deploy` listens by itself, the other side of a bench ends with the bench.
    if !matches!(arguments.what, What::Deploy { .. } | What::Floor { .. } | What::Room { .. }) {
        stop::watch()?;
    }
    match arguments.what {
        What::Routing(Quick { quick }) => rows(out, quick, one(|| routing::run(quick, &note))),
        What::Relay { hops, quick: Quick { quick } } => {
            let hops = hops.map(|hops| hops as usize);
            rows(out, quick, one(|| relay::run(hops, quick, &note)))
        }
        What::Signalling { peers, quick: Quick { quick } } => {
            let peers = peers.map(|peers| peers as usize);
            rows(out, quick, one(|| signalling::run(peers, quick, &note)))
        }
        What::Floor { listen } => signalling::serve_floor(listen),
        What::Room { ref side, peers } => {
            out.object(&serde_json::to_value(routing::measure_room(side, peers as usize)?)?);
            Ok(())
        }
        What::Deploy { rounds, in_flight, peers, floor_only } => {
            let (rounds, in_flight) = (rounds as usize, in_flight as usize);
            let options = deploy::Options { rounds, in_flight, peers, floor_only };
            let report = deploy::run(&context.file()?, options, &note)?;
            show_deploy(out, &report);
            out.result(&report)
        }
        What::All(Quick { quick }) => rows(out, quick, |rows| all(context, quick, rows)),
        What::Start { many: true, quick: Quick { quick }, .. } => {
            rows(out, quick, one(|| scale::run(quick, &note)))
        }
        What::Play { listeners: true, quick: Quick { quick }, .. } => {
            rows(out, quick, one(|| listen::run(quick, &note)))
        }
        What::Start { rounds, quick, .. } => {
            let rounds = if quick.quick { 1 } else { rounds };
            let report = start::run(&context.file()?, rounds as usize, &note)?;
            out.line(format_args!(
                "up of {} peers and {} databases: {:.2} s, floor {:.2} s, ratio {:.2} (medians of {})",
                report.peers,
                report.databases,
                report.up_seconds,
                report.floor_seconds,
                report.ratio,
                report.rounds
            ));
            out.line(format_args!(
                "the same over the data of the first time: {:.2} s, floor {:.2} s, ratio {:.2}",
                report.warm_seconds, report.warm_floor_seconds, report.warm_ratio
            ));
            out.line(format_args!(
                "its peers, idle, take {:.2}% of one core together",
                report.idle_cpu_percent
            ));
            out.result(&report)
        }
        What::Play { hops, segments, quick, .. } => {
            let segments = if quick.quick { segments.min(10) } else { segments };
            let report = play::run(hops as usize, segments as usize, &note)?;
            out.line(format_args!(
                "first byte at the gateway {:.2} ms, after {} hops {:.2} ms: {:.2} ms a hop (at most {} wanted; medians of {})",
                report.gateway_ms, report.hops, report.far_ms, report.per_hop_ms, report.target_ms, report.segments
            ));
            out.result(&report)
        }
    }
}

/// A program that is missing has an exit code of its own, as everywhere, and so has a signal.
fn with_code(error: anyhow::Error) -> anyhow::Error {
    if let Some(missing) = error.downcast_ref::<Missing>() {
        return Failure::new(exit::UNAVAILABLE, missing.to_string()).into();
    }
    match error.downcast_ref::<Interrupted>() {
        Some(&Interrupted { code }) => Failure::new(code, "interrupted").into(),
        None => error,
    }
}

/// A bench that has all its rows or none.
fn one(run: impl FnOnce() -> anyhow::Result<Vec<Row>>) -> impl FnOnce(&mut Vec<Row>) -> anyhow::Result<()> {
    |rows| {
        rows.extend(run()?);
        Ok(())
    }
}

/// One after the other. What fails keeps nothing else from being measured, and is told at the end; a signal ends it.
fn all(context: &Context, quick: bool, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let note = |text: &str| context.out.note(text);
    let topology = context.file()?;
    relay::check_programs()?;
    listen::check_programs()?;
    let mut failed = Vec::new();
    let mut take = |name: &str, outcome: anyhow::Result<Vec<Row>>| {
        match outcome {
            Ok(more) => rows.extend(more),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
        Ok(())
    };
    take("routing", routing::run(quick, &note))?;
    take("signalling", signalling::run(None, quick, &note))?;
    take("relay", relay::run(None, quick, &note))?;
    let rounds = if quick { 1 } else { 5 };
    take("start", start::run(&topology, rounds, &note).map(|report| report.rows))?;
    take("start --many", scale::run(quick, &note))?;
    let segments = if quick { 20 } else { 100 };
    take("play", play::run(8, segments, &note).map(|report| report.rows))?;
    take("play --listeners", listen::run(quick, &note))?;
    if failed.is_empty() { Ok(()) } else { anyhow::bail!(failed.join("\n")) }
}

/// Measures, and prints the rows: for people a table, for programs one object. After a failure what there is, then the
/// failure.
fn rows(
    out: &Output,
    quick: bool,
    measure: impl FnOnce(&mut Vec<Row>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (machine, begin, mut rows) = (Machine::this(), Instant::now(), Vec::new());
    let outcome = measure(&mut rows);
    if !rows.is_empty() {
        show_rows(out, &rows);
    }
    if let Err(error) = outcome {
        let error = with_code(error);
        let code = exit::code(&error);
        // What was measured is there all the same.
        return Err(Failure::new(code, format!("{error:#}")).with("rows", &rows).into());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let short = rows.iter().filter(|row| row.verdict == Verdict::Short).count();
    out.line(format_args!("{} rows, {short} short of their target, in {seconds:.0} s", rows.len()));
    out.result(&Table { quick, machine, version: env!("CARGO_PKG_VERSION"), seconds, rows })
}

fn show_rows(out: &Output, rows: &[Row]) {
    let cells: Vec<_> =
        std::iter::once(Row::HEADS.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    out.text(table(&cells));
}

fn show_deploy(out: &Output, report: &deploy::Report) {
    let floor = &report.floor;
    out.line(format_args!(
        "floor: {} bare containers, {} requests under way: up {:.1} s, down {:.1} s (medians of {})",
        report.peers, report.in_flight, floor.up, floor.down, report.rounds
    ));
    let spent = |who: &str, cpu: &deploy::Spent| {
        out.line(format_args!(
            "processor time of {who}, ms: dockerd {:.0} (its children {:.0}), containerd {:.0} ({:.0}), shims {:.0} (runc and the like {:.0}), storage {:.0}; the whole machine {:.0}",
            cpu.dockerd,
            cpu.dockerd_children,
            cpu.containerd,
            cpu.containerd_children,
            cpu.shims,
            cpu.shims_children,
            cpu.storage,
            cpu.machine
        ));
    };
    if let Some(hopcast) = &report.hopcast {
        out.line(format_args!(
            "hopcast: up {:.1} s (all started after {:.1} s; with databases and songs {:.1} s), down {:.1} s",
            hopcast.side.up, hopcast.started, hopcast.whole, hopcast.side.down
        ));
        out.line(format_args!(
            "ours to floor: up {:.2}, down {:.2} (at most {} wanted)",
            hopcast.up_ratio, hopcast.down_ratio, report.target
        ));
        spent("one of hopcast's containers", &hopcast.side.cpu_ms);
    }
    spent("a bare container", &floor.cpu_ms);
    out.line(format_args!(
        "a shim takes {} KiB (ps shows {} KiB, most of it shared)",
        report.shim_pss_kb, report.shim_rss_kb
    ));
}

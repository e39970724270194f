//! `hopcast bench`: what hopcast costs, beside what it is compared with, in the same run.

use clap::{Args, Subcommand, value_parser};
use hopcast_bench::{deploy, play, start, stop::Interrupted};

use crate::{context::Context, exit::Failure, output::Output};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// The benches.
#[derive(Debug, Subcommand)]
enum What {
    /// A cold `up` of the file's mesh beside its floor: parallel initdb and start, then a no-op spawn for each peer
    Start {
        /// How often both are measured, in turn; medians are printed
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=20))]
        rounds: u32,
    },
    /// The first byte of an uncached segment at a player, for each hop, beside the database read
    Play {
        /// Hops between the gateway and the far peer
        #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=64))]
        hops: u32,
        /// Segments measured at each of the two
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=200))]
        segments: u32,
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
}

/// Blocks until the bench is done. The benches have a runtime of their own, so they need a thread without one.
pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    std::thread::scope(|threads| match threads.spawn(|| measure(context, arguments)).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn measure(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let out = &context.out;
    let note = |text: &str| out.note(text);
    match arguments.what {
        What::Deploy { rounds, in_flight, peers, floor_only } => {
            let (rounds, in_flight) = (rounds as usize, in_flight as usize);
            let options = deploy::Options { rounds, in_flight, peers, floor_only };
            let report = deploy::run(&context.file()?, options, &note).map_err(|error| match error
                .downcast_ref::<Interrupted>()
            {
                Some(&Interrupted { code }) => Failure::new(code, "interrupted").into(),
                None => error,
            })?;
            show_deploy(out, &report);
            out.result(&report)
        }
        What::Start { rounds } => {
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
                "its peers, idle, take {:.2}% of one core together",
                report.idle_cpu_percent
            ));
            out.result(&report)
        }
        What::Play { hops, segments } => {
            let report = play::run(hops as usize, segments as usize, &note)?;
            out.line(format_args!(
                "first byte at the gateway {:.2} ms, after {} hops {:.2} ms: {:.2} ms a hop (at most {} wanted; medians of {})",
                report.gateway_ms, report.hops, report.far_ms, report.per_hop_ms, report.target_ms, report.segments
            ));
            out.result(&report)
        }
    }
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

//! `hopcast bench`: what hopcast costs, beside what it is compared with, in the same run.

use clap::{Args, Subcommand, value_parser};
use hopcast_bench::{play, start};

use crate::context::Context;

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

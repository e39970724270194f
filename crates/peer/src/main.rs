//! The `hopcast-peer` program: reads its configuration, then runs until a signal or its replacement ends it.
//!
//! Exit codes: 0 stopped, 1 could not start, 64 wrong configuration, 75 another process has this peer's name.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use hopcast_peer::{Exit, Peer, config, databases, memory};
use hopcast_protocol::{
    PeerConfig,
    limits::{EXIT_CONFIG, EXIT_REPLACED},
};
use tokio::signal::unix::{SignalKind, signal};

/// A peer: serves songs to players, and passes segments on for its neighbours.
///
/// Without --config it reads PEER_NAME, PEER_PORT (8080), PEER_NEIGHBORS ("peer-2,peer-5", each name, name:port or
/// name=host:port), SIGNAL_URL (ws://signalling:7080/ws) and PEER_ROOM (a comma list). SIGHUP rereads the file; a bad
/// file keeps the old configuration. HOPCAST_LOG sets what is logged: error, warn, info (default), debug.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// A configuration file, as `hopcast up` writes it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let level = std::env::var("HOPCAST_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .init();
    let config = match read(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_CONFIG as u8);
        }
    };
    match run(&args, config) {
        Ok(Exit::Stopped) => ExitCode::SUCCESS,
        Ok(Exit::Replaced) => ExitCode::from(EXIT_REPLACED as u8),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(args: &Args) -> Result<PeerConfig, config::ConfigError> {
    match &args.config {
        Some(path) => config::from_file(path),
        None => config::from_env(|name| std::env::var(name).ok()),
    }
}

fn run(args: &Args, config: PeerConfig) -> anyhow::Result<Exit> {
    memory::one_arena();
    // The only blocking work is name resolution: one small thread that does not stay.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_millis(200))
        .thread_stack_size(128 * 1024)
        .build_local(tokio::runtime::LocalOptions::default())
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup()).context("failed to watch for SIGHUP")?;
        let mut terminate = signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?;
        let peer = Peer::start(config, Box::new(databases))?;
        tracing::info!(address = %peer.address(), "listening");
        let reloads = async {
            loop {
                hangup.recv().await;
                let outcome = read(args).map_err(anyhow::Error::from).and_then(|new| Ok(peer.reload(new)?));
                match outcome {
                    Ok(()) => tracing::info!("configuration reread"),
                    Err(error) => tracing::error!("the old configuration stays: {error:#}"),
                }
            }
        };
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = reloads => {}
            }
        };
        Ok(peer.run(stop).await)
    })
}

//! The `hopcast-peer` program: reads its configuration, then runs until a signal or its replacement ends it.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use hopcast_peer::{
    Exit, Peer, StartError,
    args::{self, Args, Files},
    config, databases, memory,
};
use hopcast_protocol::{
    PeerConfig,
    limits::{EXIT_CONFIG, EXIT_REPLACED, EXIT_UNAVAILABLE},
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let files = match args::parse(std::env::args_os().skip(1)) {
        Ok(Args::Run(files)) => files,
        Ok(Args::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Args::Version) => {
            println!("hopcast-peer {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => return wrong(&error),
    };
    let level = std::env::var("HOPCAST_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level.unwrap_or(tracing::Level::INFO))
        .init();
    let config = match read(files.as_ref()) {
        Ok(config) => config,
        Err(error) => return wrong(&error),
    };
    match run(files.as_ref(), config) {
        Ok(Exit::Stopped) => ExitCode::SUCCESS,
        Ok(Exit::Replaced) => ExitCode::from(EXIT_REPLACED as u8),
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<StartError>() { ExitCode::from(EXIT_UNAVAILABLE as u8) } else { ExitCode::FAILURE }
        }
    }
}

fn wrong(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(EXIT_CONFIG as u8)
}

fn read(files: Option<&Files>) -> Result<PeerConfig, config::ConfigError> {
    match files {
        Some(files) => config::from_files(files),
        None => config::from_env(|name| std::env::var(name).ok()),
    }
}

fn run(files: Option<&Files>, config: PeerConfig) -> anyhow::Result<Exit> {
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
                let outcome = read(files).map_err(anyhow::Error::from).and_then(|new| Ok(peer.reload(new)?));
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

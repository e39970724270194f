//! The `hopcast-signalling` program: reads and checks everything, then binds and serves.

use std::process::ExitCode;

use clap::Parser as _;
use hopcast_signalling::{
    args::{Args, CONFIG_EXIT},
    config::Settings,
    error::EXIT_UNAVAILABLE,
    server::Server,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{error, info};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { CONFIG_EXIT.into() } else { ExitCode::SUCCESS };
        }
    };
    let Ok(settings) = settings_of(&args) else { return CONFIG_EXIT.into() };
    // Groups are few tasks that work long: sockets are looked at after some of them, not after 61 as by default.
    let runtime = match tokio::runtime::Builder::new_multi_thread().event_interval(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start threads: {error}");
            return EXIT_UNAVAILABLE.into();
        }
    };
    match runtime.block_on(serve(&args, &settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            EXIT_UNAVAILABLE.into()
        }
    }
}

/// The settings; what is wrong with them is logged, one line each.
fn settings_of(args: &Args) -> Result<Settings, ()> {
    args.settings(|name| std::env::var(name).ok()).map_err(|error| {
        for problem in &error.problems {
            error!("{}: {problem}", error.path.display());
        }
    })
}

async fn serve(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::bind(settings).await?;
    let (send, reload) = mpsc::channel(1);
    let args = args.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let Ok(settings) = settings_of(&args) else {
                error!("the configuration stays as it was");
                continue;
            };
            if send.send(settings).await.is_err() {
                break;
            }
            info!("reread the configuration");
        }
    });
    let stop = async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    };
    server.run(stop, reload).await;
    Ok(())
}

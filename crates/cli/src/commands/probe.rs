//! `hopcast probe`: the part of `verify` that runs where it sees the processes and networks of a Docker mesh, in a
//! short-lived container. `verify` starts it; nobody's to call by hand, so `--help` does not list it.
//!
//! It reads an [`Order`] from the first line of standard input, and says on standard output how far it is and what came of it,
//! a [`Said`] in each line. The rest of standard input is the tie to `verify`: it ends with it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hopcast_deploy::docker::pipe;
use hopcast_verify::{Options, Report, Target};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

/// Longest order, in bytes: a plan of some 10,000 peers.
const ORDER: u64 = 64 << 20;
/// How long the order may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two words of a check that goes on.
const EVERY: Duration = Duration::from_millis(100);

/// What is to be verified, and how. It holds the mesh's secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub target: Target,
    pub options: Options,
}

/// A line of the answer.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Progress {
        check: String,
        done: u64,
        total: u64,
    },
    Report(Report),
    /// The target is none.
    Error(String),
}

fn say(said: &Said) {
    // An answer has a JSON form; where nobody reads it the tie has ended too, and this process with it.
    if let Ok(line) = serde_json::to_string(said) {
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Of a check's steps those that come after a pause, and its last.
fn progress() -> impl Fn(hopcast_verify::Progress) + Send + Sync {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    move |step| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if step.done >= step.total || last.is_none_or(|last| last.elapsed() >= EVERY) {
            *last = Some(Instant::now());
            say(&Said::Progress { check: step.check.to_owned(), done: step.done, total: step.total });
        }
    }
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = Vec::new();
    tokio::time::timeout(PATIENCE, (&mut input).take(ORDER).read_until(b'\n', &mut line))
        .await
        .context("no order came")?
        .context("the order broke off")?;
    let order: Order = serde_json::from_slice(&line)
        .context("the order is not of this version; `hopcast up` renews the images")?;
    let tell = progress();
    tokio::select! {
        report = hopcast_verify::run(&order.target, &order.options, &tell) => say(&match report {
            Ok(report) => Said::Report(report),
            Err(error) => Said::Error(error.to_string()),
        }),
        () = pipe::untied(input, pipe::SILENCE) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reads_back() {
        let said = Said::Progress { check: "via".into(), done: 3, total: 160 };
        let line = serde_json::to_string(&said).unwrap();
        assert_eq!(line, r#"{"progress":{"check":"via","done":3,"total":160}}"#);
        assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
    }
}

//! `hopcast healthy`: whether a signalling server answers; the health check of its container, so `--help` does not list it.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use crate::{
    exit::{self, Failure},
    http,
};

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes.
const LIMIT: usize = 4096;

/// Arguments of `healthy`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's address
    #[arg(value_name = "ADDRESS:PORT")]
    at: SocketAddr,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let answer = http::get(arguments.at, "/healthz", LIMIT, ANSWER).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(Failure::new(exit::FAILED, format!("{}: {} {}", arguments.at, answer.status, answer.sentence()))
        .into())
}

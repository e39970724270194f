//! `hopcast keeper`: what `up` starts and leaves; nobody's to call by hand, so `--help` does not list it.

use std::path::PathBuf;

use clap::Args;
use hopcast_deploy::keeper;

/// Arguments of `keeper`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The mesh's state directory
    #[arg(long)]
    dir: PathBuf,
    /// Only end what is left of a mesh when its keeper is gone
    #[arg(long)]
    warden: bool,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    Ok(keeper::run(keeper::Options { dir: arguments.dir, warden: arguments.warden }).await?)
}

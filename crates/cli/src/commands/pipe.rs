//! `hopcast pipe`: the inner end of the operator's way to the databases of a Docker mesh; nobody's to call by hand, so
//! `--help` does not list it.

use std::path::PathBuf;

use clap::Args;
use hopcast_deploy::docker::pipe;

/// Arguments of `pipe`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The directory that gets a Unix socket for each target
    #[arg(long)]
    dir: PathBuf,
    /// What they lead to
    #[arg(required = true, value_name = "NAME=ADDRESS:PORT")]
    targets: Vec<pipe::Target>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    Ok(pipe::run(&arguments.dir, &arguments.targets).await?)
}

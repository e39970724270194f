//! `hopcast populate`: databases that somebody else started (NixOS hosts) get their schema, roles, replication and songs.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use hopcast_deploy::nixos;
use hopcast_protocol::MeshSecret;

use crate::{
    commands::generate::hosts,
    context::{Context, absolute},
    exit::{self, Failure},
    output::count,
    progress::Progress,
};

/// Arguments of `populate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The hosts' addresses: JSON, {"host": {"network": "address"}}
    #[arg(long, value_name = "FILE")]
    addresses: PathBuf,
    /// The origin's own directory of `generate nixos-keys`
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

impl Arguments {
    fn read(&self, name: &str) -> anyhow::Result<String> {
        read(&self.keys.join(name))
    }
}

/// The first line of a file.
fn read(path: &std::path::Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).map_err(|error| {
        let message =
            format!("cannot read {}: {error} (`hopcast generate nixos-keys` writes it)", path.display());
        Failure::new(exit::NO_INPUT, message)
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The mesh's secret in a file.
pub(crate) fn secret(path: &std::path::Path) -> anyhow::Result<MeshSecret> {
    read(path)?.trim().parse().with_context(|| format!("{} is not a mesh's secret", path.display()))
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let plan = absolute(context.plan()?)?;
    let hosts = hosts(&plan, &arguments.addresses)?;
    let secret = secret(&arguments.keys.join("secret"))?;
    let password = arguments.read("owner-password")?;
    let progress = Progress::new();
    let songs = nixos::populate(&plan, &hosts, &secret, &password, &progress).await?;
    drop(progress);
    let stored = count(songs.len(), "song");
    context.out.line(format_args!("{} edges replicate; {stored} stored anew", plan.edges.len()));
    context.out.result(&serde_json::json!({ "mesh": plan.mesh, "songs": songs }))
}

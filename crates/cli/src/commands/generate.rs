//! `hopcast generate`: the mesh for NixOS hosts. The flake's modules call the second form; the third is for who deploys.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use hopcast_deploy::{
    State,
    nixos::{self, Addresses, Hosts},
};
use hopcast_topology::Plan;

use crate::{
    context::{Context, absolute},
    exit::{self, Failure},
    output::count,
};

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What to make of the file.
#[derive(Debug, Subcommand)]
enum What {
    /// The hosts' NixOS modules, as readable Nix
    Nixos {
        #[command(flatten)]
        of: Of,
    },
    /// Every node's files without its secrets, for the hosts' modules
    NixosConfigs {
        #[command(flatten)]
        of: Of,
        /// The hosts' addresses: JSON, {"host": {"network": "address"}}
        #[arg(long, value_name = "FILE")]
        addresses: PathBuf,
        /// The directory to write; it must not be there
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
    /// The secret files of every host, to be brought there
    NixosKeys {
        #[command(flatten)]
        of: Of,
        /// The directory to write: one directory for each host in it
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        /// Only this host's
        #[arg(long)]
        host: Option<String>,
    },
}

/// What it is made of.
#[derive(Debug, Args)]
struct Of {
    /// The topology file [default: topology.toml here or in the nearest directory above]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The hosts of a plan, at the addresses that a file has.
pub(crate) fn hosts(plan: &Plan, path: &Path) -> anyhow::Result<Hosts> {
    let path_name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(exit::NO_INPUT, format!("cannot read {path_name}: {error}")))?;
    let addresses: Addresses =
        serde_json::from_str(&text).with_context(|| format!("{path_name} is not a file of addresses"))?;
    Hosts::new(plan, addresses).with_context(|| path_name.to_string())
}

pub(crate) fn run(context: &mut Context, arguments: &Arguments) -> anyhow::Result<()> {
    let (What::Nixos { of } | What::NixosConfigs { of, .. } | What::NixosKeys { of, .. }) = &arguments.what;
    context.set_file(of.file.clone());
    let plan = absolute(context.plan()?)?;
    match &arguments.what {
        What::Nixos { .. } => {
            let text = nixos::definitions(&plan)?;
            if context.out.is_json() {
                return context.out.result(&serde_json::json!({ "nix": text }));
            }
            context.out.text(text);
            Ok(())
        }
        What::NixosConfigs { addresses, output, .. } => {
            let files = nixos::configs(&plan, &hosts(&plan, addresses)?)?;
            directory(output, 0o755)?;
            for (path, text) in &files {
                write(&output.join(path), text, 0o644)?;
            }
            told(context, output, files.len())
        }
        What::NixosKeys { output, host, .. } => {
            let mut keys = nixos::keys(&plan, &secret(&plan)?)?;
            if let Some(host) = host {
                let known: Vec<_> = keys.iter().map(|keys| keys.host.clone()).collect();
                keys.retain(|keys| keys.host == *host);
                if keys.is_empty() {
                    let message = format!("the plan has no host {host}: there are {}", known.join(", "));
                    return Err(Failure::new(exit::USAGE, message).into());
                }
            }
            if !output.is_dir() {
                directory(output, 0o700)?;
            }
            let mut written = 0;
            for keys in &keys {
                let folder = output.join(&keys.host);
                if !folder.is_dir() {
                    directory(&folder, 0o700)?;
                }
                for (path, text) in &keys.files {
                    write(&folder.join(path), text, 0o400)?;
                    written += 1;
                }
            }
            told(context, output, written)
        }
    }
}

/// The mesh's secret; made where there is none, as `up` does.
fn secret(plan: &Plan) -> anyhow::Result<hopcast_protocol::MeshSecret> {
    let state = State::new(State::default_root()?, plan.mesh.clone());
    if let Some(secret) = state.secret()? {
        return Ok(secret);
    }
    state.create_root().map_err(|error| exit::cannot_write(state.root(), &error))?;
    let dir = state.dir();
    if !dir.is_dir() {
        directory(&dir, 0o700)?;
    }
    // Two that make one at once would hand out keys of two secrets.
    let _lock = state.lock()?;
    Ok(state.create_secret()?.0)
}

fn directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).map_err(|error| exit::cannot_write(path, &error))
}

/// Writes a whole file; one that is there is replaced.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let written = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if path.exists() {
            fs::remove_file(path)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
    };
    written().map_err(|error| exit::cannot_write(path, &error))
}

fn told(context: &Context, output: &Path, files: usize) -> anyhow::Result<()> {
    context.out.line(format_args!("wrote {} to {}", count(files, "file"), output.display()));
    context.out.result(&serde_json::json!({ "directory": output, "files": files }))
}

//! `hopcast down`: removes exactly what is the mesh's.

use std::path::Path;

use clap::Args;
use hopcast_deploy::{DestroyOptions, Destroyed};
use hopcast_protocol::MeshName;
use serde::Serialize;

use crate::{
    context::{Context, Which},
    interrupt::until_signal,
    output::count,
    progress::Progress,
};

/// Arguments of `down`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Remove its data and its secret as well
    #[arg(long)]
    purge: bool,
    /// Keep the databases' data on Docker, too, where they are volumes
    #[arg(long, conflicts_with = "purge")]
    keep_data: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    mesh: &'a MeshName,
    #[serde(flatten)]
    destroyed: Destroyed,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    context.named(&arguments.which)?;
    let mesh = context.mesh(&arguments.which)?;
    let backend = context.backend(&arguments.which).await?;
    let unseen = context.unseen(&arguments.which)?;
    let options = DestroyOptions { purge: arguments.purge, keep_data: arguments.keep_data };
    let progress = Progress::new();
    let destroyed = until_signal(&*backend, async { Ok(backend.destroy(options, &progress).await?) }).await?;
    drop(progress);
    let nothing = destroyed.stopped.is_empty() && destroyed.orphans.is_empty();
    if nothing && !destroyed.networks.is_empty() {
        context.out.line(format_args!(
            "mesh {mesh} was not running; what was left of it is gone: {}",
            destroyed.networks.join(", ")
        ));
    } else if nothing {
        context.out.line(unseen.unwrap_or_else(|| format!("mesh {mesh} was not running")));
    } else {
        let stopped = count(destroyed.stopped.len(), "node");
        context.out.line(format_args!("mesh {mesh} is down: {stopped} stopped"));
        if !destroyed.orphans.is_empty() {
            let orphans = count(destroyed.orphans.len(), "process");
            context.out.line(format_args!("also stopped: {orphans} that an earlier run had left behind"));
        }
    }
    if !destroyed.stuck.is_empty() {
        context.out.note(format_args!(
            "note: the engine keeps {}: it counts endpoints there that it does not have any more (a fault of Docker 20.10). A restart of the engine mends it; `hopcast up` can use them as they are",
            destroyed.stuck.join(", ")
        ));
    }
    if let Some(kept) = &destroyed.kept {
        context.out.line(stays(backend.name(), arguments.purge, kept));
    }
    if !destroyed.volumes.is_empty() {
        context.out.line(format_args!(
            "its data are still in {}; `hopcast down --backend docker --name {mesh}` removes them",
            destroyed.volumes.join(", ")
        ));
    }
    context.out.result(&Answer { mesh: &mesh, destroyed })
}

/// What is still in the mesh's directory.
fn stays(backend: &str, purge: bool, dir: &Path) -> String {
    let dir = dir.display();
    match (backend, purge) {
        ("docker", false) => format!("its secret is still in {dir}; --purge removes it"),
        (_, false) => format!("its data are still in {dir}; --purge removes them"),
        // A purge leaves something only where the other backend needs it.
        (backend, true) => {
            let other = if backend == "docker" { "local" } else { "docker" };
            format!(
                "what the mesh of that name on the backend {other} needs is still in {dir}; `hopcast down --backend {other} --purge` removes it"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_told_by_backend() {
        let said = |backend, purge| stays(backend, purge, Path::new("/state/m"));
        assert_eq!(said("local", false), "its data are still in /state/m; --purge removes them");
        assert_eq!(said("docker", false), "its secret is still in /state/m; --purge removes it");
        assert!(said("local", true).contains("down --backend docker --purge"), "{}", said("local", true));
        assert!(said("docker", true).contains("down --backend local --purge"), "{}", said("docker", true));
    }
}

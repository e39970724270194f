//! `hopcast verify`: the black-box test of the running mesh.

use std::path::PathBuf;

use clap::Args;
use hopcast_deploy::{NodeRole, Status};
use hopcast_protocol::SongName;
use hopcast_verify::{
    DatabaseRole, DatabaseTarget, Options, PeerTarget, ProcessRole, ProcessTarget, Report, Separation, Target,
};

use crate::{
    context::{Context, Running, Which},
    exit,
    progress::Progress,
};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Fetch this song only [default: every song that is stored]
    #[arg(long)]
    song: Option<SongName>,
    /// Choose other peers, segments and routes where not all are tried
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report as JUnit XML as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let running = context.must_run(&arguments.which).await?;
    context.note_changes(&arguments.which, &running.plan);
    let status = running.backend.status().await?;
    let target = target(running, &status);
    let options = Options { song: arguments.song.clone(), seed: arguments.seed, ..Options::default() };
    let progress = Progress::new();
    let report =
        hopcast_verify::run(&target, &options, &|step| progress.step(step.check, step.done, step.total))
            .await?;
    drop(progress);
    if let Some(path) = &arguments.junit {
        std::fs::write(path, report.junit()).map_err(|error| exit::cannot_write(path, &error))?;
    }
    context.out.line(&report);
    context.out.result(&report)?;
    Ok(Report::exit_code(&report))
}

/// What the backend says, in the verifier's words.
fn target(running: Running, status: &Status) -> Target {
    let Running { backend, plan, access } = running;
    let pid = |name: &str| status.node(name).and_then(|node| node.pid);
    let peers = plan
        .peers
        .iter()
        .map(|peer| PeerTarget {
            name: peer.name.clone(),
            endpoint: backend.endpoint(peer),
            pid: pid(peer.name.as_str()),
        })
        .collect();
    let processes = status
        .nodes
        .iter()
        .filter_map(|node| {
            let role = match node.role {
                NodeRole::Peer => return None,
                NodeRole::Signalling => ProcessRole::Signalling,
                NodeRole::Database => ProcessRole::Database,
                NodeRole::Keeper => ProcessRole::Keeper,
            };
            Some(ProcessTarget { pid: node.pid?, name: node.name.clone(), role })
        })
        .collect();
    let database = |name, role, address| DatabaseTarget {
        name,
        role,
        address,
        database: plan.postgres.database.clone(),
    };
    let mut databases = vec![database(plan.origin.name.clone(), DatabaseRole::Origin, plan.origin.local)];
    databases
        .extend(plan.edges.iter().map(|edge| database(edge.name.clone(), DatabaseRole::Edge, edge.local)));
    Target {
        secret: access.secret,
        backend: backend.name().to_owned(),
        separation: Separation::Addresses,
        signalling: access.signalling,
        door: access.door,
        peers,
        processes,
        databases,
        memory_cap: plan.limits.memory,
        plan,
    }
}

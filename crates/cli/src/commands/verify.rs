//! `hopcast verify`: the black-box test of the running mesh. Where its processes can't be seen from here (Docker), the test runs
//! in a short-lived container where they can (`probe`), and this command shows what it says.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hopcast_deploy::{Backend, NodeRole, Status};
use hopcast_protocol::SongName;
use hopcast_verify::{
    DatabaseRole, DatabaseTarget, Options, PeerTarget, ProcessRole, ProcessTarget, Report, Separation, Target,
};

use crate::{
    commands::probe::{Order, Said},
    context::{Context, Running, Which},
    exit,
    interrupt::until_signal,
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
    let order = Order {
        target: target(&running, &status),
        options: Options { song: arguments.song.clone(), seed: arguments.seed, ..Options::default() },
    };
    let backend = &*running.backend;
    let report = until_signal(backend, verify(backend, &order)).await?;
    if let Some(path) = &arguments.junit {
        std::fs::write(path, report.junit()).map_err(|error| exit::cannot_write(path, &error))?;
    }
    context.out.line(&report);
    context.out.result(&report)?;
    Ok(Report::exit_code(&report))
}

/// Runs the checks here, or has them run where they can see the mesh.
async fn verify(backend: &dyn Backend, order: &Order) -> anyhow::Result<Report> {
    let progress = Progress::new();
    if order.target.separation == Separation::Addresses {
        let tell = |step: hopcast_verify::Progress| progress.step(step.check, step.done, step.total);
        return Ok(hopcast_verify::run(&order.target, &order.options, &tell).await?);
    }
    let mut report = None;
    let mut hear = |line: &str| match serde_json::from_str(line) {
        Ok(Said::Progress { check, done, total }) => progress.step(&check, done, total),
        Ok(Said::Report(told)) => report = Some(Ok(told)),
        Ok(Said::Error(why)) => report = Some(Err(why)),
        Err(_) => progress.note(line),
    };
    let mut input = serde_json::to_vec(order).context("the order cannot be written")?;
    input.push(b'\n');
    let words = backend.outside(&["probe"], input, &mut hear).await?;
    match report {
        Some(report) => report.map_err(anyhow::Error::msg),
        None => anyhow::bail!("the checks broke off: {}", words.unwrap_or_default()),
    }
}

/// What the backend says, in the verifier's words.
fn target(running: &Running, status: &Status) -> Target {
    let Running { backend, plan, access } = running;
    let apart = backend.name() == "docker";
    let pid = |name: &str| status.node(name).and_then(|node| node.pid);
    let peers = plan
        .peers
        .iter()
        .map(|peer| PeerTarget {
            name: peer.name.clone(),
            endpoint: if apart { peer.docker } else { peer.local },
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
    let database = |name: &hopcast_protocol::DatabaseName, role, local, docker| DatabaseTarget {
        name: name.clone(),
        role,
        address: if apart { docker } else { local },
        database: plan.postgres.database.clone(),
    };
    let origin = &plan.origin;
    let mut databases =
        vec![database(&origin.name, DatabaseRole::Origin, origin.local, origin.docker.address)];
    databases.extend(
        plan.edges
            .iter()
            .map(|edge| database(&edge.name, DatabaseRole::Edge, edge.local, edge.docker.address)),
    );
    let server = plan.signalling.docker;
    Target {
        secret: access.secret.clone(),
        backend: backend.name().to_owned(),
        separation: if apart { Separation::Namespaces } else { Separation::Addresses },
        signalling: if apart { server } else { access.signalling },
        // In Docker it is in the signalling server's container.
        door: if apart { Some((server.ip(), plan.local.door.port()).into()) } else { access.door },
        peers,
        processes,
        databases,
        memory_cap: plan.limits.memory,
        plan: plan.clone(),
    }
}

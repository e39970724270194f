//! `hopcast verify`: the black-box test of the running mesh. Where its processes can't be seen from here (Docker), the test runs
//! in a short-lived container where they can (`probe`), and this command shows what it says.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use hopcast_deploy::{Backend, NodeRole, Status};
use hopcast_protocol::{MeshName, SongName};
use hopcast_topology::Plan;
use hopcast_verify::{
    DatabaseRole, DatabaseTarget, Options, PeerTarget, ProcessRole, ProcessTarget, Report, Separation, Target,
};

use crate::{
    commands::{
        generate, populate,
        probe::{Order, Said},
    },
    context::{Context, Kind, On, Running, Which},
    exit,
    interrupt::until_signal,
    progress::Progress,
};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The mesh of this name, whatever the topology file says or whether there is one
    #[arg(long, value_name = "MESH")]
    name: Option<MeshName>,
    /// What runs the mesh [default: what it runs on]
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<At>,
    /// With --backend nixos: the hosts' addresses, as `generate nixos-configs` takes them
    #[arg(long, value_name = "FILE", required_if_eq("backend", "nixos"))]
    addresses: Option<PathBuf>,
    /// With --backend nixos: the file with the mesh's secret
    #[arg(long, value_name = "FILE", required_if_eq("backend", "nixos"))]
    secret: Option<PathBuf>,
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

/// Where a mesh can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum At {
    /// Processes of this machine and embedded PostgreSQL
    Local,
    /// Containers of this machine's Docker engine
    Docker,
    /// NixOS hosts, seen from the origin's; the checks that look into processes are left out
    Nixos,
}

impl Arguments {
    fn options(&self) -> Options {
        Options { song: self.song.clone(), seed: self.seed, ..Options::default() }
    }

    fn which(&self) -> Which {
        let backend = self.backend.and_then(|at| match at {
            At::Local => Some(Kind::Local),
            At::Docker => Some(Kind::Docker),
            At::Nixos => None,
        });
        Which { name: self.name.clone(), on: On { backend } }
    }
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let junit = arguments.junit.as_deref();
    let report = if let (Some(addresses), Some(secret)) = (&arguments.addresses, &arguments.secret) {
        let plan = context.plan()?;
        let target = hosts_target(plan, addresses, secret)?;
        junit.map_or(Ok(()), can_be_written)?;
        let progress = Progress::new();
        let tell = |step: hopcast_verify::Progress| progress.step(step.check, step.done, step.total);
        hopcast_verify::run(&target, &arguments.options(), &tell).await?
    } else {
        let which = arguments.which();
        let running = context.must_run(&which).await?;
        junit.map_or(Ok(()), can_be_written)?;
        context.note_changes(&which, &running.plan);
        let status = running.backend.status().await?;
        let order = Order { target: target(&running, &status), options: arguments.options() };
        let backend = &*running.backend;
        until_signal(backend, verify(backend, &order)).await?
    };
    if let Some(path) = junit {
        std::fs::write(path, report.junit()).map_err(|error| exit::cannot_write(path, &error))?;
    }
    context.out.line(&report);
    context.out.result(&report)?;
    Ok(Report::exit_code(&report))
}

/// The checks take a while: whether their report can be written is seen before them. Nothing is left of the look; a pipe's reader
/// would take it for the report's end.
fn can_be_written(path: &Path) -> anyhow::Result<()> {
    let options = || {
        let mut options = File::options();
        options.append(true);
        options
    };
    let opened = match std::fs::metadata(path) {
        Ok(seen) if !seen.is_file() && !seen.is_dir() => return Ok(()),
        Ok(_) => options().open(path).map(drop),
        Err(_) => options().create_new(true).open(path).and_then(|_| std::fs::remove_file(path)),
    };
    opened.map_err(|error| exit::cannot_write(path, &error))
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

/// A mesh on NixOS hosts: there is no engine to ask, so everything is as the plan and the addresses say.
fn hosts_target(plan: Plan, addresses: &Path, secret: &Path) -> anyhow::Result<Target> {
    let hosts = generate::hosts(&plan, addresses)?;
    let peer = |peer: &hopcast_topology::plan::Peer| PeerTarget {
        name: peer.name.clone(),
        endpoint: hosts.peer(peer),
        pid: None,
    };
    let database = |name: &hopcast_protocol::DatabaseName, role| DatabaseTarget {
        name: name.clone(),
        role,
        address: hosts.database(&plan, name),
        database: plan.postgres.database.clone(),
    };
    let mut databases = vec![database(&plan.origin.name, DatabaseRole::Origin)];
    databases.extend(plan.edges.iter().map(|edge| database(&edge.name, DatabaseRole::Edge)));
    Ok(Target {
        secret: populate::secret(secret)?,
        backend: "nixos".into(),
        separation: Separation::Hosts,
        signalling: hosts.server(&plan),
        door: None,
        peers: plan.peers.iter().map(peer).collect(),
        processes: Vec::new(),
        databases,
        memory_cap: plan.limits.memory,
        plan,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_whether_a_report_can_be_written_leaves_nothing_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new.xml"), folder.path().join("old.xml"));
        std::fs::write(&old, "kept").unwrap();
        can_be_written(&new).unwrap();
        can_be_written(&old).unwrap();
        can_be_written(Path::new("/dev/full")).unwrap();
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "kept");
        for path in [folder.path(), &folder.path().join("no/such/report.xml")] {
            assert_eq!(exit::code(&can_be_written(path).unwrap_err()), exit::CANNOT_WRITE);
        }
    }
}

//! `hopcast doctor`: what this machine lacks for a mesh, each with what to do about it. It changes nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use clap::Args;
use hopcast_deploy::{
    Docker, Finding, Local, State, Verdict,
    docker::doctor::{self, Memory},
    postgres::Postgres,
    programs::Programs,
};
use hopcast_protocol::MeshName;
use hopcast_store::Prepared;
use hopcast_topology::Plan;
use serde::Serialize;

use crate::{
    context::{self, Context, Kind},
    exit,
    output::{count, table},
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the mesh is to run on
    #[arg(long, value_enum, value_name = "BACKEND", default_value_t = Kind::Local)]
    backend: Kind,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    // Without a file there is still something to say about the machine.
    let (topology, plan) = match context.load() {
        Ok(loaded) => (Finding::ok("topology", loaded.path.display().to_string()), Some(loaded.plan)),
        Err(error) => {
            let found = Finding::missing("topology", format!("{error:#}"));
            let absent = exit::code(&error) == exit::NO_INPUT;
            (if absent { found.optional() } else { found }, None)
        }
    };
    let programs = Finding::of("programs", Programs::find(), |programs| {
        let folder = programs.peer.parent().unwrap_or(Path::new(".")).display().to_string();
        format!("hopcast-peer and hopcast-signalling: {folder}")
    });
    let mut memory = None;
    let mut findings = Vec::new();
    match arguments.backend {
        Kind::Local => {
            findings.extend([postgresql(plan.as_ref()).await, programs]);
            findings.extend(tools(plan.as_ref()));
            findings.extend([state(), topology]);
            if let Some(plan) = &plan {
                findings.extend(of_plan(plan).await);
            }
        }
        Kind::Docker => {
            // The images have both in them: whether they are needed is said there.
            findings.extend([postgresql(None).await.optional(), programs.optional()]);
            findings.extend(tools(plan.as_ref()));
            findings.extend([state(), topology]);
            let mesh = match &plan {
                Some(plan) => plan.mesh.clone(),
                // The engine alone is looked at.
                None => MeshName::new("doctor")?,
            };
            let docker = Docker::new(State::new(State::default_root()?, mesh));
            let found = doctor::look(&docker, plan.as_ref()).await;
            findings.extend(found.findings);
            memory = found.memory;
        }
    }
    findings.extend(plan.as_ref().map(files));
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let word = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Missing => "MISSING",
            };
            [word.to_owned(), finding.what.to_owned(), finding.detail.clone()]
        })
        .collect();
    context.out.human(table(&rows));
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
    context.out.line(if missing == 0 {
        "this machine can run the mesh".to_owned()
    } else {
        format!("{} to put right before `hopcast up`", count(missing, "thing"))
    });
    context.out.result(&Answer { ready: missing == 0, backend: arguments.backend, findings, memory })?;
    Ok(if missing == 0 { exit::OK } else { exit::FAILED })
}

#[derive(Serialize)]
struct Answer {
    ready: bool,
    backend: Kind,
    findings: Vec<Finding>,
    /// What the mesh will take, in bytes (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

/// The PostgreSQL that `up` would take for the plan's databases, and without a plan for any.
async fn postgresql(plan: Option<&Plan>) -> Finding {
    let found = match plan.zip(State::default_root().ok()) {
        Some((plan, root)) => Local::new(State::new(root, plan.mesh.clone())).postgres(plan).await,
        None => Postgres::find(Path::new("/nonexistent"), &[]),
    };
    Finding::of("postgresql", found, |found| match found {
        Postgres::Installed { bin, major } => format!("{major}, in {}", bin.display()),
        Postgres::Download => "pg-embed will download it".to_owned(),
    })
}

/// Programs of others that some commands use.
fn tools(plan: Option<&Plan>) -> [Finding; 2] {
    let graphviz = "`hopcast graph` writes SVG and PNG with it (Debian: apt-get install graphviz)";
    let encodes = "`up` and `ingest` encode audio files with it (Debian: apt-get install ffmpeg)";
    let ffmpeg = tool("ffmpeg", "ffmpeg", "-version", encodes);
    let is_used = plan.is_some_and(|plan| plan.songs.iter().any(|song| Prepared::is_encoded(&song.path)));
    [tool("graphviz", "dot", "-V", graphviz).optional(), if is_used { ffmpeg } else { ffmpeg.optional() }]
}

/// The files that the topology file names.
fn files(plan: &Plan) -> Finding {
    let wrong: Vec<_> = hopcast_deploy::unreadable(plan).map(|error| error.to_string()).collect();
    if wrong.is_empty() {
        Finding::ok(
            "files",
            format!("{} and what else the file names can be read", count(plan.songs.len(), "song")),
        )
    } else {
        Finding::missing("files", wrong.join("; "))
    }
}

fn tool(what: &'static str, program: &str, version: &str, needed: &str) -> Finding {
    let found = match Command::new(program).arg(version).output() {
        Ok(output) => {
            // `dot -V` writes to stderr.
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
        }
        Err(error) => Err(format!("{program} does not run ({error}); {needed}")),
    };
    Finding::of(what, found, |version| version)
}

/// The nearest existing directory of the state root must be writable.
fn state() -> Finding {
    let found = State::default_root().map_err(|error| error.to_string()).and_then(|root| {
        let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
            .map(|()| root.clone())
            .map_err(|error| format!("{} cannot be written ({error}); set HOPCAST_STATE", there.display()))
    });
    Finding::of("state directory", found, |root| root.display().to_string())
}

/// What the file's mesh needs of this machine.
async fn of_plan(plan: &Plan) -> Vec<Finding> {
    let mut findings = vec![Finding::of("descriptors", Local::open_files(plan), |needed| {
        format!("{needed} needed at most in one process, which are allowed")
    })];

    // A running mesh of this name holds the addresses itself.
    let runs = match context::backend(plan.mesh.clone(), Kind::Local) {
        Ok(backend) => backend.status().await.is_ok_and(|status| status.is_running()),
        Err(_) => false,
    };
    let found =
        if runs { Ok("held by the mesh itself, which is running".to_owned()) } else { addresses(plan) };
    findings.push(Finding::of("addresses", found, |text| text));
    findings
}

/// Tries to listen wherever the mesh will. Nothing stays open.
fn addresses(plan: &Plan) -> Result<String, String> {
    let databases = plan.edges.iter().map(|edge| (edge.name.to_string(), edge.local));
    let all: Vec<(String, SocketAddr)> = plan
        .peers
        .iter()
        .map(|peer| (peer.name.to_string(), peer.local))
        .chain([(plan.origin.name.to_string(), plan.origin.local)])
        .chain(databases)
        .chain([
            ("the signalling server".to_owned(), plan.signalling.local),
            ("the door".to_owned(), plan.local.door),
        ])
        .collect();
    let taken: Vec<_> =
        all.iter().filter_map(|(name, address)| Some((name, address, listen(*address)?))).collect();
    let Some((name, address, error)) = taken.first() else {
        let (first, last) = (plan.peers.first(), plan.peers.last());
        let range = first.zip(last).map_or(String::new(), |(first, last)| {
            format!("; the peers' are {} to {}", first.local, last.local)
        });
        return Ok(format!("{} free{range}", all.len()));
    };
    let port = address.port();
    let hint = if listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).is_some() {
        format!(
            "; `ss -ltnp 'sport = :{port}'` shows who listens there (a listener on 0.0.0.0:{port} takes all addresses)"
        )
    } else {
        String::new()
    };
    let more =
        if taken.len() > 1 { format!(", and {} more are not free", taken.len() - 1) } else { String::new() };
    Err(format!("{name} cannot listen on {address}: {error}{more}{hint}"))
}

/// Why nothing can listen there.
fn listen(address: SocketAddr) -> Option<io::Error> {
    TcpListener::bind(address).err()
}

//! hopcast's side: the real program, as a process, on the given topology.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    programs,
    stop::{Interrupted, Stop},
};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(900);
/// How long an interrupted one may take to end what it has begun.
const WIND_UP: Duration = Duration::from_secs(150);

/// What the floor needs of the plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) mesh: String,
    pub(super) peers: usize,
    /// Beside the one that all peers share: who is in each further network, by number from 1.
    pub(super) networks: Vec<Vec<usize>>,
    pub(super) image: String,
    pub(super) memory: i64,
    pub(super) nano_cpus: i64,
    pub(super) pids: i64,
}

/// What one `up` took, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Up {
    /// From before the first peer's container was made until the last was started.
    pub(super) started: f64,
    /// Until every peer was connected.
    pub(super) connected: f64,
    /// All of it.
    pub(super) whole: f64,
    /// Containers that it made.
    pub(super) containers: usize,
}

pub(super) struct Ours {
    hopcast: PathBuf,
    topology: PathBuf,
    peers: Option<u32>,
    /// A state directory of its own: the secret and the files of a real mesh stay as they are.
    state: TempDir,
    stop: Stop,
    /// The mesh may be there.
    begun: bool,
}

impl Ours {
    pub(super) fn new(topology: &Path, peers: Option<u32>, stop: Stop) -> Result<Self> {
        let state = tempfile::Builder::new()
            .prefix("hopcast-bench-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let hopcast = programs::ours("hopcast")?;
        Ok(Self { hopcast, topology: topology.to_owned(), peers, state, stop, begun: false })
    }

    /// What the file and the variables mean.
    pub(super) async fn plan(&self) -> Result<Plan> {
        read_plan(&self.run(&["plan"], false).await?)
    }

    /// Makes what is missing, so that no `up` has to.
    pub(super) async fn images(&self) -> Result<()> {
        self.run(&["image", "build"], false).await.map(drop)
    }

    pub(super) async fn up(&mut self) -> Result<Up> {
        self.begun = true;
        read_up(&self.run(&["up", "--backend", "docker"], false).await?)
    }

    /// Seconds until nothing is left.
    pub(super) async fn down(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.run(&["down", "--backend", "docker"], false).await?;
        let seconds = begin.elapsed().as_secs_f64();
        self.begun = false;
        Ok(seconds)
    }

    /// Takes the mesh down if it may be there, signal or not.
    pub(super) async fn put_away(&self) -> Result<()> {
        if self.begun {
            self.run(&["down", "--backend", "docker", "--purge"], true).await?;
        }
        Ok(())
    }

    /// Runs one command to its end; the object that it printed. A signal is passed on to it, unless `to_the_end`.
    async fn run(&self, arguments: &[&str], to_the_end: bool) -> Result<Value> {
        if !to_the_end {
            self.stop.check()?;
        }
        let what = format!("`hopcast {}`", arguments.join(" "));
        let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = Command::new(&self.hopcast);
        command.args(["--json", "--file"]).arg(&self.topology).args(arguments);
        command.env("HOPCAST_STATE", self.state.path());
        if let Some(peers) = self.peers {
            let most = peers.max(160);
            command.env("COUNT", peers.to_string()).env("MAX_COUNT", most.to_string());
        }
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        // A Ctrl-C is ours alone to pass on.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("failed to start {what}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let end = |signal| pid.map(|pid| kill_process(pid, signal));
        let asked = async { if to_the_end { std::future::pending().await } else { self.stop.asked().await } };
        let mut interrupted: Option<Interrupted> = None;
        let status = tokio::select! {
            status = timeout(LIMIT, child.wait()) => status,
            asked = asked => {
                interrupted = Some(asked);
                end(Signal::TERM);
                timeout(WIND_UP, child.wait()).await
            }
        };
        let Ok(status) = status else {
            end(Signal::KILL);
            child.wait().await?;
            bail!("{what} did not end within {} s", LIMIT.as_secs());
        };
        if let Some(interrupted) = interrupted {
            bail!(interrupted);
        }
        let read = |file: &mut fs::File| -> Result<String> {
            let mut text = String::new();
            file.seek(SeekFrom::Start(0))?;
            file.take(64 << 20).read_to_string(&mut text)?;
            Ok(text)
        };
        let status = status?;
        if !status.success() {
            bail!("{what} failed ({status}): {}", read(&mut stderr)?.trim());
        }
        programs::last_json(&read(&mut stdout)?).with_context(|| format!("{what} printed something odd"))
    }
}

fn read_plan(plan: &Value) -> Result<Plan> {
    let number =
        |field: &Value, name: &str| field.as_i64().with_context(|| format!("the plan has no `{name}`"));
    let text = |field: &Value, name: &str| {
        Ok::<_, anyhow::Error>(
            field.as_str().with_context(|| format!("the plan has no `{name}`"))?.to_owned(),
        )
    };
    let limits = &plan["limits"];
    let peers = plan["peers"].as_array().context("the plan has no `peers`")?;
    // An edge database and its peers share a network.
    let mut networks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, peer) in peers.iter().enumerate() {
        let edges = peer["edges"].as_array().context("a peer of the plan has no `edges`")?;
        for edge in edges.iter().filter_map(Value::as_str) {
            networks.entry(edge).or_default().push(at + 1);
        }
    }
    let cpus = limits["cpus"].as_f64().context("the plan has no `limits.cpus`")?;
    Ok(Plan {
        mesh: text(&plan["mesh"], "mesh")?,
        peers: peers.len(),
        networks: networks.into_values().collect(),
        image: text(&plan["docker"]["peer_image"], "docker.peer_image")?,
        memory: number(&limits["memory"], "limits.memory")?,
        nano_cpus: (cpus * 1e9).round() as i64,
        pids: number(&limits["pids"], "limits.pids")?,
    })
}

/// Reads the steps of `up --json`: see `steps` in its answer.
fn read_up(answer: &Value) -> Result<Up> {
    let steps = answer["steps"].as_array().context("`up --json` has no `steps`")?;
    let step = |name: &str| -> Result<(f64, f64)> {
        let step = steps.iter().find(|step| step["step"] == name);
        let step =
            step.with_context(|| format!("`up --json` has no step `{name}`: was the mesh up already?"))?;
        let time = |end: &str| step[end].as_f64().with_context(|| format!("step `{name}` has no `{end}`"));
        Ok((time("from")?, time("to")?))
    };
    let (processes, connected) = (step("processes")?, step("connected")?);
    // Its first word comes before the first container is made.
    let begin = processes.0;
    let started = answer["changes"]["started"].as_array().map_or(0, Vec::len);
    Ok(Up {
        started: processes.1 - begin,
        connected: processes.1.max(connected.1) - begin,
        whole: answer["seconds"].as_f64().context("`up --json` has no `seconds`")?,
        containers: started,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_turn_is_from_the_first_container_to_the_last_connection() {
        let answer = |steps: Value| serde_json::json!({ "seconds": 30.5, "changes": { "started": ["a", "b"] }, "steps": steps });
        let up = read_up(&answer(serde_json::json!([
            { "step": "images", "from": 0.0, "to": 2.0 },
            { "step": "databases", "from": 3.0, "to": 4.0 },
            { "step": "processes", "from": 9.0, "to": 24.0 },
            { "step": "connected", "from": 24.1, "to": 25.0 },
        ])));
        assert_eq!(up.unwrap(), Up { started: 15.0, connected: 16.0, whole: 30.5, containers: 2 });
        let error = read_up(&answer(serde_json::json!([]))).unwrap_err().to_string();
        assert!(error.contains("processes"), "{error}");
    }
}

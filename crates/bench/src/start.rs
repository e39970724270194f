//! `hopcast bench start`: a cold `up` of a whole mesh beside its floor.
//!
//! The floor: as many `initdb` and `pg_ctl start` as the mesh has databases, in parallel, each in a fresh directory; then one
//! spawn of a no-op program of the peer's size for each peer. The two are measured in turn. Warm is the second time in the same
//! directories: the floor is `pg_ctl start` and the spawns.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    median,
    programs::{self, Unprivileged},
    row::{Figures, Row, Target},
    stop,
};

const UP_LIMIT: Duration = Duration::from_secs(180);

/// How long the idle peers are watched: two rounds of the server's pings.
const IDLE_SECONDS: u64 = 10;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Rounds of both.
    pub rounds: usize,
    /// Peers of the mesh.
    pub peers: u64,
    /// Databases of the mesh.
    pub databases: u64,
    /// Median of `up --detach`: the whole command, which ends when every peer is connected and every edge replicates.
    pub up_seconds: f64,
    /// Median of the floor.
    pub floor_seconds: f64,
    /// `up_seconds / floor_seconds`.
    pub ratio: f64,
    /// What all peers together take of one core while nothing happens, in per cent, over 10 s of the last round.
    pub idle_cpu_percent: f64,
    /// Median of a second `up` over the data of the first.
    pub warm_seconds: f64,
    /// Median of the warm floor.
    pub warm_floor_seconds: f64,
    /// `warm_seconds / warm_floor_seconds`.
    pub warm_ratio: f64,
    /// The same as rows.
    pub rows: Vec<Row>,
    /// Every round of `up`.
    pub up_all: Vec<f64>,
    /// Every round of the floor.
    pub floor_all: Vec<f64>,
}

/// Measures both, `rounds` times in turn. `note` is told what is being done.
pub fn run(topology: &Path, rounds: usize, note: &dyn Fn(&str)) -> Result<Report> {
    let hopcast = programs::ours("hopcast")?;
    let peer_size = fs::metadata(programs::ours("hopcast-peer")?)?.len();
    let plan = programs::output(
        std::process::Command::new(&hopcast).args(["plan", "--json", "--file"]).arg(topology),
        Duration::from_secs(30),
    )?;
    let plan = programs::last_json(&plan)?;
    let count = |field: &str| {
        plan[field].as_array().map(Vec::len).with_context(|| format!("the plan has no `{field}`"))
    };
    let (peers, databases) = (count("peers")?, count("edges")? + 1);
    let (mut up_all, mut floor_all) = (Vec::new(), Vec::new());
    let (mut warm_all, mut warm_floor_all) = (Vec::new(), Vec::new());
    // What a round leaves on disk is removed after the last one: ext4 looks a while for inodes that were not freed just now,
    // and each side would pay for the other's removals.
    let mut leftovers = Vec::new();
    let mut idle_cpu_percent = 0.0;
    for round in 1..=rounds {
        note(&format!("round {round} of {rounds}: the floor"));
        let (cold, warm) = floor(databases, peers, peer_size, &mut leftovers)?;
        floor_all.push(cold);
        warm_floor_all.push(warm);
        note(&format!("round {round} of {rounds}: up"));
        let up = up(&hopcast, topology, round == rounds, &mut leftovers)?;
        up_all.push(up.cold);
        warm_all.push(up.warm);
        idle_cpu_percent = up.idle;
    }
    let middle = |all: &[f64]| median(all).context("at least one round is needed");
    let (up_seconds, floor_seconds) = (middle(&up_all)?, middle(&floor_all)?);
    let (warm_seconds, warm_floor_seconds) = (middle(&warm_all)?, middle(&warm_floor_all)?);
    let size = format!("{peers} peers, {databases} databases");
    let rows = vec![
        Figures::new("start.cold", &size, "s", up_all.clone())
            .limit(floor_all.clone())
            .row(Target::OverLimit(1.3))?,
        Figures::new("start.warm", &size, "s", warm_all).limit(warm_floor_all).row(Target::OverLimit(1.3))?,
        Figures::new("start.idle", &size, "% of a core", vec![idle_cpu_percent]).row(Target::AtMost(2.0))?,
    ];
    Ok(Report {
        warm_seconds,
        warm_floor_seconds,
        warm_ratio: warm_seconds / warm_floor_seconds,
        rows,
        rounds,
        peers: peers as u64,
        databases: databases as u64,
        up_seconds,
        floor_seconds,
        ratio: up_seconds / floor_seconds,
        idle_cpu_percent,
        up_all,
        floor_all,
    })
}

/// What the command took from its start to its end, in seconds, and what the idle peers take.
struct Up {
    cold: f64,
    warm: f64,
    idle: f64,
}

/// One cold `up --detach` in a state directory of its own, with `watch` a look at the idle peers, and a warm one.
fn up(hopcast: &Path, topology: &Path, watch: bool, leftovers: &mut Vec<TempDir>) -> Result<Up> {
    let state = tempfile::Builder::new()
        .prefix("hopcast-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    // Where nothing else listens, unless one said where.
    let signalling = match std::env::var("SIGNAL_ADDR") {
        Ok(address) if !address.is_empty() => address,
        _ => TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string(),
    };
    let command = |verb: &[&str]| {
        let mut command = std::process::Command::new(hopcast);
        command.args(verb).arg("--file").arg(topology).env("HOPCAST_STATE", state.path());
        command.env("SIGNAL_ADDR", &signalling);
        command
    };
    let once = |watch: bool| -> Result<(f64, f64)> {
        // As the floor is: what `up` says itself begins and ends within the program.
        let begin = Instant::now();
        let up = programs::output(&mut command(&["up", "--detach", "--json"]), UP_LIMIT);
        let seconds = begin.elapsed().as_secs_f64();
        let idle = if watch && up.is_ok() {
            programs::output(&mut command(&["status", "--json"]), UP_LIMIT).and_then(|status| idle(&status))
        } else {
            Ok(0.0)
        };
        let end = programs::output_to_the_end(&mut command(&["down"]), UP_LIMIT);
        up?;
        end?;
        Ok((seconds, idle?))
    };
    let both = once(watch).and_then(|(cold, idle)| Ok(Up { cold, idle, warm: once(false)?.0 }));
    leftovers.push(state);
    both
}

/// The share of one core that the peers of a `status --json` take together, in per cent.
fn idle(status: &str) -> Result<f64> {
    let status = programs::last_json(status)?;
    let nodes = status["nodes"].as_array().context("`status --json` has no `nodes`")?;
    let pids: Vec<u64> =
        nodes.iter().filter(|node| node["role"] == "peer").filter_map(|node| node["pid"].as_u64()).collect();
    ensure!(!pids.is_empty(), "`status --json` names no process of a peer");
    let before = nanoseconds(&pids)?;
    stop::pause(Duration::from_secs(IDLE_SECONDS))?;
    let taken = nanoseconds(&pids)?.saturating_sub(before);
    Ok(taken as f64 / 1e9 / IDLE_SECONDS as f64 * 100.0)
}

/// The time that these processes spent on a CPU so far (the first field of schedstat; a peer has one thread).
fn nanoseconds(pids: &[u64]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))
                .with_context(|| format!("the peer of process {pid} is gone"))?;
            text.split_ascii_whitespace()
                .next()
                .and_then(|field| field.parse::<u64>().ok())
                .context("an odd schedstat")
        })
        .sum()
}

/// One floor, cold and warm, in seconds.
fn floor(databases: usize, peers: usize, size: u64, leftovers: &mut Vec<TempDir>) -> Result<(f64, f64)> {
    let user = Unprivileged::find()?;
    let (initdb, pg_ctl) = (programs::postgres("initdb")?, programs::postgres("pg_ctl")?);
    let root = tempfile::Builder::new().prefix("hopcast-floor-").tempdir()?;
    user.own(root.path())?;
    let no_op = no_op(root.path(), size)?;
    let limit = Duration::from_secs(60);
    let command = |program: &Path, data: &Path, args: &[&str]| {
        let mut command = user.command(program);
        command.arg("-D").arg(data).args(args).current_dir("/");
        command
    };
    let run = |program: &Path, data: &Path, args: &[&str]| {
        programs::output(&mut command(program, data, args), limit)
    };
    let cluster = |data: &Path, cold: bool| -> Result<()> {
        if cold {
            // Without waiting for the disk, as `up` does it: the stricter floor.
            run(&initdb, data, &["-A", "trust", "-U", "media", "-E", "UTF8", "--no-sync"])?;
        }
        // The socket in the data directory and no TCP port: nothing to collide with.
        let options = format!("-F -c listen_addresses= -k {}", data.display());
        let log = data.join("log");
        let log = log.to_str().context("the temporary directory's name is not UTF-8")?;
        run(&pg_ctl, data, &["-w", "-l", log, "-o", &options, "start"]).map(drop)
    };
    let directories: Vec<_> = (0..databases).map(|number| root.path().join(format!("db-{number}"))).collect();
    let once = |cold: bool| -> Result<f64> {
        let begin = Instant::now();
        let started: Vec<Result<()>> = std::thread::scope(|scope| {
            let cluster = &cluster;
            let clusters: Vec<_> =
                directories.iter().map(|data| scope.spawn(move || cluster(data, cold))).collect();
            clusters
                .into_iter()
                .map(|cluster| cluster.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
                .collect()
        });
        let spawned = spawn_all(&no_op, peers);
        let seconds = begin.elapsed().as_secs_f64();
        for data in &directories {
            if data.join("postmaster.pid").exists() {
                // Cleanly, as `down` does it: a warm start recovers nothing.
                let stop = ["-w", "-m", "fast", "stop"];
                programs::output_to_the_end(&mut command(&pg_ctl, data, &stop), limit)?;
            }
        }
        started.into_iter().collect::<Result<Vec<_>>>()?;
        spawned?;
        Ok(seconds)
    };
    let both = once(true).and_then(|cold| Ok((cold, once(false)?)));
    leftovers.push(root);
    both
}

fn spawn_all(program: &Path, count: usize) -> Result<()> {
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        children
            .push(std::process::Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// `true`, padded with zeros to the peer's size.
fn no_op(dir: &Path, size: u64) -> Result<std::path::PathBuf> {
    let path = dir.join("no-op");
    fs::copy("/bin/true", &path).context("failed to copy /bin/true")?;
    let mut file = OpenOptions::new().append(true).open(&path)?;
    let missing = size.saturating_sub(file.metadata()?.len());
    file.write_all(&vec![0; usize::try_from(missing)?])?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_no_op_has_the_peers_size_and_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = no_op(dir.path(), 2_000_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 2_000_000);
        spawn_all(&path, 3).unwrap();
    }
}

//! The second part of `hopcast bench start`: a mesh of many peers on this machine, beside a small one of the same shape.
//!
//! `status` and `verify` look at every peer: what they take for each must not grow with their number.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    play::write_song,
    programs,
    row::{Figures, Row, Target},
};

const LIMIT: Duration = Duration::from_secs(300);
const SMALL: usize = 160;

/// What one mesh took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Taken {
    up: f64,
    status: f64,
    verify: f64,
}

/// Measures both meshes. `note` is told what is being done.
pub fn run(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let many = if quick { 320 } else { 1000 };
    let rounds = if quick { 1 } else { 3 };
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (peers, taken) in [(SMALL, &mut small), (many, &mut large)] {
            note(&format!("a mesh of {peers} peers: round {round} of {rounds}"));
            taken.push(measure(peers)?);
        }
    }
    let row = |metric: &str, get: fn(&Taken) -> f64| {
        let each = |all: &[Taken], peers: usize| -> Vec<f64> {
            all.iter().map(|one| get(one) * 1e3 / peers as f64).collect()
        };
        Figures::new(
            format!("start.{metric}"),
            format!("{many} peers beside {SMALL}"),
            "ms/peer",
            each(&large, many),
        )
        .own(each(&small, SMALL))
        .row(Target::OverOwn("small mesh", 1.3))
    };
    Ok(vec![
        row("many_up", |one| one.up)?,
        row("many_status", |one| one.status)?,
        row("many_verify", |one| one.verify)?,
    ])
}

fn measure(peers: usize) -> Result<Taken> {
    let dir = tempfile::Builder::new()
        .prefix("hopcast-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    write_song(&dir.path().join("song"), 4)?;
    let topology = dir.path().join("topology.toml");
    fs::write(&topology, file(peers)?)?;
    let hopcast = programs::ours("hopcast")?;
    let command = |verb: &[&str]| {
        let mut command = std::process::Command::new(&hopcast);
        command.args(verb).arg("--file").arg(&topology).env("HOPCAST_STATE", dir.path());
        command
    };
    // Each the whole command, from its start to its end.
    let seconds = |verb: &[&str]| -> Result<f64> {
        let begin = Instant::now();
        programs::output(&mut command(verb), LIMIT)?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let measured = measure_running(seconds);
    let down = programs::output_to_the_end(&mut command(&["down", "--purge"]), LIMIT);
    let taken = measured?;
    down?;
    Ok(taken)
}

fn measure_running(seconds: impl Fn(&[&str]) -> Result<f64>) -> Result<Taken> {
    let up = seconds(&["up", "--detach", "--json"])?;
    Ok(Taken { up, status: seconds(&["status", "--json"])?, verify: seconds(&["verify", "--json"])? })
}

/// The shipped file's shape with one room and one edge.
fn file(peers: usize) -> Result<String> {
    // Held together, so that the two are not the same.
    let (signalling, door) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok(format!(
        "[mesh]\nname = \"bench-many\"\n[peers]\ncount = {peers}\nlinks = {{ shape = \"ring\", skip = [4] }}\n\
         [[rooms]]\nname = \"all\"\npeers = [\"*\"]\n\
         [[edges]]\nname = \"edge-db\"\nnetwork = \"edge-net\"\npeers = [\"peer-1..peer-8\"]\n\
         [origin]\nname = \"origin-db\"\nnetwork = \"origin-net\"\n\
         [[songs]]\npath = \"song\"\nrooms = [\"*\"]\n\
         [signalling]\nlisten = \"{}\"\n[local]\nnetwork = \"127.92.0.0/16\"\ndoor = \"{}\"\n",
        signalling.local_addr()?,
        door.local_addr()?
    ))
}

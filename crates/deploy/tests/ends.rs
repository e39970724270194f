//! Nothing of a mesh outlives who started it, however that ends.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use common::{Mesh, Topology, kill, processes, programs_dir, state_root, until_gone};
use hopcast_deploy::{Backend as _, DestroyOptions, Quiet};
use rustix::process::{Pid, Signal, kill_process};

/// A foreground `hopcast up`, ready.
fn up(root: &std::path::Path, topology: &Topology) -> Child {
    let file = root.join("topology.toml");
    std::fs::write(&file, topology.text()).unwrap();
    let mut child = Command::new(programs_dir().join("hopcast"))
        .args(["up", "--file"])
        .arg(file)
        .env("HOPCAST_STATE", root)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("is ready")), "`up` ended early");
    // Whatever comes later must find a reader.
    std::thread::spawn(move || lines.count());
    child
}

#[tokio::test]
async fn with_up_however_it_ends() {
    let root = state_root();
    let topology = Topology { peers: 2, ..Topology::new("ends", 4) };
    let mesh = Mesh::new(root.path(), "ends");
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut child = up(root.path(), &topology);
        assert!(mesh.status().await.ready);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        if signal != Signal::KILL {
            assert_eq!(processes(&mesh.dir()), [], "an orderly `up` waits for the end ({signal:?})");
            assert!(status.code().is_some());
        }
        until_gone(&mesh.dir()).await;
        assert!(mesh.dir().join("pg/origin-db/PG_VERSION").exists(), "the data stay");
        assert!(!mesh.dir().join("pg/origin-db/postmaster.pid").exists(), "stopped in order");
    }
}

#[tokio::test]
async fn and_an_up_right_behind_it_waits_for_that_end() {
    let root = state_root();
    let topology = Topology { peers: 2, ..Topology::new("behind", 17) };
    let mut mesh = Mesh::new(root.path(), "behind");
    for signal in [Signal::KILL, Signal::TERM] {
        let mut child = up(root.path(), &topology);
        let earlier = mesh.status().await.node("keeper").unwrap().pid;
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        mesh.up(&topology.plan()).await;
        let status = mesh.status().await;
        assert!(status.ready);
        assert_ne!(status.node("keeper").unwrap().pid, earlier);
        mesh.session.take().expect("its own keeper").stop().await.unwrap();
    }
}

#[tokio::test]
async fn with_up_in_the_middle_of_its_start() {
    let root = state_root();
    let topology = Topology { peers: 2, ..Topology::new("middle", 15) };
    let file = root.path().join("topology.toml");
    std::fs::write(&file, topology.text()).unwrap();
    let mut mesh = Mesh::new(root.path(), "middle");
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = Command::new(programs_dir().join("hopcast"))
            .args(["up", "--file"])
            .arg(&file)
            .env("HOPCAST_STATE", root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // initdb runs: its cluster is not yet there under its own name.
        let end = std::time::Instant::now() + common::PATIENCE;
        while !mesh.dir().join("pg/.new-origin-db/base").exists() {
            assert!(
                std::time::Instant::now() < end && child.try_wait().unwrap().is_none(),
                "no initdb was seen"
            );
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        until_gone(&mesh.dir()).await;
        assert!(!mesh.dir().join("pg/origin-db").exists(), "half a cluster is none");
    }
    mesh.up(&topology.plan()).await;
    assert!(mesh.status().await.ready);
}

#[tokio::test]
async fn with_up_while_a_song_is_encoded() {
    let root = state_root();
    // An ffmpeg that says it is at work, and does not end.
    let bin = root.path().join("bin");
    let begun = root.path().join("begun");
    std::fs::create_dir(&bin).unwrap();
    let text =
        format!("#!/bin/sh\n: > '{}'\nwhile sleep 1; do echo out_time_us=1000000; done\n", begun.display());
    std::fs::write(bin.join("ffmpeg"), text).unwrap();
    std::fs::set_permissions(bin.join("ffmpeg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let song = root.path().join("song.wav");
    std::fs::write(&song, "sound").unwrap();
    let topology = Topology { peers: 2, ..Topology::new("encodes", 19) };
    let text = format!(
        "{}[[songs]]\npath = \"{}\"\nname = \"other\"\nrooms = [\"*\"]\n",
        topology.text(),
        song.display()
    );
    let file = root.path().join("topology.toml");
    std::fs::write(&file, text).unwrap();
    let mesh = Mesh::new(root.path(), "encodes");
    let mut child = Command::new(programs_dir().join("hopcast"))
        .args(["up", "--file"])
        .arg(file)
        .env("HOPCAST_STATE", root.path())
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + common::PATIENCE;
    while !begun.exists() {
        assert!(
            std::time::Instant::now() < end && child.try_wait().unwrap().is_none(),
            "no ffmpeg was started\n{}",
            mesh.logs()
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // From here on it waits for the song alone.
    mesh.until("connected", |status| status.rooms.iter().any(|room| room.connected.len() == 2)).await;
    mesh.local.destroy(DestroyOptions::default(), &Quiet).await.unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "an `up` without a keeper has failed");
    assert_eq!(processes(&mesh.dir()), []);
}

#[tokio::test]
async fn with_a_killed_keeper_and_even_its_warden() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("orphans", 5) }.plan();
    let mut mesh = Mesh::new(root.path(), "orphans");
    mesh.up(&plan).await;
    let status = mesh.status().await;
    kill(status.node("keeper").unwrap().pid.unwrap());
    until_gone(&mesh.dir()).await; // the warden's work
    assert!(mesh.session.take().unwrap().ended().await.is_err());

    // Both killed at once: the next `up` starts from nothing.
    let kill_both = async |mesh: &Mesh| {
        let keeper = mesh.status().await.node("keeper").unwrap().pid.unwrap();
        let all = processes(&mesh.dir());
        let (warden, _) = all.iter().find(|(_, command)| command.contains("--warden")).expect("a warden");
        kill(*warden);
        kill(keeper);
        let end = std::time::Instant::now() + common::PATIENCE;
        while processes(&mesh.dir()).iter().any(|(pid, _)| *pid == keeper) {
            assert!(std::time::Instant::now() < end, "the keeper stays");
        }
        let left = processes(&mesh.dir());
        assert!(left.iter().any(|(_, command)| command.contains("peer-1.json")), "{left:?}");
        assert!(mesh.status().await.nodes.is_empty());
    };
    mesh.up(&plan).await;
    kill_both(&mesh).await;
    let changes = mesh.up(&plan).await;
    assert_eq!(changes.started.len(), 5);
    assert!(mesh.status().await.ready);

    // ... and the next `down` ends them.
    kill_both(&mesh).await;
    let destroyed = mesh.local.destroy(DestroyOptions::default(), &Quiet).await.unwrap();
    assert!(destroyed.stopped.is_empty() && destroyed.orphans.len() >= 5, "{destroyed:?}");
    assert_eq!(processes(&mesh.dir()), []);
}

#[tokio::test]
async fn a_mesh_whose_directory_was_removed() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("removed", 18) }.plan();
    let mut mesh = Mesh::new(root.path(), "removed");
    mesh.up(&plan).await;
    std::fs::remove_dir_all(mesh.dir()).unwrap();
    assert_ne!(processes(&mesh.dir()), []);
    // The next `up` starts from nothing ...
    let changes = mesh.up(&plan).await;
    assert_eq!(changes.started.len(), 5);
    assert!(mesh.status().await.ready);

    // ... and the next `down` ends them.
    std::fs::remove_dir_all(mesh.dir()).unwrap();
    let destroyed = mesh.local.destroy(DestroyOptions::default(), &Quiet).await.unwrap();
    assert!(destroyed.stopped.is_empty() && destroyed.orphans.len() >= 5, "{destroyed:?}");
    assert_eq!(processes(&mesh.dir()), []);
}

#[tokio::test]
async fn a_hung_keeper_does_not_keep_down_from_its_work() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("hung", 6) }.plan();
    let mut mesh = Mesh::new(root.path(), "hung");
    mesh.up(&plan).await;
    let keeper = mesh.status().await.node("keeper").unwrap().pid.unwrap();
    kill_process(Pid::from_raw(keeper as i32).unwrap(), Signal::STOP).unwrap();
    mesh.local.destroy(DestroyOptions::default(), &Quiet).await.unwrap();
    assert_eq!(processes(&mesh.dir()), []);
}

#[tokio::test]
async fn a_detached_mesh_stays() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("stays", 7) }.plan();
    let mut mesh = Mesh::new(root.path(), "stays");
    mesh.up(&plan).await;
    mesh.session.take().unwrap().detach().await.unwrap();
    let status = mesh.until("detached", |status| status.detached).await;
    assert!(status.ready);
    assert!(!processes(&mesh.dir()).is_empty());
}

//! Several meshes on one machine, and strangers on their addresses.

mod common;

use std::net::TcpListener;

use common::{Mesh, Topology, pids, processes, state_root};
use hopcast_deploy::{ApplyOptions, Backend as _, DestroyOptions, Error, Quiet};

#[tokio::test]
async fn two_meshes_run_and_a_third_must_not_overlap() {
    let root = state_root();
    let plans = [
        Topology { peers: 2, ..Topology::new("left", 8) }.plan(),
        Topology { peers: 2, ..Topology::new("right", 9) }.plan(),
    ];
    let mut left = Mesh::new(root.path(), "left");
    let mut right = Mesh::new(root.path(), "right");
    left.up(&plans[0]).await;
    right.up(&plans[1]).await;
    assert!(left.status().await.ready && right.status().await.ready);
    let before = pids(&left.status().await);

    let overlapping = Mesh::new(root.path(), "third");
    let mut plan = Topology { peers: 2, ..Topology::new("third", 8) }.plan();
    let error = overlapping.local.apply(&plan, &ApplyOptions::default(), &Quiet).await.unwrap_err();
    assert!(
        matches!(&error, Error::Overlap { other, setting: "local.network", .. } if other.as_str() == "left"),
        "{error}"
    );
    plan = Topology { peers: 2, ..Topology::new("third", 10) }.plan();
    plan.local.door = plans[0].local.door;
    let error = overlapping.local.apply(&plan, &ApplyOptions::default(), &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::Overlap { setting: "local.door", .. }), "{error}");
    assert!(!overlapping.dir().exists(), "an overlap is found before anything is made");

    right.local.destroy(DestroyOptions { purge: true, ..DestroyOptions::default() }, &Quiet).await.unwrap();
    assert_eq!(pids(&left.status().await), before, "the end of one mesh is not another's");
}

#[tokio::test]
async fn a_taken_address_names_its_holder_and_starts_nothing() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("taken", 11) }.plan();
    let stranger = TcpListener::bind(plan.peers[1].local).unwrap();
    let mut mesh = Mesh::new(root.path(), "taken");
    let error = mesh.local.apply(&plan, &ApplyOptions::default(), &Quiet).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, Error::Taken { node, .. } if node == "peer-2"), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert_eq!(processes(&mesh.dir()), []);
    drop(stranger);
    // A process that another test of this program is just starting has a copy of the socket until it executes.
    let end = std::time::Instant::now() + common::PATIENCE;
    while TcpListener::bind(plan.peers[1].local).is_err() {
        assert!(std::time::Instant::now() < end, "the address stays taken");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    mesh.up(&plan).await;
    assert!(mesh.status().await.ready);
}

#[tokio::test]
async fn clusters_that_cannot_be_copied_are_made_one_by_one() {
    // As in pg-embed's packages: a server's programs and no others.
    let root = state_root();
    let bin = root.path().join("postgres-bin");
    std::fs::create_dir(&bin).unwrap();
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .expect("Debian's PostgreSQL is installed")
        .map(|version| version.unwrap().path().join("bin"))
        .find(|bin| bin.join("initdb").exists())
        .unwrap();
    for program in ["initdb", "pg_ctl", "postgres"] {
        std::os::unix::fs::symlink(installed.join(program), bin.join(program)).unwrap();
    }
    let topology = Topology { peers: 2, edges: 2, ..Topology::new("single", 16) };
    let file = root.path().join("topology.toml");
    std::fs::write(&file, topology.text()).unwrap();
    let mesh = Mesh::new(root.path(), "single");
    let up = std::process::Command::new(common::programs_dir().join("hopcast"))
        .args(["up", "--detach", "--file"])
        .arg(file)
        .env("HOPCAST_STATE", root.path())
        .env("HOPCAST_POSTGRES", bin)
        .output()
        .unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let status = mesh.status().await;
    assert!(status.ready && status.replication.len() == 2, "{status:#?}");
}

#[tokio::test]
async fn a_program_that_cannot_start_is_told_with_its_words() {
    let root = state_root();
    let mut plan = Topology { peers: 2, ..Topology::new("wrong", 12) }.plan();
    // An address that is not this machine's.
    plan.peers[1].local = "192.0.2.1:8080".parse().unwrap();
    let mesh = Mesh::new(root.path(), "wrong");
    let error = mesh.local.apply(&plan, &ApplyOptions::default(), &Quiet).await.unwrap_err().to_string();
    assert!(error.contains("peer-2") && error.contains("exit code"), "{error}");
    assert_eq!(processes(&mesh.dir()), [], "what a failed `up` started ends with it");
}

//! Several meshes on one machine, and strangers on their addresses.

mod common;

use std::net::TcpListener;

use common::{Mesh, Topology, pids, processes, state_root};
use hopcast_deploy::{Backend as _, Error, Quiet};

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
    let error = overlapping.local.apply(&plan, &Quiet).await.unwrap_err();
    assert!(
        matches!(&error, Error::Overlap { other, setting: "local.network", .. } if other.as_str() == "left"),
        "{error}"
    );
    plan = Topology { peers: 2, ..Topology::new("third", 10) }.plan();
    plan.local.door = plans[0].local.door;
    let error = overlapping.local.apply(&plan, &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::Overlap { setting: "local.door", .. }), "{error}");
    assert!(!overlapping.dir().exists(), "an overlap is found before anything is made");

    right.local.destroy(true, &Quiet).await.unwrap();
    assert_eq!(pids(&left.status().await), before, "the end of one mesh is not another's");
}

#[tokio::test]
async fn a_taken_address_names_its_holder_and_starts_nothing() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("taken", 11) }.plan();
    let stranger = TcpListener::bind(plan.peers[1].local).unwrap();
    let mut mesh = Mesh::new(root.path(), "taken");
    let error = mesh.local.apply(&plan, &Quiet).await.unwrap_err();
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
async fn a_program_that_cannot_start_is_told_with_its_words() {
    let root = state_root();
    let mut plan = Topology { peers: 2, ..Topology::new("wrong", 12) }.plan();
    // An address that is not this machine's.
    plan.peers[1].local = "192.0.2.1:8080".parse().unwrap();
    let mesh = Mesh::new(root.path(), "wrong");
    let error = mesh.local.apply(&plan, &Quiet).await.unwrap_err().to_string();
    assert!(error.contains("peer-2") && error.contains("exit code"), "{error}");
    assert_eq!(processes(&mesh.dir()), [], "what a failed `up` started ends with it");
}

//! A plan and a target for unit tests: a ring of peers, one room, one edge with peer-1 as its gateway. Each test that
//! opens sockets takes a block of its own: 127.81.<block>.<number>.

mod checks;
pub(crate) mod fake;

use hopcast_protocol::MeshSecret;
use hopcast_topology::{Env, Plan, Source, load};

use crate::target::{
    DatabaseRole, DatabaseTarget, PeerTarget, ProcessRole, ProcessTarget, Separation, Target,
};

/// A ring of `count` peers.
fn plan(block: u8, count: u32) -> Plan {
    let text = format!(
        r#"
        [mesh]
        name = "test"
        [peers]
        count = {count}
        patience = "2s"
        links = {{ shape = "ring" }}
        [[rooms]]
        name = "rock"
        peers = ["*"]
        [[edges]]
        name = "edge-db-a"
        network = "edge-a-net"
        peers = ["peer-1"]
        [origin]
        name = "origin-db"
        network = "origin-net"
        [[songs]]
        path = "songs/demo"
        rooms = ["*"]
        [signalling]
        listen = "127.0.0.1:17900"
        [local]
        network = "127.81.{block}.0/24"
        door = "127.0.0.1:17901"
        "#
    );
    load(Source::new("topology.toml", &text), &Env::empty()).expect("the test's file is right").plan
}

/// The same, running nowhere.
pub(crate) fn target(count: u32) -> Target {
    target_in(0, count)
}

/// In a block of its own.
pub(crate) fn target_in(block: u8, count: u32) -> Target {
    let plan = plan(block, count);
    let peer = |peer: &hopcast_topology::plan::Peer| PeerTarget {
        name: peer.name.clone(),
        endpoint: peer.local,
        pid: Some(std::process::id()),
    };
    let database = |name: &hopcast_protocol::DatabaseName, role, address| DatabaseTarget {
        name: name.clone(),
        role,
        address,
        database: plan.postgres.database.clone(),
    };
    let mut databases = vec![database(&plan.origin.name, DatabaseRole::Origin, plan.origin.local)];
    databases.extend(plan.edges.iter().map(|edge| database(&edge.name, DatabaseRole::Edge, edge.local)));
    Target {
        secret: MeshSecret([5; 32]),
        backend: "test".into(),
        separation: Separation::Addresses,
        signalling: plan.signalling.local,
        door: Some(plan.local.door),
        peers: plan.peers.iter().map(peer).collect(),
        processes: vec![ProcessTarget {
            pid: std::process::id(),
            name: "signalling".into(),
            role: ProcessRole::Signalling,
        }],
        memory_cap: plan.limits.memory,
        databases,
        plan,
    }
}

//! A plan and a target for unit tests: a ring of peers, one room, one edge with peer-1 as its gateway. Each test that
//! opens sockets takes a block of its own: 127.81.<block>.<number>.

mod checks;
pub(crate) mod fake;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hopcast_protocol::MeshSecret;
use hopcast_topology::Plan;

use crate::target::{DatabaseRole, DatabaseTarget, PeerTarget, ProcessRole, ProcessTarget, Target};

fn address(block: u8, host: u32, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 81, block, 0)) + host)), port)
}

/// A ring of `count` peers.
fn plan(block: u8, count: u32) -> Plan {
    let at = |host, port| address(block, host, port);
    let name = |number: u32| format!("peer-{}", (number + count - 1) % count + 1);
    let peers: Vec<_> = (1..=count)
        .map(|i| {
            let mut around = [(i + count - 2) % count + 1, i % count + 1];
            around.sort_unstable();
            serde_json::json!({
                "name": name(i), "number": i, "rooms": ["rock"], "neighbors": around.map(name),
                "edges": if i == 1 { vec!["edge-db-a"] } else { vec![] },
                "local": at(i, 8080), "docker": at(i, 8080), "nixos": {"host": 1, "port": 8080 + i},
            })
        })
        .collect();
    let mut links: Vec<_> = (1..count).map(|i| (i, i + 1)).collect();
    links.push((1, count));
    links.sort_unstable();
    let emulation = serde_json::json!({"latency_us": 0, "jitter_us": 0, "loss": 0.0});
    let links: Vec<_> = links
        .into_iter()
        .map(|(a, b)| serde_json::json!({"a": name(a), "b": name(b), "rooms": ["rock"], "emulation": emulation}))
        .collect();
    let all: Vec<_> = (1..=count).map(name).collect();
    let network = serde_json::json!({
        "subnet": "172.31.0.0", "prefix": 24, "address": "172.31.0.2:5432", "peers": []
    });
    let plan = serde_json::json!({
        "version": hopcast_topology::plan::PLAN_VERSION, "mesh": "test", "peers": peers,
        "rooms": [{"name": "rock", "peers": all}], "links": links,
        "origin": {"name": "origin-db", "network": "origin-net", "local": at(254, 5432), "docker": network},
        "edges": [{"name": "edge-db-a", "network": "edge-a-net", "peers": ["peer-1"], "local": at(253, 5432), "docker": network, "docker_origin": "172.31.0.2"}],
        "songs": [{"name": "demo", "path": "songs/demo", "rooms": ["rock"]}],
        "limits": {"port": 8080, "memory": 15 << 20, "cpus": 0.05, "pids": 50, "cache": 4 << 20, "max_segment": 1 << 20, "patience_ms": 2000},
        "postgres": {"database": "hls", "user": "media", "port": 5432, "password_file": null},
        "signalling": {"listen": "127.0.0.1:17900", "local": "127.0.0.1:17900", "docker": "127.0.0.1:17900"},
        "local": {"network": "127.81.0.0", "prefix": 16, "door": "127.0.0.1:17901"},
        "docker": {"network": "micro-net", "subnet": "172.30.0.0", "prefix": 16, "peer_image": "p", "signalling_image": "s", "postgres_image": "d"},
        "nixos": {"peer_hosts": 4},
    });
    serde_json::from_value(plan).expect("the test's plan has the plan's form")
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

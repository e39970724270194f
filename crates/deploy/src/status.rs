//! What runs, in one form for every backend. `hopcast status --json` prints it.

use std::net::SocketAddr;

use hopcast_protocol::{DatabaseName, MeshName, PeerName, RoomName};
use serde::{Deserialize, Serialize};

/// A mesh as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The mesh.
    pub mesh: MeshName,
    /// `local`, `docker`, ...
    pub backend: String,
    /// Every node runs, every peer is connected in every room of its own, every edge replicates.
    pub ready: bool,
    /// The keeper stays when the `up` that started it ends.
    pub detached: bool,
    /// Every process or container, dead ones included; empty where the mesh does not run.
    pub nodes: Vec<NodeStatus>,
    /// Who is connected, from the signalling server itself; empty where it does not answer.
    pub rooms: Vec<RoomStatus>,
    /// Every edge.
    pub replication: Vec<Replication>,
    /// Links that a fault has cut; `up` heals them.
    pub cut: Vec<(PeerName, PeerName)>,
}

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// A peer.
    Peer,
    /// The signalling server, with the door.
    Signalling,
    /// The origin or an edge.
    Database,
    /// Who keeps the others (local).
    Keeper,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// On its way.
    Starting,
    /// As it should be.
    Running,
    /// Stopped on purpose.
    Stopped,
    /// Ended by itself, or killed. It stays so until the next `up`.
    Dead,
    /// Alive and not scheduled (SIGSTOP).
    Paused,
}

/// One process or container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// `peer-7`, `edge-db-a`, `signalling`, `keeper`.
    pub name: String,
    /// What it is there for.
    pub role: NodeRole,
    /// How it is.
    pub state: NodeState,
    /// Its process id; of a database its postmaster's.
    pub pid: Option<u32>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// How often it was started again since the mesh came up.
    pub restarts: u32,
    /// Unix seconds of the last change of its state.
    pub since: u64,
    /// Resident memory of the process, in KiB.
    pub rss_kb: Option<u64>,
    /// CPU time since it was started, in milliseconds, where the engine counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The engine's own health check: `healthy`, `unhealthy`, `starting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Why it is not running, or what else there is to say.
    pub detail: Option<String>,
}

/// One room as the signalling server sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomStatus {
    /// The room.
    pub name: RoomName,
    /// Peers that the plan has in it.
    pub peers: usize,
    /// Who is connected.
    pub connected: Vec<PeerName>,
}

/// One edge's replication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    /// The edge.
    pub edge: DatabaseName,
    /// Every relation is ready and the origin streams to it.
    pub replicating: bool,
    /// What was seen.
    pub detail: String,
}

impl Status {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Something of this mesh runs.
    pub fn is_running(&self) -> bool {
        self.nodes
            .iter()
            .any(|node| matches!(node.state, NodeState::Running | NodeState::Starting | NodeState::Paused))
    }
}

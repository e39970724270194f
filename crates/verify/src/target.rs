//! What is to be verified: the plan, the secret, and where everything runs.
//!
//! The caller takes it from its backend's status; nothing here asks an engine. Addresses are those under which the process
//! that verifies reaches them, which need not be the caller's: a target can be serialised (it holds a secret then).

use std::net::SocketAddr;

use hopcast_protocol::{DatabaseName, MeshSecret, PeerName};
use hopcast_topology::Plan;
use serde::{Deserialize, Serialize};

/// A running mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// What it should be.
    pub plan: Plan,
    /// From it come link keys, the operator's token, database passwords and the manifest key.
    pub secret: MeshSecret,
    /// `local`, `docker`, ...; stands in the report.
    pub backend: String,
    /// What keeps its processes apart.
    pub separation: Separation,
    /// The signalling server's HTTP address.
    pub signalling: SocketAddr,
    /// The door, where there is one. A peer that dials it goes round the mesh.
    pub door: Option<SocketAddr>,
    /// Every peer that the backend knows of. A peer of the plan that is missing here counts as dead.
    pub peers: Vec<PeerTarget>,
    /// Every other process of the mesh.
    pub processes: Vec<ProcessTarget>,
    /// Origin and edges.
    pub databases: Vec<DatabaseTarget>,
    /// Most resident memory of one peer, in bytes.
    pub memory_cap: u64,
}

/// What keeps the processes of a mesh apart, and so where a cheat would come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Separation {
    /// All have one network and share its socket table: each peer has a loopback address of its own, to which any process
    /// can bind. Databases refuse strangers by their access rules.
    Addresses,
    /// Each process has a network namespace and a control group of its own (a container). Strangers do not even reach a
    /// database. To look at them takes the right to enter their namespaces.
    Namespaces,
    /// They are spread over machines, several on each and under its address. Of the others' processes nothing can be seen, and
    /// nobody can dial from there: what takes that is left out, and the report says so.
    Hosts,
}

/// One peer's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerTarget {
    /// The peer.
    pub name: PeerName,
    /// Where it listens; it dials its neighbours from that address too.
    pub endpoint: SocketAddr,
    /// Its process; absent where it does not run.
    pub pid: Option<u32>,
}

/// What a process of the mesh, other than a peer, is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessRole {
    /// The signalling server. The door is a part of it, so its connections to peers are players' connections.
    Signalling,
    /// A PostgreSQL postmaster; the processes it starts count as this one.
    Database,
    /// Who started the others and asks them how they are.
    Keeper,
}

/// A process of the mesh other than a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessTarget {
    /// Its process id.
    pub pid: u32,
    /// For the report.
    pub name: String,
    /// What it is there for.
    pub role: ProcessRole,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseRole {
    /// No peer may reach it.
    Origin,
    /// Its own gateways may.
    Edge,
}

/// One database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseTarget {
    /// As in the plan.
    pub name: DatabaseName,
    /// Origin or edge.
    pub role: DatabaseRole,
    /// Where it listens.
    pub address: SocketAddr,
    /// The database that holds the songs.
    pub database: String,
}

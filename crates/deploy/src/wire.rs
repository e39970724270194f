//! What `up`, `status`, `down` and the keeper say to each other over the control socket: HTTP/1.1, JSON bodies.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /state` | [`Report`] |
//! | `GET /desired` | [`Desired`], or `null` before the first apply |
//! | `POST /apply` [`Desired`] | [`Event`]s, one a line; the last is `done` or `failed` |
//! | `POST /fault` [`crate::Fault`] | 204, or 409 and a sentence |
//! | `POST /detach` | 204 |
//! | `POST /stop` | [`Event`]s; the last is `stopped`, and the keeper is gone |

use std::{fmt, net::SocketAddr, path::PathBuf};

use hopcast_protocol::{DatabaseName, PeerConfig, PeerName, SignallingConfig};
use hopcast_topology::Plan;
use serde::{Deserialize, Serialize};

use crate::{Changes, NodeStatus, Step, postgres::Postgres};

/// The version of these messages. A keeper of another version is refused, with the advice to take the mesh down and up.
pub(crate) const WIRE_VERSION: u32 = 1;
/// Longest body, in bytes: 5 KiB for each of ten thousand peers.
pub(crate) const BODY_BYTES: usize = 64 << 20;

/// Everything that should run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Desired {
    /// The plan that it was made from, for whoever has no file.
    pub(crate) plan: Plan,
    /// The password of every cluster's superuser.
    pub(crate) superuser_password: String,
    pub(crate) postgres: Postgres,
    /// The origin first.
    pub(crate) databases: Vec<Cluster>,
    pub(crate) signalling_program: PathBuf,
    pub(crate) signalling: SignallingConfig,
    pub(crate) peer_program: PathBuf,
    pub(crate) peers: Vec<PeerConfig>,
}

// Secrets stay out of logs.
impl fmt::Debug for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desired({}, {} peers)", self.plan.mesh, self.peers.len())
    }
}

/// One PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) name: DatabaseName,
    pub(crate) listen: SocketAddr,
    /// The superuser.
    pub(crate) user: String,
    /// The whole of pg_hba.conf, the line for the keeper's own socket apart.
    pub(crate) hba: String,
    /// Lines for postgresql.conf.
    pub(crate) settings: String,
}

/// What the keeper knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    pub(crate) pid: u32,
    pub(crate) detached: bool,
    /// It is about to end.
    #[serde(default)]
    pub(crate) stopping: bool,
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) cut: Vec<(PeerName, PeerName)>,
}

/// A line of a long answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    Step { step: Step, done: u64, total: u64 },
    Done { changes: Changes },
    Stopped { nodes: Vec<String> },
    Failed { message: String },
}

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

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use hopcast_protocol::{DatabaseName, PeerConfig, PeerName, SignallingConfig};
use hopcast_topology::Plan;
use serde::{Deserialize, Serialize};

use crate::{Changes, Error, NodeStatus, Step, postgres::Postgres};

/// The version of these messages. A keeper of another version is refused, with the advice to take the mesh down and up.
pub(crate) const WIRE_VERSION: u32 = 1;
/// Longest body, in bytes: 5 KiB for each of ten thousand peers, or some 160,000 links.
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

impl Desired {
    /// The body of `POST /apply`; an error where the keeper would refuse it for its size.
    pub(crate) fn body(&self) -> Result<Vec<u8>, Error> {
        self.body_within(BODY_BYTES)
    }

    fn body_within(&self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut body = Bounded { bytes: Vec::new(), size: 0, limit };
        serde_json::to_writer(&mut body, self)
            .map_err(|error| Error::Keeper(format!("what the keeper is to do has no JSON form: {error}")))?;
        if body.size <= limit {
            return Ok(body.bytes);
        }
        let (peers, links) = (self.plan.peers.len(), self.plan.links.len());
        let per_link = (body.size / links.max(1)).max(1);
        Err(Error::State(format!(
            "mesh {} is too large for this backend: {peers} peers with {links} links are {} MiB of settings, and a keeper takes {} (about {} links): take fewer links (`links` of [peers]), or fewer peers",
            self.plan.mesh,
            body.size >> 20,
            limit >> 20,
            limit / per_link,
        )))
    }
}

/// Keeps what is written up to a limit, and counts the rest.
struct Bounded {
    bytes: Vec<u8>,
    size: usize,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len();
        if self.size <= self.limit {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

#[cfg(test)]
mod tests {
    use hopcast_protocol::MeshSecret;

    use super::*;
    use crate::{
        fixture,
        render::{self, Loopback},
    };

    #[test]
    fn what_the_keeper_would_refuse_is_told_with_what_to_reduce() {
        let (plan, secret) = (fixture::plan(), MeshSecret([0; 32]));
        let desired = Desired {
            superuser_password: String::new(),
            postgres: Postgres::Download,
            databases: Vec::new(),
            signalling_program: PathBuf::new(),
            signalling: render::signalling(&plan, &secret, &Loopback),
            peer_program: PathBuf::new(),
            peers: render::peers(&plan, &secret, &Loopback),
            plan,
        };
        let whole = desired.body().unwrap();
        assert_eq!(whole, serde_json::to_vec(&desired).unwrap());
        assert_eq!(desired.body_within(whole.len()).unwrap(), whole);
        let error = desired.body_within(whole.len() - 1).unwrap_err().to_string();
        assert!(error.contains("3 peers with 2 links") && error.contains("fewer links"), "{error}");
    }
}

//! What can go wrong between a plan and a mesh: each error says what, where, and what to do.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use hopcast_protocol::MeshName;

/// A failure, told so that it fits after "hopcast: ".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("failed to {what} {}: {source}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file that the topology file names cannot be read.
    #[error("cannot read {}, {whose}: {source}: put it there, or name another one in the topology file", path.display())]
    NoInput {
        /// `song demo`, `postgres.password_file`.
        whose: String,
        /// The file or folder.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The state directory cannot serve.
    #[error("{0}")]
    State(String),
    /// A program that is needed is not there.
    #[error("{0}")]
    Missing(String),
    /// Somebody else listens where this mesh wants to.
    #[error(
        "{node} wants {address}, but {holder} listens there: stop it, or choose another address in the topology file"
    )]
    Taken {
        /// What wants the address.
        node: String,
        /// The address.
        address: SocketAddr,
        /// Who has it, as far as this user may know.
        holder: String,
    },
    /// Two meshes want the same addresses.
    #[error(
        "{what} of this mesh overlaps with that of mesh {other}, which is running: choose another {setting} in the topology file, or `hopcast down --name {other}`"
    )]
    Overlap {
        /// The running mesh.
        other: MeshName,
        /// What overlaps.
        what: String,
        /// The setting to change.
        setting: &'static str,
    },
    /// Another `up` or `down` of the same mesh has not ended.
    #[error("another `up` or `down` of mesh {0} is under way: wait for it")]
    Busy(MeshName),
    /// There is no such mesh, or it does not run.
    #[error("mesh {0} is not running: start it with `hopcast up`")]
    NotRunning(MeshName),
    /// The keeper refused or failed; its own words.
    #[error("{0}")]
    Keeper(String),
    /// There is no Docker engine, or it does not answer.
    #[error("Docker does not answer at {host}: {why}")]
    NoEngine {
        /// `unix:///var/run/docker.sock`.
        host: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The Docker engine refused, or failed at, one request.
    #[error("failed to {what}: {why}")]
    Engine {
        /// What was asked for; fits after "failed to ".
        what: String,
        /// The HTTP status of its answer, where there was one.
        status: Option<u16>,
        /// Its own words.
        why: String,
    },
    /// No answer in time.
    #[error("failed to {what} within {} s: {seen}", after.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What was seen last.
        seen: String,
    },
    /// There is no such node.
    #[error("{0}")]
    Unknown(String),
    /// The databases.
    #[error(transparent)]
    Store(#[from] hopcast_store::Error),
}

impl Error {
    /// The engine answered with this HTTP status.
    pub fn has_status(&self, code: u16) -> bool {
        matches!(self, Self::Engine { status: Some(status), .. } if *status == code)
    }
}

/// Says what was being done to which file.
pub(crate) trait Doing<T> {
    /// `what` fits after "failed to ".
    fn doing(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::File { what, path: path.into(), source })
    }
}

//! What can go wrong before the server serves, each with its exit code.

use std::{net::SocketAddr, path::PathBuf};

use crate::taken::Holder;

/// Exit code of a program that could not get what it needs from the system (`EX_UNAVAILABLE`, sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", path.display(), problems.join("; "))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// One sentence each.
    pub problems: Vec<String>,
}

impl ConfigError {
    /// Several problems of one file.
    pub fn new(path: impl Into<PathBuf>, problems: Vec<String>) -> Self {
        Self { path: path.into(), problems }
    }

    /// A single problem.
    pub fn one(path: impl Into<PathBuf>, problem: String) -> Self {
        Self::new(path, vec![problem])
    }
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "{address} is taken by {holder}; stop that, or choose another address (--listen, SIGNAL_ADDR, or the file's)"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Who holds it.
        holder: Holder,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// The address as it was given.
        address: String,
        /// The system's reason.
        error: std::io::Error,
    },
}

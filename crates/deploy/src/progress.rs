//! What a backend tells while it works. It draws nothing: the command does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of the work of `up` or `down`. Several go on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Programs copied to where the mesh's user may execute them.
    Programs,
    /// Images that the engine has.
    Images,
    /// Databases that accept connections.
    Databases,
    /// Peers and the signalling server started.
    Processes,
    /// Peers connected in every room of theirs.
    Connected,
    /// Edges that replicate.
    Replicating,
    /// Seconds of the current song encoded.
    Encoded,
    /// Songs stored.
    Songs,
    /// Bytes of the current song stored.
    Bytes,
    /// Processes and databases stopped.
    Stopped,
    /// Containers removed.
    Removed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Programs => "programs in place",
            Self::Images => "images in place",
            Self::Databases => "databases up",
            Self::Processes => "processes up",
            Self::Connected => "peers connected",
            Self::Replicating => "edges replicating",
            Self::Encoded => "seconds encoded",
            Self::Songs => "songs stored",
            Self::Bytes => "bytes of the song",
            Self::Stopped => "stopped",
            Self::Removed => "containers removed",
        })
    }
}

/// Hears of progress. Calls come often and must not block.
pub trait Progress: Send + Sync {
    /// `done` of `total`, which is 0 while it is not known; the last call of a step that succeeds has `done == total`.
    fn step(&self, step: Step, done: u64, total: u64);
    /// Something that a person should know and that is no error.
    fn note(&self, text: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _step: Step, _done: u64, _total: u64) {}
    fn note(&self, _text: &str) {}
}

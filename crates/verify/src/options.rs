//! How a run is bounded, and how it tells how far it is.

use std::time::Duration;

use hopcast_protocol::SongName;
use serde::{Deserialize, Serialize};

/// Bounds of a run. The default is what `hopcast verify` uses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// Fetch this song only; absent: every song with a manifest.
    pub song: Option<SongName>,
    /// Requests in flight at a time.
    pub concurrency: usize,
    /// Chooses the pairs of peers whose paths are asked for, and the segments.
    pub seed: u64,
    /// Longest segment that is put into a peer's cache, in bytes.
    pub segment_limit: u32,
    /// Routes on which the five shortcuts are tried.
    pub shortcut_routes: usize,
    /// Longest time that the mesh is given to agree with the plan before a difference is a failure.
    pub settle: Duration,
    /// Longest time of one check; it grows by [`Options::per_peer`] with each peer.
    pub check_deadline: Duration,
    /// See [`Options::check_deadline`].
    pub per_peer: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            song: None,
            concurrency: 16,
            seed: 1,
            segment_limit: 128 * 1024,
            shortcut_routes: 8,
            // The server gives a silent peer up after 10 s; its neighbours find a broken link within 2 s.
            settle: Duration::from_secs(15),
            check_deadline: Duration::from_secs(60),
            per_peer: Duration::from_millis(500),
        }
    }
}

/// How far a check is. Sent on every step; the receiver decides how often it draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The check's name.
    pub check: &'static str,
    /// Steps done.
    pub done: u64,
    /// Steps in all; may grow.
    pub total: u64,
}

/// Takes progress. Called from the task that runs the checks: it must not block.
pub type OnProgress<'a> = dyn Fn(Progress) + Send + Sync + 'a;

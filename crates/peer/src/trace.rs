//! The way of the last segment that this peer's player got, for the page.

use serde::Serialize;

/// Path, hops and times of the last segment.
#[derive(Debug, Default, Serialize)]
pub struct LastHops {
    /// The path that was asked for.
    pub path: String,
    /// True if it came out of this peer's own cache.
    pub hit: bool,
    /// The peers that it came over, holder first.
    pub hops: Vec<String>,
    /// `Server-Timing` of those hops.
    pub timing: String,
}

impl LastHops {
    /// As JSON, for the page's script.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and flags always serialise")
    }
}

//! What a link is made to feel like. The peers emulate it themselves, so it works on every backend, without root.

use serde::{Deserialize, Serialize};

/// Emulated properties of a link, the same in both directions. The default emulates nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Emulation {
    /// Delay of each direction, in microseconds.
    pub latency_us: u64,
    /// The delay varies by up to this much both ways, uniformly, in microseconds; never below 0 in sum.
    pub jitter_us: u64,
    /// Bytes a second and direction; absent: not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Share of the requests that fail, 0 to 1.
    pub loss: f64,
}

impl Emulation {
    /// True where nothing is emulated.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

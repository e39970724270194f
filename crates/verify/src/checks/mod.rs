//! The checks, one module each. A check never stops the run: whatever happens becomes a line in its [`Tally`].
//!
//! [`Tally`]: crate::report::Tally

pub(crate) mod checksums;
pub(crate) mod graph;
pub(crate) mod isolation;
pub(crate) mod memory;
pub(crate) mod paths;
pub(crate) mod peers;
pub(crate) mod segments;
pub(crate) mod shortcuts;

//! The number of a peer inside one graph.

use std::fmt;

use super::half::ID_BITS;

/// A peer's number inside one [`Graph`](crate::Graph): small, dense, and reused after the peer is removed.
///
/// A number means nothing in another graph. A query with a number that its graph does not know finds nothing; it
/// never panics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Most peers of one graph.
    pub const LIMIT: usize = 1 << ID_BITS;

    /// For tables that are indexed by peer.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The number at that index of a table; `None` from [`NodeId::LIMIT`] on.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < Self::LIMIT).then_some(Self(index as u32))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

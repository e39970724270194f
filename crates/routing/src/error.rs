//! What a room refuses. Whatever is refused has changed nothing.

/// Why a room refused what a peer said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError<N: std::fmt::Display + std::fmt::Debug> {
    /// Only declared links may be announced, or only a link that exists can be reported on.
    #[error("{peer} has no link to {neighbor} in this room")]
    NotALink {
        /// Who said it.
        peer: N,
        /// The other end of the link that is not one.
        neighbor: N,
    },
    /// A link from a peer to itself was declared.
    #[error("{0} cannot have a link to itself")]
    SelfLink(N),
    /// A peer without a connection said something: the caller's fault, not the peer's.
    #[error("peer number {0} has no connection in this room")]
    NotConnected(usize),
}

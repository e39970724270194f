//! Rooms as changing graphs, and the shortest paths through them.
//!
//! - [`Graph`]: one changing, undirected graph, a 64-byte line per peer.
//! - [`Search`]: shortest path, nearest of many, reachability; scratch memory that is used again, no allocation per query.
//! - [`Kept`]: the way from each peer to the nearest of a few sources, kept while the graph changes, for who is asked often.
//! - [`Room`]: names, and the link-state rules of the signalling server, over one graph.
//! - [`analysis`]: what a single failure would cut off, components, distances, diameter.
//!
//! Pure: no clock, no I/O, no threads, no logging, and it knows nothing of messages. Whoever owns a room serialises what
//! changes it; rooms share nothing, so different rooms may be changed at the same time.

pub mod analysis;
mod error;
mod graph;
mod kept;
mod room;
mod search;
mod table;

pub use error::RoomError;
pub use graph::{Graph, NodeId};
pub use kept::{Bounds, Kept};
pub use room::{Changes, Link, LinkChange, Links, Liveness, Peer, PeerChange, Room, Rules};
pub use search::Search;

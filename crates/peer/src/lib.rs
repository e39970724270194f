//! The peer agent: players on one side, neighbours on the other.
//!
//! ```text
//!   player --/hls--> player --> manifests, cache
//!                       |  miss
//!                    flight --> fetch --> way --> signal (WebSocket, one per room)
//!                                 |
//!                             upstream --> link --> neighbour
//!   neighbour --/relay--> relay --> routes
//!                           |-- next hop: upstream --> link --> neighbour
//!                           `-- holder: cache, gateway --> edge database
//! ```
//!
//! What decides is pure and takes time and chance as arguments ([`routes`], [`cache`], [`search`], [`range`], [`hls`],
//! [`headers`], [`emulation`], [`backoff`], [`signal::outbox`]); what does I/O is a thin shell around it. Everything runs
//! on one thread ([`tokio::runtime::LocalRuntime`]); [`node`] says who owns which task.

pub mod args;
pub mod backoff;
pub mod cache;
pub mod config;
mod conn;
mod database;
pub mod emulation;
mod fetch;
mod flight;
pub mod gateway;
pub mod headers;
mod health;
pub mod hls;
mod link;
mod manifests;
pub mod memory;
mod metrics;
mod net;
pub mod node;
mod page;
mod payload;
mod peer;
mod player;
pub mod random;
pub mod range;
mod relay;
mod reply;
pub mod routes;
pub mod search;
mod server;
pub mod signal;
#[cfg(test)]
mod testing;
mod trace;
mod transfer;
mod upstream;
mod way;
mod wire;

pub use node::Exit;
pub use peer::{Connect, Peer, ReloadError, StartError, databases};

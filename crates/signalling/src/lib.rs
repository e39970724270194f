//! The signalling server: who is here, and the shortest way between them.
//!
//! - [`core`]: one room as a machine without I/O.
//! - [`frame`], [`outbox`], [`connection`]: WebSocket frames, what waits for a client, one client.

mod api;
pub mod args;
pub mod config;
pub mod connection;
pub mod core;
pub mod door;
pub mod error;
pub mod events;
pub mod frame;
mod http;
pub mod hub;
pub mod listener;
pub mod metrics;
pub mod outbox;
pub mod server;
pub mod taken;
mod topology;

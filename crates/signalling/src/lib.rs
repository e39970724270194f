//! The signalling server: who is here, and the shortest way between them.
//!
//! - [`core`]: one room as a machine without I/O.
//! - [`frame`], [`outbox`], `burst`, [`connection`]: WebSocket frames, what waits for a client, what comes from it, one client.
//! - [`hub`]: all rooms, each behind its own lock; who may enter; [`events`] and [`metrics`] of what happens there.
//! - [`server`], [`listener`], `patient`: sockets, signals, the drain, readers that take nothing. [`door`]: the way in for players.
//! - [`config`], [`args`], [`error`], [`taken`]: what is read and checked before anything is bound.
//!
//! The data plane is not here: no song's byte passes this server but through the door.

mod api;
pub mod args;
mod burst;
pub mod config;
pub mod connection;
pub mod core;
pub mod door;
pub mod error;
pub mod events;
pub mod frame;
pub mod group;
mod http;
pub mod hub;
pub mod listener;
pub mod metrics;
pub mod outbox;
mod patient;
pub mod server;
pub mod taken;
mod topology;

//! From a plan to a running mesh, and back to nothing.
//!
//! [`Backend`] is what every engine can do with a mesh; [`Local`] does it with processes of this machine, [`Docker`] with
//! containers. A caller parses topology.toml into a plan, takes [`State`] for the mesh's name, and calls [`Backend::apply`], which changes only what
//! differs.
//!
//! One process outlives the calls: the keeper ([`keeper`]), which `hopcast up` starts and which owns every other process of
//! the mesh. What runs is asked of the keeper and of the kernel, never read from a file.

pub mod access;
mod account;
pub mod backend;
mod databases;
pub mod docker;
pub mod error;
pub mod finding;
#[cfg(test)]
mod fixture;
mod graph;
mod holder;
mod http;
pub mod keeper;
pub mod local;
pub mod nixos;
mod orphans;
pub mod postgres;
mod proc;
pub mod programs;
pub mod progress;
mod ready;
pub mod render;
pub mod state;
pub mod status;
mod wire;

pub use access::{Access, PlayerAddress};
pub use backend::{
    Applied, ApplyOptions, Backend, Changes, DestroyOptions, Destroyed, Fault, Job, LogSink, Session,
};
pub use databases::unreadable;
pub use docker::Docker;
pub use error::Error;
pub use finding::{Finding, Verdict};
pub use local::Local;
pub use progress::{Progress, Quiet, Step};
pub use state::State;
pub use status::{NodeRole, NodeState, NodeStatus, Replication, RoomStatus, Status};

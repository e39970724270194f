//! The black-box test of a running mesh.
//!
//! It knows the plan and the mesh secret, talks to the mesh as players, operators and cheats would, and looks at the
//! processes from outside. It shares no code with what it tests but the protocol's types: its own search, its own HTTP
//! client. It changes nothing but this: at most one segment into each peer's cache (a gateway also keeps what it fetches
//! for others), and a few retired routes.

mod api;
mod audit;
mod checks;
mod context;
mod database;
mod error;
mod events;
mod graph;
mod http;
mod junit;
mod metrics;
mod options;
mod place;
mod playlist;
mod proc;
mod report;
mod run;
mod songs;
mod target;
#[cfg(test)]
mod testing;
mod via;

pub use error::VerifyError;
pub use options::{OnProgress, Options, Progress};
pub use report::{Check, FAILURES_KEPT, Numbers, Outcome, Report};
pub use run::run;
pub use target::{DatabaseRole, DatabaseTarget, PeerTarget, ProcessRole, ProcessTarget, Separation, Target};

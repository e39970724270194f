//! Songs as HLS segments in PostgreSQL: schema, ingest, replication, reads.
//!
//! Who uses what: a peer that is a gateway has a [`Gateway`]; whoever deploys has an [`Admin`] for each database, the pure
//! texts of [`hba`] and [`settings`], and the passwords of [`roles`]; whoever ingests makes a [`Prepared`] and hands it to
//! [`ingest()`]. Nothing here starts or stops a server, and nothing here knows the topology file.

mod admin;
mod connection;
mod edge;
mod error;
mod gateway;
pub mod hba;
mod ingest;
mod origin;
mod replication;
pub mod roles;
mod schema;
pub mod settings;
mod slot;
mod songs;
mod source;
mod sql;
mod subscription;

pub use admin::Admin;
pub use edge::{EdgeReport, EdgeSetup, Subscribed};
pub use error::Error;
pub use gateway::{Gateway, STATEMENT_TIMEOUT};
pub use ingest::{Ingested, ingest, ingest_known};
pub use origin::{OriginReport, OriginSetup, PUBLICATION};
pub use replication::ReplicationState;
pub use schema::{REPLICATED_TABLES, SCHEMA_VERSION};
pub use slot::slot_name;
pub use songs::{RenditionSummary, SongSummary};
pub use source::{Fingerprint, Prepared, Progress, RENDITIONS, SourceError, probe};

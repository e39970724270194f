//! The database roles beside the owner, and setting them up.
//!
//! | role | where | may |
//! | --- | --- | --- |
//! | [`REPL`] | origin | replicate, and copy the published tables |
//! | [`READER`] | origin | read blobs and manifests, for the edges' `postgres_fdw` |
//! | [`GATEWAY`] | edge | execute the two reading functions and list the manifests |
//! | [`DEFINER`] | edge | not log in; owns those functions |

use postgres_protocol::password::scram_sha_256;

use crate::sql::{ident, literal};

/// Replicates; on the origin.
pub const REPL: &str = "hopcast_repl";
/// Reads for `postgres_fdw`; on the origin.
pub const READER: &str = "hopcast_reader";
/// The gateways' own; on an edge.
pub const GATEWAY: &str = "hopcast_gateway";
/// Owns the functions that gateways execute; on an edge.
pub const DEFINER: &str = "hopcast_definer";

/// Creates the role where it is missing and gives it exactly these attributes (`LOGIN REPLICATION` and the like).
///
/// The password goes to the server as a SCRAM verifier (RFC 5803), so that no log of statements can have it.
pub(crate) fn role(name: &str, attributes: &str, password: Option<&str>) -> String {
    let password = match password {
        Some(password) => format!("PASSWORD {}", literal(&scram_sha_256(password.as_bytes()))),
        None => "PASSWORD NULL".into(),
    };
    let quoted = ident(name);
    format!(
        "DO $do$ BEGIN CREATE ROLE {quoted}; EXCEPTION WHEN duplicate_object THEN NULL; END $do$; \
         ALTER ROLE {quoted} NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOBYPASSRLS NOREPLICATION NOLOGIN; \
         ALTER ROLE {quoted} {attributes} {password};\n"
    )
}

/// Takes from everyone what PostgreSQL gives to everyone: connecting to the database, temporary tables in it, and large
/// objects (any role may create those otherwise).
pub(crate) fn close_database(database: &str) -> String {
    let database = ident(database);
    format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC; \
         REVOKE ALL ON SCHEMA hopcast FROM PUBLIC; \
         REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), \
            pg_catalog.lo_from_bytea(oid, bytea) FROM PUBLIC;\n"
    )
}

//! Setting up an edge: the gateways' role, what it may execute, the way to the origin on a miss, the subscription.

use hopcast_protocol::{DatabaseName, MeshName};

use crate::{
    admin::Admin,
    error::Error,
    gateway::STATEMENT_TIMEOUT,
    roles::{DEFINER, GATEWAY, READER, close_database, role},
    sql::{alter_options, ident, options},
};

/// The foreign server on an edge, and the schema of its foreign tables.
const SERVER: &str = "hopcast_origin";

/// What an edge should be. Holds passwords, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct EdgeSetup<'a> {
    /// The mesh, for the slot's name.
    pub mesh: &'a MeshName,
    /// The edge.
    pub edge: &'a DatabaseName,
    /// Host name or address under which the edge's server reaches the origin.
    pub origin_host: &'a str,
    /// Port there.
    pub origin_port: u16,
    /// Database there.
    pub origin_database: &'a str,
    /// Of [`crate::roles::REPL`] on the origin.
    pub repl_password: &'a str,
    /// Of [`READER`] on the origin.
    pub reader_password: &'a str,
    /// Of [`GATEWAY`] on this edge.
    pub gateway_password: &'a str,
}

/// What [`Admin::setup_edge`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeReport {
    /// Schema versions applied now.
    pub migrated: Vec<i32>,
    /// The way to the origin on a miss was created or changed.
    pub origin_access_changed: bool,
    /// What became of the subscription.
    pub subscription: Subscribed,
}

/// What became of an edge's subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscribed {
    /// It was as it should be.
    Unchanged,
    /// Only the origin's address or password had changed.
    ConnectionRewritten,
    /// The edge was emptied and subscribed anew.
    Anew {
        /// Why, as a sentence's end: "the slot is missing".
        reason: String,
    },
}

impl Admin {
    /// [`Admin::prepare_edge`], then [`Admin::subscribe_edge`]. Changes only what differs; safe to repeat at any time.
    pub async fn setup_edge(&mut self, origin: &Admin, setup: &EdgeSetup<'_>) -> Result<EdgeReport, Error> {
        let mut report = self.prepare_edge(setup).await?;
        report.subscription = self.subscribe_edge(origin, setup).await?;
        Ok(report)
    }

    /// Migrates the schema, sets the gateways' role and what it may execute. Needs no origin yet, so it can run beside
    /// the origin's own set-up.
    pub async fn prepare_edge(&mut self, setup: &EdgeSetup<'_>) -> Result<EdgeReport, Error> {
        let migrated = self.migrate().await?;
        self.execute("set up the edge's roles", &self.roles(setup)).await?;
        let origin_access_changed = self.foreign_access(setup).await?;
        self.execute("set up what gateways may execute", &functions()).await?;
        Ok(EdgeReport { migrated, origin_access_changed, subscription: Subscribed::Unchanged })
    }

    /// Reconciles the subscription of an edge that was prepared with an origin that was set up.
    pub async fn subscribe_edge(&self, origin: &Admin, setup: &EdgeSetup<'_>) -> Result<Subscribed, Error> {
        self.reconcile(origin, setup).await
    }

    fn roles(&self, setup: &EdgeSetup<'_>) -> String {
        let database = ident(&self.database);
        [
            close_database(&self.database),
            role(DEFINER, "NOLOGIN", None),
            role(GATEWAY, "LOGIN", Some(setup.gateway_password)),
            format!(
                "ALTER ROLE {GATEWAY} SET statement_timeout = '{}ms'; \
                 ALTER ROLE {GATEWAY} SET default_transaction_read_only = on; \
                 GRANT CONNECT ON DATABASE {database} TO {GATEWAY}; \
                 GRANT USAGE ON SCHEMA hopcast TO {GATEWAY}, {DEFINER}; \
                 GRANT SELECT ON hopcast.manifests TO {GATEWAY}; \
                 GRANT SELECT ON hopcast.blobs, hopcast.manifests TO {DEFINER};",
                STATEMENT_TIMEOUT.as_millis()
            ),
        ]
        .concat()
    }

    async fn foreign_access(&self, setup: &EdgeSetup<'_>) -> Result<bool, Error> {
        let what = "set up the edge's way to the origin";
        let port = setup.origin_port.to_string();
        let server = [
            ("host", setup.origin_host),
            ("port", &port),
            ("dbname", setup.origin_database),
            ("connect_timeout", "2"),
            ("keepalives_idle", "5"),
        ];
        let mapping = [("user", READER), ("password", setup.reader_password)];
        self.execute(what, "CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA hopcast").await?;
        let server_options = "SELECT coalesce(srvoptions, '{}') FROM pg_foreign_server WHERE srvname = $1";
        let mapping_options =
            "SELECT coalesce(umoptions, '{}') FROM pg_user_mappings WHERE srvname = $1 AND usename = $2";
        let found_server = self.row(what, server_options, &[&SERVER]).await?;
        let found_mapping = self.row(what, mapping_options, &[&SERVER, &DEFINER]).await?;
        let mut statements = Vec::new();
        match found_server {
            None => statements.push(format!(
                "CREATE SERVER {SERVER} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})",
                options(&server)
            )),
            Some(row) => statements.extend(
                alter_options(&row.get::<_, Vec<String>>(0), &server)
                    .map(|changes| format!("ALTER SERVER {SERVER} OPTIONS ({changes})")),
            ),
        }
        match found_mapping {
            None => statements.push(format!(
                "CREATE USER MAPPING FOR {DEFINER} SERVER {SERVER} OPTIONS ({})",
                options(&mapping)
            )),
            Some(row) => {
                statements.extend(alter_options(&row.get::<_, Vec<String>>(0), &mapping).map(|changes| {
                    format!("ALTER USER MAPPING FOR {DEFINER} SERVER {SERVER} OPTIONS ({changes})")
                }));
            }
        }
        let changed = !statements.is_empty();
        statements.push(format!(
            "CREATE SCHEMA IF NOT EXISTS {SERVER}; \
             CREATE FOREIGN TABLE IF NOT EXISTS {SERVER}.blobs (sha256 bytea, bytes bytea) \
                SERVER {SERVER} OPTIONS (schema_name 'hopcast', table_name 'blobs'); \
             CREATE FOREIGN TABLE IF NOT EXISTS {SERVER}.manifests (name text, bytes bytea) \
                SERVER {SERVER} OPTIONS (schema_name 'hopcast', table_name 'manifests'); \
             GRANT USAGE ON SCHEMA {SERVER} TO {DEFINER}; \
             GRANT SELECT ON {SERVER}.blobs, {SERVER}.manifests TO {DEFINER}"
        ));
        self.execute(what, &statements.join("; ")).await?;
        Ok(changed)
    }
}

/// What a gateway may execute. Two functions return the local row, else the origin's, and insert nothing: a row that is already
/// there when its copy arrives would stall all of the edge's replication. The third says whether there is a local row.
fn functions() -> String {
    let function = |name: &str, argument: &str, result: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION hopcast.{name}(wanted {argument}) RETURNS {result} \
             LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
             AS $function$ {body} $function$; \
             ALTER FUNCTION hopcast.{name}({argument}) OWNER TO {DEFINER}; \
             REVOKE ALL ON FUNCTION hopcast.{name}({argument}) FROM PUBLIC; \
             GRANT EXECUTE ON FUNCTION hopcast.{name}({argument}) TO {GATEWAY};\n"
        )
    };
    let row = |name: &str, argument: &str, table: &str, key: &str| {
        let body = format!(
            "DECLARE found bytea; \
             BEGIN \
                 SELECT t.bytes INTO found FROM hopcast.{table} t WHERE t.{key} = wanted LIMIT 1; \
                 IF found IS NULL THEN \
                     SELECT t.bytes INTO found FROM {SERVER}.{table} t WHERE t.{key} = wanted LIMIT 1; \
                 END IF; \
                 RETURN found; \
             END"
        );
        function(name, argument, "bytea", &body)
    };
    let holds = "BEGIN RETURN EXISTS (SELECT FROM hopcast.blobs t WHERE t.sha256 = wanted); END";
    // Replacing a function needs CREATE on its schema for the owner-to-be only while the owner changes; a superuser is
    // exempt.
    [
        row("blob", "bytea", "blobs", "sha256"),
        row("manifest", "text", "manifests", "name"),
        function("holds", "bytea", "boolean", holds),
    ]
    .concat()
}

//! The owner's connection to an origin or edge database: who deploys and who ingests holds one.
//!
//! Its rights are a superuser's, so it never leaves the machine that deploys; no peer has one.

use std::time::Duration;

use hopcast_protocol::{DatabaseAccess, DatabaseName};
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{
    connection::Connection,
    error::{Doing as _, Error, within},
    sql::ident,
};

/// How long connecting may take.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long any one step (a migration, a statement, a batch of segments) may take.
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a state that is waited for.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A superuser's connection to one database.
pub struct Admin {
    pub(crate) connection: Connection,
    pub(crate) name: DatabaseName,
    pub(crate) database: String,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({})", self.name)
    }
}

impl Admin {
    /// Connects as the superuser that `access` names, within 10 s.
    pub async fn connect(access: &DatabaseAccess) -> Result<Self, Error> {
        let connection = Connection::open(access, None, "hopcast", CONNECT_DEADLINE).await?;
        let admin = Self { connection, name: access.name.clone(), database: access.database.clone() };
        // The server's own limits, so that nothing it does for us outlives our waiting for it.
        let limits = format!(
            "SET statement_timeout = '{}s'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '{}s'; \
             SET client_min_messages = warning",
            STEP_DEADLINE.as_secs(),
            STEP_DEADLINE.as_secs()
        );
        admin.execute("set the session's limits", &limits).await?;
        Ok(admin)
    }

    /// As [`Admin::connect`], but a server that is only just starting is asked again until `deadline`.
    pub async fn connect_within(access: &DatabaseAccess, deadline: Duration) -> Result<Self, Error> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            match Self::connect(access).await {
                Err(error) if error.is_starting() && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(POLL).await;
                }
                result => return result,
            }
        }
    }

    /// Creates the database that `access` names where the cluster lacks it; true where it did. Waits for a server that
    /// is only just starting, until `deadline`.
    pub async fn ensure_database(access: &DatabaseAccess, deadline: Duration) -> Result<bool, Error> {
        let maintenance = DatabaseAccess { database: "postgres".into(), ..access.clone() };
        let admin = Self::connect_within(&maintenance, deadline).await?;
        let what = format!("create database {}", access.database);
        let exists = "SELECT FROM pg_database WHERE datname = $1";
        if admin.row(&what, exists, &[&access.database]).await?.is_some() {
            return Ok(false);
        }
        admin.execute(&what, &format!("CREATE DATABASE {}", ident(&access.database))).await?;
        Ok(true)
    }

    /// The database's name in the topology.
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// True once the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.connection.client
    }

    /// Runs statements without parameters. More than one in `sql` is one transaction.
    pub(crate) async fn execute(&self, what: &str, sql: &str) -> Result<(), Error> {
        within(STEP_DEADLINE, what, async { self.client().batch_execute(sql).await.doing(what) }).await
    }

    /// The rows of a query.
    pub(crate) async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        within(STEP_DEADLINE, what, async { self.client().query(sql, parameters).await.doing(what) }).await
    }

    /// The row of a query that gives at most one.
    pub(crate) async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Error> {
        within(STEP_DEADLINE, what, async { self.client().query_opt(sql, parameters).await.doing(what) })
            .await
    }

    /// Changes rows; how many.
    pub(crate) async fn change(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        within(STEP_DEADLINE, what, async { self.client().execute(sql, parameters).await.doing(what) }).await
    }

    /// What tells this database from every other one, a new one in the same place included: the cluster's system
    /// identifier and the schema's own mark.
    pub(crate) async fn identity(&self) -> Result<String, Error> {
        let what = "read the database's identity";
        let sql = "SELECT system_identifier::text || '/' || id FROM pg_control_system(), hopcast.identity";
        within(STEP_DEADLINE, what, async { Ok(self.client().query_one(sql, &[]).await.doing(what)?.get(0)) })
            .await
    }

    /// The cluster's system identifier (PostgreSQL manual 9.27.12).
    pub async fn system_identifier(&self) -> Result<String, Error> {
        let what = "read the cluster's system identifier";
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        within(STEP_DEADLINE, what, async { Ok(self.client().query_one(sql, &[]).await.doing(what)?.get(0)) })
            .await
    }
}

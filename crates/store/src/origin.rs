//! Setting up the origin: roles, publication, and the slots of edges that left.

use hopcast_protocol::{DatabaseName, MeshName};

use crate::{
    admin::{Admin, POLL, STEP_DEADLINE},
    error::{Doing as _, Error, within},
    roles::{READER, REPL, close_database, role},
    schema::REPLICATED_TABLES,
    sql::ident,
};

/// The publication on the origin, and the subscription on each edge.
pub const PUBLICATION: &str = "hopcast";

/// What an origin should be. Holds passwords, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct OriginSetup<'a> {
    /// The mesh, for the slots' names.
    pub mesh: &'a MeshName,
    /// Every edge of the topology: slots of others are dropped.
    pub edges: &'a [DatabaseName],
    /// Of [`REPL`].
    pub repl_password: &'a str,
    /// Of [`READER`].
    pub reader_password: &'a str,
}

/// What [`Admin::setup_origin`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginReport {
    /// Schema versions applied now.
    pub migrated: Vec<i32>,
    /// The publication was created or its tables changed.
    pub published: bool,
    /// Edges that left: their slots are gone.
    pub dropped_edges: Vec<String>,
    /// Copies of songs swept away: left by a killed ingest, or replaced a while ago.
    pub swept: u64,
}

impl Admin {
    /// Migrates the schema, sets roles and publication, drops the slots of edges that left, sweeps what a killed ingest
    /// left behind. Changes only what differs; safe to repeat at any time.
    pub async fn setup_origin(&mut self, setup: &OriginSetup<'_>) -> Result<OriginReport, Error> {
        let migrated = self.migrate().await?;
        let tables = REPLICATED_TABLES.join(", ");
        let database = ident(&self.database);
        let roles = [
            close_database(&self.database),
            role(REPL, "LOGIN REPLICATION", Some(setup.repl_password)),
            role(READER, "LOGIN", Some(setup.reader_password)),
            format!(
                "GRANT CONNECT ON DATABASE {database} TO {REPL}, {READER}; \
                 GRANT USAGE ON SCHEMA hopcast TO {REPL}, {READER}; \
                 GRANT SELECT ON {tables} TO {REPL}; \
                 GRANT SELECT ON hopcast.blobs, hopcast.manifests TO {READER};"
            ),
        ]
        .concat();
        self.execute("set up the origin's roles", &roles).await?;
        let published = self.publish(&tables).await?;
        let dropped_edges = self.drop_departed(setup.edges).await?;
        let swept = self.sweep().await?;
        Ok(OriginReport { migrated, published, dropped_edges, swept })
    }

    async fn publish(&self, tables: &str) -> Result<bool, Error> {
        let what = "publish the songs";
        let sql = "SELECT coalesce(array_agg(schemaname || '.' || tablename ORDER BY 1), '{}') \
                   FROM pg_publication p LEFT JOIN pg_publication_tables t USING (pubname) \
                   WHERE p.pubname = $1 GROUP BY p.oid";
        let row = self.row(what, sql, &[&PUBLICATION]).await?;
        let Some(row) = row else {
            self.execute(what, &format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {tables}")).await?;
            return Ok(true);
        };
        let mut found: Vec<Option<String>> = row.get(0);
        let mut wanted: Vec<Option<String>> = REPLICATED_TABLES.iter().map(|&t| Some(t.into())).collect();
        found.sort();
        wanted.sort();
        if found == wanted {
            return Ok(false);
        }
        self.execute(what, &format!("ALTER PUBLICATION {PUBLICATION} SET TABLE {tables}")).await?;
        Ok(true)
    }

    async fn drop_departed(&self, edges: &[DatabaseName]) -> Result<Vec<String>, Error> {
        let what = "drop the slots of edges that left";
        let staying: Vec<&str> = edges.iter().map(DatabaseName::as_str).collect();
        let sql = "SELECT name FROM hopcast.edges WHERE name <> ALL ($1) ORDER BY name";
        let mut dropped = Vec::new();
        for row in self.rows(what, sql, &[&staying]).await? {
            let name: String = row.get(0);
            self.forget_edge(&name).await?;
            dropped.push(name);
        }
        Ok(dropped)
    }

    /// Drops an edge's slot, and the slots that an interrupted copy of its tables left behind, named
    /// `pg_<subscription>_sync_<table>_<system identifier>`; then the record of it.
    pub(crate) async fn forget_edge(&self, name: &str) -> Result<(), Error> {
        let what = format!("forget the subscription of {name}");
        let slots = "SELECT s.slot_name::text FROM pg_replication_slots s, hopcast.edges e \
                     WHERE e.name = $1 AND s.database = current_database() AND (s.slot_name::text = e.slot \
                        OR s.slot_name::text ~ ('^pg_' || e.subscription || '_sync_[0-9]+_' || e.system_identifier || '$'))";
        for row in self.rows(&what, slots, &[&name]).await? {
            self.drop_slot(row.get(0)).await?;
        }
        self.change(&what, "DELETE FROM hopcast.edges WHERE name = $1", &[&name]).await?;
        Ok(())
    }

    /// Drops a slot; ends the walsender that is using it first, which a lost edge can leave behind for minutes.
    pub(crate) async fn drop_slot(&self, slot: &str) -> Result<bool, Error> {
        let what = format!("drop replication slot {slot}");
        within(STEP_DEADLINE, &what, async {
            loop {
                let row = self
                    .client()
                    .query_opt(
                        "SELECT active_pid FROM pg_replication_slots WHERE slot_name::text = $1 AND database = current_database()",
                        &[&slot],
                    )
                    .await
                    .doing(&what)?;
                match row.map(|row| row.get::<_, Option<i32>>(0)) {
                    None => return Ok(false),
                    Some(Some(pid)) => {
                        self.client().query("SELECT pg_terminate_backend($1)", &[&pid]).await.doing(&what)?;
                        tokio::time::sleep(POLL).await;
                    }
                    Some(None) => {
                        let sql = "SELECT pg_drop_replication_slot($1::text::name)";
                        match self.client().query(sql, &[&slot]).await {
                            Ok(_) => return Ok(true),
                            // The edge was quicker and connected again (55006, object_in_use): once more.
                            Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {}
                            Err(error) => return Err(error).doing(&what),
                        }
                    }
                }
            }
        })
        .await
    }
}

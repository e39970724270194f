//! Reconciling an edge's subscription with its origin.
//!
//! Ports change between runs, clusters are recreated, edges leave and come back, slots get lost. Whatever the case, the
//! outcome is one of [`Subscribed`]; where rows may be missing or foreign, the edge is emptied and subscribed anew, and
//! meanwhile its gateways are answered by the origin.

use crate::{
    admin::Admin,
    edge::{EdgeSetup, Subscribed},
    error::{Doing as _, Error},
    origin::PUBLICATION,
    roles::REPL,
    schema::REPLICATED_TABLES,
    slot::slot_name,
    sql::{conninfo, ident, literal},
};

/// What an edge's catalogue says about its subscription.
struct Found {
    enabled: bool,
    conninfo: String,
    slot: Option<String>,
    publications: Vec<String>,
    relations: i64,
}

impl Admin {
    pub(crate) async fn reconcile(&self, origin: &Admin, setup: &EdgeSetup<'_>) -> Result<Subscribed, Error> {
        let slot = slot_name(setup.mesh, setup.edge);
        let port = setup.origin_port.to_string();
        let wanted = conninfo(&[
            ("host", setup.origin_host),
            ("port", &port),
            ("dbname", setup.origin_database),
            ("user", REPL),
            ("password", setup.repl_password),
            ("connect_timeout", "5"),
            ("keepalives_idle", "5"),
        ]);
        let identity = origin.identity().await?;
        let found = self.subscription().await?;
        let reason = self.why_anew(origin, found.as_ref(), &slot, &identity).await?;
        let Some(reason) = reason else {
            // `why_anew` gives a reason where there is no subscription.
            let Some(found) = found else { return Ok(Subscribed::Unchanged) };
            self.record(origin, setup, &slot).await?;
            if found.relations != REPLICATED_TABLES.len() as i64 {
                let refresh = format!("ALTER SUBSCRIPTION {PUBLICATION} REFRESH PUBLICATION");
                self.execute("subscribe to new tables", &refresh).await?;
            }
            if found.conninfo == wanted {
                return Ok(Subscribed::Unchanged);
            }
            let alter = format!("ALTER SUBSCRIPTION {PUBLICATION} CONNECTION {}", literal(&wanted));
            self.execute("rewrite the subscription's connection", &alter).await?;
            return Ok(Subscribed::ConnectionRewritten);
        };
        if found.is_some() {
            self.detach(&wanted).await?;
        }
        self.forget(origin, setup, &slot).await?;
        self.record(origin, setup, &slot).await?;
        let empty = format!(
            "TRUNCATE {}; DELETE FROM hopcast.replica; INSERT INTO hopcast.replica VALUES ({})",
            REPLICATED_TABLES.join(", "),
            literal(&identity)
        );
        self.execute("empty the edge", &empty).await?;
        // With `synchronous_commit` off, its default here, an edge that crashes forgets that a table was synchronised
        // after the origin has dropped that table's slot, and waits for it for ever.
        let subscribe = format!(
            "CREATE SUBSCRIPTION {PUBLICATION} CONNECTION {} PUBLICATION {PUBLICATION} \
             WITH (slot_name = {}, binary = true, streaming = on, copy_data = true, synchronous_commit = on)",
            literal(&wanted),
            ident(&slot)
        );
        self.execute("subscribe to the origin", &subscribe).await?;
        Ok(Subscribed::Anew { reason })
    }

    async fn subscription(&self) -> Result<Option<Found>, Error> {
        let sql = "SELECT subenabled, subconninfo, subslotname::text, subpublications, \
                      (SELECT count(*) FROM pg_subscription_rel WHERE srsubid = s.oid) \
                   FROM pg_subscription s \
                   WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let row =
            self.client().query_opt(sql, &[&PUBLICATION]).await.doing("read the edge's subscription")?;
        Ok(row.map(|row| Found {
            enabled: row.get(0),
            conninfo: row.get(1),
            slot: row.get(2),
            publications: row.get(3),
            relations: row.get(4),
        }))
    }

    /// Why the edge must be emptied and subscribed anew; `None` where what it has can go on.
    async fn why_anew(
        &self,
        origin: &Admin,
        found: Option<&Found>,
        slot: &str,
        identity: &str,
    ) -> Result<Option<String>, Error> {
        let Some(found) = found else { return Ok(Some("there is no subscription".into())) };
        let what = "compare the edge with its origin";
        let row = self.client().query_opt("SELECT origin FROM hopcast.replica", &[]).await.doing(what)?;
        if row.is_none_or(|row| row.get::<_, &str>(0) != identity) {
            return Ok(Some("the origin is another one".into()));
        }
        if found.slot.as_deref() != Some(slot) || found.publications != [PUBLICATION] {
            return Ok(Some("the subscription is to something else".into()));
        }
        if !found.enabled {
            return Ok(Some("the subscription is disabled".into()));
        }
        let sql = "SELECT wal_status, e.system_identifier \
                   FROM pg_replication_slots s LEFT JOIN hopcast.edges e ON e.slot = s.slot_name::text \
                   WHERE slot_name::text = $1 AND s.database = current_database()";
        let Some(row) = origin.client().query_opt(sql, &[&slot]).await.doing(what)? else {
            return Ok(Some("the slot is missing".into()));
        };
        if row.get::<_, Option<&str>>(0).is_none_or(|status| status == "lost") {
            return Ok(Some("the slot is lost".into()));
        }
        if self.is_copy_stuck(origin).await? {
            return Ok(Some("the copy of a table cannot be finished".into()));
        }
        Ok(None)
    }

    /// True where a table's copy is done but the slot that it should catch up from is gone: its worker then fails for
    /// ever. Looked at twice, because a worker that is doing well drops the slot too, right after leaving that state.
    async fn is_copy_stuck(&self, origin: &Admin) -> Result<bool, Error> {
        let what = "look for tables that cannot be synchronised";
        let waiting = "SELECT 'pg_' || srsubid || '_sync_' || srrelid || '_' || system_identifier \
                       FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid \
                          AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()), \
                          pg_control_system() \
                       WHERE s.subname = $1 AND srsubstate = 'f'";
        let slots = "SELECT slot_name::text FROM pg_replication_slots";
        let names =
            |rows: Vec<tokio_postgres::Row>| -> Vec<String> { rows.iter().map(|row| row.get(0)).collect() };
        let before = names(self.client().query(waiting, &[&PUBLICATION]).await.doing(what)?);
        if before.is_empty() {
            return Ok(false);
        }
        let slots = names(origin.client().query(slots, &[]).await.doing(what)?);
        let after = names(self.client().query(waiting, &[&PUBLICATION]).await.doing(what)?);
        Ok(before.iter().any(|slot| !slots.contains(slot) && after.contains(slot)))
    }

    /// Drops the subscription without the origin's help, which may be gone.
    async fn detach(&self, reachable: &str) -> Result<(), Error> {
        let what = "detach from the origin";
        self.execute(what, &format!("ALTER SUBSCRIPTION {PUBLICATION} DISABLE")).await?;
        // Dropping in mid-synchronisation connects to the origin once: let that be one that answers.
        let point = format!(
            "ALTER SUBSCRIPTION {PUBLICATION} CONNECTION {}; ALTER SUBSCRIPTION {PUBLICATION} SET (slot_name = NONE)",
            literal(reachable)
        );
        self.execute(what, &point).await?;
        self.execute(what, &format!("DROP SUBSCRIPTION {PUBLICATION}")).await
    }

    /// Removes from the origin what an earlier subscription of this edge left there.
    async fn forget(&self, origin: &Admin, setup: &EdgeSetup<'_>, slot: &str) -> Result<(), Error> {
        let sql = "DELETE FROM hopcast.edges WHERE name = $1 RETURNING slot, system_identifier";
        let row = origin
            .client()
            .query_opt(sql, &[&setup.edge.as_str()])
            .await
            .doing("forget the edge's old subscription")?;
        if let Some(row) = row {
            origin.drop_slot(row.get(0)).await?;
            origin.drop_synchronisation_slots(row.get(1)).await?;
        }
        origin.drop_slot(slot).await?;
        Ok(())
    }

    async fn record(&self, origin: &Admin, setup: &EdgeSetup<'_>, slot: &str) -> Result<(), Error> {
        let cluster = self.system_identifier().await?;
        let sql = "INSERT INTO hopcast.edges (name, slot, system_identifier) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET slot = excluded.slot, system_identifier = excluded.system_identifier \
                   WHERE (edges.slot, edges.system_identifier) <> (excluded.slot, excluded.system_identifier)";
        origin
            .client()
            .execute(sql, &[&setup.edge.as_str(), &slot, &cluster])
            .await
            .doing("record the edge at its origin")?;
        Ok(())
    }
}

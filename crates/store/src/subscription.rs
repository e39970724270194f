//! Reconciling an edge's subscription with its origin.
//!
//! Ports change between runs, clusters are recreated, edges leave and come back, slots get lost. Whatever the case, the
//! outcome is one of [`Subscribed`]; where rows may be missing or foreign, the edge is emptied and subscribed anew, and
//! meanwhile its gateways are answered by the origin.

use hopcast_protocol::DatabaseName;
use tokio_postgres::types::ToSql;

use crate::{
    admin::{Admin, STEP_DEADLINE},
    edge::{EdgeSetup, Subscribed},
    error::{Doing as _, Error, within},
    origin::PUBLICATION,
    roles::REPL,
    schema::REPLICATED_TABLES,
    slot::slot_name,
    sql::{conninfo, ident, literal},
};

/// Clusters copied from one template hand out the same numbers: so often a subscription is created anew to find a free one.
const MOST_EDGES: u32 = 256;

/// What an edge's catalogue says about its subscription.
struct Found {
    oid: u32,
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
        let reason = self.why_anew(origin, found.as_ref(), setup.edge, &slot, &identity).await?;
        let Some(reason) = reason else {
            // `why_anew` gives a reason where there is no subscription.
            let Some(found) = found else { return Ok(Subscribed::Unchanged) };
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
        origin.forget_edge(setup.edge.as_str()).await?;
        origin.drop_slot(&slot).await?;
        let empty = format!(
            "TRUNCATE {}, hopcast.sources; DELETE FROM hopcast.replica; INSERT INTO hopcast.replica VALUES ({})",
            REPLICATED_TABLES.join(", "),
            literal(&identity)
        );
        self.execute("empty the edge", &empty).await?;
        self.subscribe(origin, setup, &slot, &wanted).await?;
        Ok(Subscribed::Anew { reason })
    }

    /// Creates the slot, then the subscription under a number that no other edge of the same system identifier has, then
    /// lets it run. Where this is interrupted the subscription is missing or disabled: mended by the next reconciliation.
    async fn subscribe(
        &self,
        origin: &Admin,
        setup: &EdgeSetup<'_>,
        slot: &str,
        wanted: &str,
    ) -> Result<(), Error> {
        let what = "subscribe to the origin";
        let slots = "SELECT pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
        origin.rows(what, slots, &[&slot]).await?;
        // What was committed before the slot began is there to be seen now; the rest comes through the slot. An origin
        // without any song, as every new one is, needs no table copied.
        let tables = REPLICATED_TABLES.map(|table| format!("EXISTS (SELECT FROM {table})")).join(" OR ");
        let copy: bool = within(STEP_DEADLINE, what, async {
            Ok(origin.client().query_one(&format!("SELECT {tables}"), &[]).await.doing(what)?.get(0))
        })
        .await?;
        // With `synchronous_commit` off, its default here, an edge that crashes forgets that a table was synchronised
        // after the origin has dropped that table's slot, and waits for it for ever.
        let create = format!(
            "CREATE SUBSCRIPTION {PUBLICATION} CONNECTION {} PUBLICATION {PUBLICATION} \
             WITH (enabled = false, create_slot = false, slot_name = {}, copy_data = {copy}, binary = true, \
                streaming = on, synchronous_commit = on)",
            literal(wanted),
            ident(slot)
        );
        let cluster = self.system_identifier().await?;
        let mut attempts = 0;
        loop {
            self.execute(what, &create).await?;
            let oid = self.subscription().await?.map_or(0, |found| found.oid);
            let record = "INSERT INTO hopcast.edges (name, slot, system_identifier, subscription) \
                          VALUES ($1, $2, $3, $4) ON CONFLICT (system_identifier, subscription) DO NOTHING";
            let parameters: [&(dyn ToSql + Sync); 4] = [&setup.edge.as_str(), &slot, &cluster, &oid];
            let recorded = origin.change("record the edge at its origin", record, &parameters).await?;
            if recorded == 1 {
                return self.execute(what, &format!("ALTER SUBSCRIPTION {PUBLICATION} ENABLE")).await;
            }
            // The next one gets the next number.
            self.detach(wanted).await?;
            attempts += 1;
            if attempts > MOST_EDGES {
                let what = format!("more than {MOST_EDGES} edges of one system identifier");
                return Err(Error::Corrupt { name: origin.name.to_string(), what });
            }
        }
    }

    async fn subscription(&self) -> Result<Option<Found>, Error> {
        let sql = "SELECT s.oid, subenabled, subconninfo, subslotname::text, subpublications, \
                      (SELECT count(*) FROM pg_subscription_rel WHERE srsubid = s.oid) \
                   FROM pg_subscription s \
                   WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let row = self.row("read the edge's subscription", sql, &[&PUBLICATION]).await?;
        Ok(row.map(|row| Found {
            oid: row.get(0),
            enabled: row.get(1),
            conninfo: row.get(2),
            slot: row.get(3),
            publications: row.get(4),
            relations: row.get(5),
        }))
    }

    /// Why the edge must be emptied and subscribed anew; `None` where what it has can go on.
    async fn why_anew(
        &self,
        origin: &Admin,
        found: Option<&Found>,
        edge: &DatabaseName,
        slot: &str,
        identity: &str,
    ) -> Result<Option<String>, Error> {
        let Some(found) = found else { return Ok(Some("there is no subscription".into())) };
        let what = "compare the edge with its origin";
        let row = self.row(what, "SELECT origin FROM hopcast.replica", &[]).await?;
        if row.is_none_or(|row| row.get::<_, &str>(0) != identity) {
            return Ok(Some("the origin is another one".into()));
        }
        if found.slot.as_deref() != Some(slot) || found.publications != [PUBLICATION] {
            return Ok(Some("the subscription is to something else".into()));
        }
        if !found.enabled {
            return Ok(Some("the subscription is disabled".into()));
        }
        let sql = "SELECT wal_status, EXISTS (SELECT FROM hopcast.edges WHERE name = $2 AND slot = $1) \
                   FROM pg_replication_slots WHERE slot_name::text = $1 AND database = current_database()";
        let Some(row) = origin.row(what, sql, &[&slot, &edge.as_str()]).await? else {
            return Ok(Some("the slot is missing".into()));
        };
        if !row.get::<_, bool>(1) {
            return Ok(Some("the origin does not know the edge".into()));
        }
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
        let before = names(self.rows(what, waiting, &[&PUBLICATION]).await?);
        if before.is_empty() {
            return Ok(false);
        }
        let slots = names(origin.rows(what, slots, &[]).await?);
        let after = names(self.rows(what, waiting, &[&PUBLICATION]).await?);
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
}

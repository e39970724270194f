//! Watching an edge follow its origin.
//!
//! "Replicating" means: every relation is ready, and the walsender of the edge's slot is streaming.

use std::{fmt, time::Duration};

use hopcast_protocol::{DatabaseName, MeshName};

use crate::{
    admin::{Admin, POLL, STEP_DEADLINE},
    error::{Doing as _, Error, within},
    origin::PUBLICATION,
    schema::REPLICATED_TABLES,
    slot::slot_name,
};

/// Failures to apply and to copy. PostgreSQL 19 gives the second one's column another name, so columns are asked for by name
/// in the row: one that a version lacks counts nothing.
const ERRORS: &str = "SELECT coalesce(sum(value::bigint), 0)::bigint \
     FROM pg_stat_subscription_stats s, jsonb_each_text(to_jsonb(s)) \
     WHERE s.subname = $1 AND key IN ('apply_error_count', 'sync_error_count', 'sync_table_error_count')";

/// How an edge follows its origin, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ReplicationState {
    /// Each relation that the edge subscribes to, with its state: `i`nitialise, `d`ata copy, `f`inished copy,
    /// `s`ynchronised, `r`eady (PostgreSQL manual 53.55).
    pub relations: Vec<(String, char)>,
    /// The state of the walsender on the slot: `startup`, `catchup`, `streaming`; `None` while the edge is not connected.
    pub walsender: Option<String>,
    /// The slot's `wal_status`; `None` where there is no slot.
    pub slot: Option<String>,
    /// Bytes of WAL that the edge has not confirmed; `None` without a slot.
    pub lag_bytes: Option<i64>,
    /// Times that applying or copying failed on the edge since it was subscribed, lost connections included. Growing means
    /// stalled: the edge's log has the reason.
    pub errors: i64,
}

impl ReplicationState {
    /// Every relation is ready and the walsender is streaming.
    pub fn is_replicating(&self) -> bool {
        self.relations.len() == REPLICATED_TABLES.len()
            && self.relations.iter().all(|(_, state)| *state == 'r')
            && self.walsender.as_deref() == Some("streaming")
    }
}

impl fmt::Display for ReplicationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = self.relations.iter().filter(|(_, state)| *state == 'r').count();
        write!(f, "{ready} of {} relations ready, ", REPLICATED_TABLES.len())?;
        match (&self.slot, &self.walsender) {
            (None, _) => f.write_str("no slot on the origin"),
            (Some(slot), None) => write!(f, "not connected to its slot ({slot})"),
            (Some(_), Some(state)) => write!(f, "walsender {state}"),
        }?;
        if let Some(lag) = self.lag_bytes {
            write!(f, ", {lag} bytes behind")?;
        }
        // Failures that are over (a database that was started again) are of no interest.
        if self.errors > 0 && !self.is_replicating() {
            write!(f, ", errors so far: {} (see the edge's log)", self.errors)?;
        }
        Ok(())
    }
}

impl Admin {
    /// How this edge follows that origin now.
    pub async fn replication_state(
        &self,
        origin: &Admin,
        mesh: &MeshName,
        edge: &DatabaseName,
    ) -> Result<ReplicationState, Error> {
        let what = format!("read the replication state of {edge}");
        let look = async {
            let relations = self
                .client()
                .query(
                    "SELECT srrelid::regclass::text, srsubstate FROM pg_subscription_rel r \
                     JOIN pg_subscription s ON s.oid = r.srsubid \
                        AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                     WHERE s.subname = $1 AND s.subenabled ORDER BY 1",
                    &[&PUBLICATION],
                )
                .await
                .doing(&what)?;
            let errors = self.client().query_one(ERRORS, &[&PUBLICATION]).await.doing(&what)?;
            let slot = origin
                .client()
                .query_opt(
                    "SELECT s.wal_status, r.state, \
                        pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint \
                     FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid \
                     WHERE s.slot_name::text = $1 AND s.database = current_database()",
                    &[&slot_name(mesh, edge)],
                )
                .await
                .doing(&what)?;
            let mut state = ReplicationState {
                relations: relations
                    .iter()
                    .map(|row| (row.get(0), char::from(row.get::<_, i8>(1) as u8)))
                    .collect(),
                errors: errors.get(0),
                ..ReplicationState::default()
            };
            if let Some(slot) = slot {
                state.slot = Some(slot.get::<_, Option<String>>(0).unwrap_or_else(|| "unknown".into()));
                state.walsender = slot.get(1);
                state.lag_bytes = slot.get(2);
            }
            Ok(state)
        };
        within(STEP_DEADLINE, &what, look).await
    }

    /// Waits until this edge replicates from that origin.
    pub async fn wait_replicating(
        &self,
        origin: &Admin,
        mesh: &MeshName,
        edge: &DatabaseName,
        deadline: Duration,
    ) -> Result<ReplicationState, Error> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            let state = self.replication_state(origin, mesh, edge).await?;
            if state.is_replicating() {
                return Ok(state);
            }
            if tokio::time::Instant::now() >= end {
                let edge = edge.to_string();
                return Err(Error::NotReplicating { edge, after: deadline, state: state.to_string() });
            }
            if state.relations.iter().any(|(_, state)| *state == 's') {
                // A synchronised table becomes ready when the edge hears of a later position in the WAL: on an idle
                // origin that takes a second, unless something is written.
                let what = "write to the origin's WAL";
                let nudge = "SELECT pg_logical_emit_message(true, 'hopcast', '')";
                origin.execute(what, nudge).await?;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// On the origin: waits until every edge has confirmed all that is written now. Returns the edges that had not by the
    /// deadline (down, perhaps: they catch up by themselves when they come back).
    pub async fn wait_carried(&self, deadline: Duration) -> Result<Vec<String>, Error> {
        let what = "wait for the edges";
        let end = tokio::time::Instant::now() + deadline;
        let now: String = within(STEP_DEADLINE, what, async {
            Ok(self.client().query_one("SELECT pg_current_wal_lsn()::text", &[]).await.doing(what)?.get(0))
        })
        .await?;
        let behind = "SELECT e.name FROM hopcast.edges e LEFT JOIN pg_replication_slots s ON s.slot_name::text = e.slot \
                      WHERE (s.confirmed_flush_lsn >= $1::text::pg_lsn) IS NOT TRUE ORDER BY e.name";
        loop {
            let rows = self.rows(what, behind, &[&now]).await?;
            if rows.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(rows.iter().map(|row| row.get(0)).collect());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(states: &str, walsender: Option<&str>) -> ReplicationState {
        ReplicationState {
            relations: states.chars().map(|c| ("hopcast.songs".into(), c)).collect(),
            walsender: walsender.map(Into::into),
            slot: Some("reserved".into()),
            ..ReplicationState::default()
        }
    }

    #[test]
    fn replicating_is_every_relation_and_the_walsender() {
        assert!(state("rrrrr", Some("streaming")).is_replicating());
        for (states, walsender) in [
            ("rrrr", Some("streaming")),
            ("rrrrs", Some("streaming")),
            ("rrrrr", Some("catchup")),
            ("rrrrr", None),
        ] {
            assert!(!state(states, walsender).is_replicating(), "{states} {walsender:?}");
        }
    }
}

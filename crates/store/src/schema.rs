//! The schema's versions, and bringing a database to the newest one. Migrations are never edited once released: a change
//! is a new file.

use crate::{
    admin::{Admin, STEP_DEADLINE},
    error::{Doing as _, Error, within},
};

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// In ascending order of their versions.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "songs", sql: include_str!("../migrations/0001_songs.sql") },
    Migration { version: 2, name: "sources", sql: include_str!("../migrations/0002_sources.sql") },
];

/// The schema version of this program.
pub const SCHEMA_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The tables that the origin publishes.
pub const REPLICATED_TABLES: [&str; 5] =
    ["hopcast.songs", "hopcast.renditions", "hopcast.init_segments", "hopcast.segments", "hopcast.manifests"];

/// Two `up` at once migrate one after the other: an advisory lock, "hopcast" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(29400045130965876)";

impl Admin {
    /// Brings the schema to [`SCHEMA_VERSION`], each version in a transaction of its own; returns the versions applied
    /// now. A database of a newer hopcast is refused untouched.
    pub async fn migrate(&mut self) -> Result<Vec<i32>, Error> {
        self.execute(
            "prepare the migrations",
            &format!(
                "{LOCK}; CREATE SCHEMA IF NOT EXISTS hopcast; \
                 CREATE TABLE IF NOT EXISTS hopcast.migrations ( \
                    version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            ),
        )
        .await?;
        let mut applied = Vec::new();
        for migration in MIGRATIONS {
            let what = format!("migrate database {} to schema {}", self.name, migration.version);
            if within(STEP_DEADLINE, &what, self.step(migration, &what)).await? {
                applied.push(migration.version);
            }
        }
        Ok(applied)
    }

    async fn step(&mut self, migration: &Migration, what: &str) -> Result<bool, Error> {
        let name = self.name.to_string();
        let tx = self.connection.client.transaction().await.doing(what)?;
        tx.batch_execute(LOCK).await.doing(what)?;
        let current: i32 = tx
            .query_one("SELECT coalesce(max(version), 0) FROM hopcast.migrations", &[])
            .await
            .doing(what)?
            .get(0);
        if current > SCHEMA_VERSION {
            return Err(Error::NewerSchema { name, found: current, known: SCHEMA_VERSION });
        }
        if current >= migration.version {
            return Ok(false);
        }
        tx.batch_execute(migration.sql).await.doing(what)?;
        tx.execute(
            "INSERT INTO hopcast.migrations (version, name) VALUES ($1, $2)",
            &[&migration.version, &migration.name],
        )
        .await
        .doing(what)?;
        tx.commit().await.doing(what)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_without_gaps() {
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, at + 1, "{}", migration.name);
        }
    }
}

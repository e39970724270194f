//! What a gateway may do inside its own edge: its function and the manifests, nothing more.

use tokio_postgres::error::SqlState;

use crate::{
    context::Context,
    database::{self, GATEWAY, Session},
    report::Tally,
    songs::gateway,
    target::DatabaseTarget,
};

/// What a gateway may do according to the server's own catalogue, beyond what it should: one sentence each.
async fn excess(session: &Session) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let attributes = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, \
        EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid), \
        has_database_privilege(current_database(), 'CREATE') OR has_database_privilege(current_database(), 'TEMP') \
        FROM pg_roles r WHERE rolname = current_user";
    let rows = database::query(session, attributes, &[]).await?;
    let row = rows.first().ok_or("the role is not in the catalogue")?;
    for (i, what) in
        ["has an administrator's attribute", "is a member of another role", "may create in the database"]
            .iter()
            .enumerate()
    {
        if row.get(i) {
            found.push((*what).to_owned());
        }
    }
    let relations = "SELECT format('%I.%I', n.nspname, c.relname), \
        has_table_privilege(c.oid, 'SELECT'), \
        has_table_privilege(c.oid, 'INSERT') OR has_table_privilege(c.oid, 'UPDATE') \
        OR has_table_privilege(c.oid, 'DELETE') OR has_table_privilege(c.oid, 'TRUNCATE') \
        OR has_any_column_privilege(c.oid, 'INSERT, UPDATE'), \
        n.nspname = 'hopcast' AND c.relname = 'manifests' \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'";
    for row in database::query(session, relations, &[]).await? {
        let (name, read, write, manifests): (String, bool, bool, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        if read && !manifests {
            found.push(format!("may read {name}"));
        }
        if write {
            found.push(format!("may write {name}"));
        }
    }
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE has_schema_privilege(oid, 'CREATE')";
    for row in database::query(session, schemas, &[]).await? {
        found.push(format!("may create in the schema {}", row.get::<_, String>(0)));
    }
    // Whoever executes a function of another's rights has these rights.
    let definers = "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE p.prosecdef AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(n.oid, 'USAGE') \
        AND NOT (n.nspname = 'hopcast' AND p.proname IN ('blob', 'manifest', 'holds'))";
    for row in database::query(session, definers, &[]).await? {
        found.push(format!("may execute {} with another's rights", row.get::<_, String>(0)));
    }
    Ok(found)
}

/// What a gateway tries, and must not get.
const FORBIDDEN: [&str; 8] = [
    "SELECT 1 FROM hopcast.segments LIMIT 1",
    "SELECT 1 FROM hopcast.blobs LIMIT 1",
    "DELETE FROM hopcast.manifests",
    "UPDATE hopcast.segments SET bytes = ''",
    "CREATE TABLE hopcast.verify (x integer)",
    "CREATE TEMPORARY TABLE verify (x integer)",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
];

/// Tries one statement, in a transaction that is rolled back whatever comes of it.
async fn forbidden(session: &Session, statement: &str) -> Result<(), String> {
    // The role's sessions are read-only by default. That is a setting of the session, no protection: switched off.
    database::query(session, "BEGIN READ WRITE", &[]).await?;
    let tried = tokio::time::timeout(database::DATABASE, session.client.batch_execute(statement)).await;
    database::query(session, "ROLLBACK", &[]).await?;
    match tried {
        Ok(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        Ok(Err(error)) => {
            Err(format!("`{statement}` was not refused for want of rights: {}", database::explain(&error)))
        }
        Ok(Ok(())) => Err(format!("`{statement}` was executed")),
        Err(_) => Err(format!("`{statement}` was not answered")),
    }
}

/// Everything that a gateway tries inside its own edge. Each refusal is counted.
pub(super) async fn check(context: &Context<'_>, edge: &DatabaseTarget, tally: &mut Tally) -> u64 {
    let Some((who, from)) = gateway(context, edge) else {
        tally.not_run(format!("{} has no gateway to try as", edge.name));
        return 0;
    };
    let session = match database::open_as_gateway(context.target, edge, from).await {
        Ok(session) => session,
        Err(closed) => {
            // Without this, the refusals of the others prove nothing.
            let why = closed.text();
            tally.outcome(Err(format!("{} refuses its own gateway {who} {from}: {why}", edge.name)));
            return 0;
        }
    };
    match excess(&session).await {
        Ok(found) => {
            tally.outcome(Ok(()));
            for what in found {
                tally.fail(format!("{}: {GATEWAY} {what}", edge.name));
            }
        }
        Err(why) => tally.outcome(Err(format!("{}: {why}", edge.name))),
    }
    let mut refused = 0;
    for statement in FORBIDDEN {
        let result = forbidden(&session, statement).await;
        refused += u64::from(result.is_ok());
        tally.outcome(result.map_err(|why| format!("{}: {GATEWAY}: {why}", edge.name)));
    }
    refused
}

//! The databases' isolation, tried from where it must fail: with the right passwords, from the wrong addresses; and as a
//! gateway that wants more than its function and the manifests.
//!
//! Refused means: by the server's access rules, before any password (SQLSTATE 28000). A wrong password refused proves
//! nothing, and neither does a server that is down: each edge must let its own gateway in, and the origin must answer.

use std::net::{IpAddr, Ipv4Addr};

use hopcast_protocol::PeerName;
use hopcast_topology::plan::Peer;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::{
    context::Context,
    database::{self, Closed, GATEWAY, READER, REPL, Session},
    graph::Sequence,
    http::dial,
    report::Tally,
    songs::gateway_address,
    target::{DatabaseRole, DatabaseTarget},
};

/// The check's name.
pub(crate) const NAME: &str = "isolation";
pub(crate) const CLAIM: &str =
    "databases refuse peers that are not their gateways, and their gateways everything but reading songs";

/// Peers from whose addresses each database is tried.
const FROM: usize = 8;
/// Attempts at a time: a server of this mesh has few connections to give.
const AT_A_TIME: usize = 4;

/// How often a server that has no connection to give is asked again.
const BUSY: usize = 10;

/// One attempt to get in.
struct Attempt<'a> {
    database: &'a DatabaseTarget,
    role: &'a str,
    password: Option<String>,
    from: IpAddr,
    who: String,
}

/// Some peers out of those that fit, spread over all of them.
fn some<'a>(context: &Context<'a>, most: usize, fits: impl Fn(&Peer) -> bool) -> Vec<(&'a PeerName, IpAddr)> {
    let all: Vec<_> = context
        .target
        .plan
        .peers
        .iter()
        .filter(|peer| fits(peer))
        .filter_map(|peer| Some((&peer.name, context.running(peer.name.as_str())?.endpoint.ip())))
        .collect();
    if all.len() <= most {
        return all;
    }
    let offset = Sequence(context.options.seed).below(all.len());
    (0..most).map(|i| all[(offset + i * all.len() / most) % all.len()]).collect()
}

fn attempts<'a>(context: &Context<'a>, databases: Vec<&'a DatabaseTarget>) -> Vec<Attempt<'a>> {
    let (target, owner) = (context.target, context.target.plan.postgres.user.as_str());
    let mut attempts = Vec::new();
    for database in databases {
        let name = database.name.as_str();
        let password = |role: &str| Some(target.secret.password(name, role));
        let edge = database.role == DatabaseRole::Edge;
        let mut outsiders = some(context, FROM, |peer| !edge || !peer.edges.contains(&database.name));
        if edge {
            // The gateways of other edges are the likeliest to be let in by mistake.
            let others =
                some(context, 2, |peer| !peer.edges.is_empty() && !peer.edges.contains(&database.name));
            outsiders
                .extend(others.into_iter().filter(|other| !outsiders.contains(other)).collect::<Vec<_>>());
        }
        // The owner's password is not known here, and need not be: the rules come first.
        let mut roles = vec![(GATEWAY, password(GATEWAY)), (owner, None)];
        if !edge {
            roles.extend([(READER, password(READER)), (REPL, password(REPL))]);
        }
        let mut add = |who: &str, from: IpAddr, role: &'a str, password: Option<String>| {
            attempts.push(Attempt { database, role, password, from, who: who.to_string() });
        };
        for (who, from) in outsiders {
            for (role, password) in &roles {
                add(who.as_str(), from, role, password.clone());
            }
        }
        // Its own gateways may come as gateways only.
        if edge {
            for (who, from) in some(context, FROM, |peer| peer.edges.contains(&database.name)) {
                add(who.as_str(), from, owner, None);
            }
            // Whoever does not bind to a peer's address comes from here, if the peers are on this machine.
            if context.target.peers.iter().all(|peer| peer.endpoint.ip().is_loopback()) {
                add("nobody", Ipv4Addr::LOCALHOST.into(), GATEWAY, password(GATEWAY));
            }
        }
    }
    attempts
}

async fn try_in(context: &Context<'_>, attempt: Attempt<'_>) -> Result<(), String> {
    let Attempt { database, role, password, from, who } = attempt;
    let what = format!("{} as {role} from {who}'s address {from}", database.name);
    let mut tried = database::open(database, role, password.as_deref(), from).await;
    for _ in 0..BUSY {
        if !matches!(tried, Err(Closed::Busy(_))) {
            break;
        }
        context.pause().await;
        tried = database::open(database, role, password.as_deref(), from).await;
    }
    match tried {
        Ok(_) => Err(format!("{what}: let in")),
        Err(Closed::Rules(_)) => Ok(()),
        Err(Closed::Password(text)) => Err(format!("{what}: only a password was missing: {text}")),
        Err(Closed::Unreachable(text) | Closed::Busy(text) | Closed::Other(text)) => {
            Err(format!("{what}: no refusal, but {text}"))
        }
    }
}

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
        AND NOT (n.nspname = 'hopcast' AND p.proname IN ('blob', 'manifest'))";
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
async fn inside(context: &Context<'_>, edge: &DatabaseTarget, tally: &mut Tally) -> u64 {
    let Some(from) = gateway_address(context, edge) else {
        tally.not_run(format!("{} has no gateway", edge.name));
        return 0;
    };
    let session = match database::open_as_gateway(context.target, edge, from).await {
        Ok(session) => session,
        Err(closed) => {
            // Without this, the refusals of the others prove nothing.
            tally.outcome(Err(format!("{} refuses its own gateway at {from}: {}", edge.name, closed.text())));
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

/// Tries everything; returns how much was refused.
pub(crate) async fn check(context: &Context<'_>) -> (Tally, u64) {
    let (mut tally, mut refused) = (Tally::default(), 0);
    for role in [DatabaseRole::Origin, DatabaseRole::Edge] {
        if !context.target.databases.iter().any(|database| database.role == role) {
            tally.not_run(format!("the mesh has no {role:?} database"));
        }
    }
    let mut databases = Vec::new();
    for database in &context.target.databases {
        // One sentence for a server that is down, instead of one for each attempt. No refusal there proves anything.
        match timeout(database::DATABASE, dial(database.address, None)).await {
            Ok(Ok(_)) => databases.push(database),
            Ok(Err(error)) => {
                tally.not_run(format!("{}: no connection to {}: {error}", database.name, database.address));
            }
            Err(_) => tally.not_run(format!("{} does not answer at {}", database.name, database.address)),
        }
    }
    for edge in databases.iter().filter(|database| database.role == DatabaseRole::Edge) {
        refused += inside(context, edge, &mut tally).await;
    }
    let attempts = attempts(context, databases);
    context
        .each_of(
            AT_A_TIME,
            NAME,
            &mut tally,
            attempts,
            |attempt| try_in(context, attempt),
            |tally, result| {
                refused += u64::from(result.is_ok());
                tally.outcome(result);
            },
        )
        .await;
    (tally, refused)
}

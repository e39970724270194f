//! Connections to the databases, dialled from a place of our choice, as gateways and as those who must not get in.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::{
    http::Task,
    place::Place,
    target::{DatabaseTarget, Target},
};

/// The gateways' role on an edge.
pub(crate) const GATEWAY: &str = "hopcast_gateway";
/// What the edges' `postgres_fdw` uses on the origin.
pub(crate) const READER: &str = "hopcast_reader";
/// What replicates from the origin.
pub(crate) const REPL: &str = "hopcast_repl";

/// Longest wait for a connection, and for the answer to one statement.
pub(crate) const DATABASE: Duration = Duration::from_secs(5);

/// An open session.
pub(crate) struct Session {
    pub(crate) client: Client,
    _connection: Task,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The server's access rules (pg_hba) do not admit this role from this address: SQLSTATE 28000 before any password.
    Rules(String),
    /// The rules admit it, only the password was wrong: SQLSTATE 28P01.
    Password(String),
    /// Nobody listens, or nobody answers.
    Unreachable(String),
    /// The server has no connection to give: SQLSTATE 53300, before it looks at who asks.
    Busy(String),
    /// Anything else.
    Other(String),
}

impl Closed {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Rules(text)
            | Self::Password(text)
            | Self::Unreachable(text)
            | Self::Busy(text)
            | Self::Other(text) => text,
        }
    }
}

/// PostgreSQL's own words for an error.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// Connects to a database as a role, from a place.
pub(crate) async fn open(
    database: &DatabaseTarget,
    role: &str,
    password: Option<&str>,
    from: Place,
) -> Result<Session, Closed> {
    let attempt = async {
        let stream = from.dial(database.address).await.map_err(|error| {
            Closed::Unreachable(format!("no connection to {}: {error}", database.address))
        })?;
        let mut config = tokio_postgres::Config::new();
        config.user(role).dbname(&database.database).application_name("hopcast-verify");
        // Without a password the driver gives up at the server's question: that is an admission by the rules too.
        config.password(password.unwrap_or("hopcast-verify-knows-none"));
        match config.connect_raw(stream, NoTls).await {
            Ok((client, connection)) => {
                let task = tokio::spawn(async move { drop(connection.await) });
                Ok(Session { client, _connection: Task(task) })
            }
            Err(error) => Err(match error.code() {
                Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                    Closed::Rules(explain(&error))
                }
                Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => Closed::Busy(explain(&error)),
                Some(code) if *code == SqlState::INVALID_PASSWORD => Closed::Password(explain(&error)),
                _ => Closed::Other(explain(&error)),
            }),
        }
    };
    match timeout(DATABASE, attempt).await {
        Ok(result) => result,
        Err(_) => {
            Err(Closed::Unreachable(format!("{} does not answer within {DATABASE:?}", database.address)))
        }
    }
}

/// Connects to an edge as its own gateway would.
pub(crate) async fn open_as_gateway(
    target: &Target,
    edge: &DatabaseTarget,
    from: Place,
) -> Result<Session, Closed> {
    let password = target.secret.password(edge.name.as_str(), GATEWAY);
    open(edge, GATEWAY, Some(&password), from).await
}

/// Runs a query within the deadline.
pub(crate) async fn query(
    session: &Session,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>, String> {
    match timeout(DATABASE, session.client.query(sql, parameters)).await {
        Ok(result) => result.map_err(|error| explain(&error)),
        Err(_) => Err(format!("no answer within {DATABASE:?}")),
    }
}

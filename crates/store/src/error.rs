//! What can go wrong between hopcast and a database. What is wrong with a song's files is [`crate::SourceError`].

use std::{fmt::Write as _, time::Duration};

use tokio_postgres::error::SqlState;

use crate::source::SourceError;

/// A failure, told so that it fits after "hopcast: ". The text is whole: what the driver or the system said is part of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers at the database's address.
    #[error("cannot reach database {name} at {address}: {error}")]
    Unreachable {
        /// The database.
        name: String,
        /// `host:port`.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The server answered and refused: wrong password, no such database, starting up, no rule in `pg_hba.conf`.
    #[error("database {name} at {address} refused the connection: {detail}")]
    Refused {
        /// The database.
        name: String,
        /// `host:port`.
        address: String,
        /// The server's words.
        detail: String,
        /// What the driver said.
        error: tokio_postgres::Error,
    },
    /// A statement failed.
    #[error("failed to {what}: {detail}")]
    Statement {
        /// What was being done.
        what: String,
        /// The server's words.
        detail: String,
        /// What the driver said.
        error: tokio_postgres::Error,
    },
    /// No answer in time.
    #[error("failed to {what}: no answer within {} s", after.as_secs_f32())]
    Deadline {
        /// What was being done.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The database was written by a newer hopcast.
    #[error(
        "database {name} has schema version {found}, this program knows {known}: use the newer hopcast, or `down` and delete the data"
    )]
    NewerSchema {
        /// The database.
        name: String,
        /// The version that it has.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// An edge does not follow its origin.
    #[error("edge {edge} does not replicate within {} s: {state}", after.as_secs())]
    NotReplicating {
        /// The edge.
        edge: String,
        /// How long was waited.
        after: Duration,
        /// What was seen last.
        state: String,
    },
    /// Another ingest, removal or reconciliation holds the origin's lock.
    #[error("another ingest is under way on this origin; try again when it is done")]
    Busy,
    /// A song without rooms could not be heard by anyone.
    #[error("song {song} has no room: nobody could hear it")]
    NoRooms {
        /// The song.
        song: String,
    },
    /// The manifest would be longer than a segment may be.
    #[error(
        "the manifest of song {song} has {length} bytes, at most {limit} are allowed: use longer segments or fewer renditions"
    )]
    ManifestTooLong {
        /// The song.
        song: String,
        /// Its length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A row that is not as this program writes it.
    #[error("database {name} holds {what}")]
    Corrupt {
        /// The database.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The song's files.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Error {
    /// The server's SQLSTATE, where it gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Statement { error, .. } | Self::Refused { error, .. } => error.code().map(SqlState::code),
            _ => None,
        }
    }

    /// True where trying again may help without anybody's doing: nothing listens yet, or the server is starting up.
    pub fn is_starting(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // cannot_connect_now: starting up, shutting down or in recovery.
            Self::Refused { error, .. } => error.code().is_none_or(|code| code.code() == "57P03"),
            _ => false,
        }
    }
}

/// The server's message with detail and hint, else the driver's own words.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            let _ = write!(text, ": {source}");
        }
        return text;
    };
    let mut text = db.message().to_owned();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        let _ = write!(text, " ({more})");
    }
    text
}

/// Says what was being done when a statement failed.
pub(crate) trait Doing<T> {
    /// `what` fits after "failed to ".
    fn doing(self, what: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T, Error> {
        self.map_err(|error| Error::Statement { what: what.into(), detail: explain(&error), error })
    }
}

/// Waits at most that long.
pub(crate) async fn within<T>(
    after: Duration,
    what: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(after, future).await {
        Ok(result) => result,
        Err(_) => Err(Error::Deadline { what: what.into(), after }),
    }
}

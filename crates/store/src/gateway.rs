//! What a gateway reads from its edge database: blobs and manifests, over one pipelined connection.
//!
//! Part of the peer, so it keeps no pool, no cache and no buffer of its own: at most [`DEPTH`] answers are in memory at a
//! time. It never writes, and it never connects to the origin: where the edge lags, the edge asks the origin itself.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use hopcast_protocol::{DatabaseAccess, Sha256, SongName};
use tokio::sync::Semaphore;
use tokio_postgres::{
    Statement,
    types::{ToSql, Type},
};

use crate::{
    connection::Connection,
    error::{Doing as _, Error},
};

/// Statements in flight on the connection; deeper pipelines only add latency.
pub(crate) const DEPTH: usize = 4;
/// How long connecting may take.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long an answer may take, waiting for a place in the pipeline included. The server gives up earlier
/// ([`STATEMENT_TIMEOUT`]), so that a slow origin mostly costs one answer and not the connection; not where several wait for it
/// one behind the other, or where the reader has less time, since it has several databases to ask.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(2);
/// The `statement_timeout` of the gateways' role. Who asks one database waits longer for it.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1250);

/// A connection to an edge database with the rights of a gateway. Methods may run concurrently. A read that is dropped before
/// its answer ends the connection ([`Gateway::is_closed`]).
pub struct Gateway {
    connection: Connection,
    blob: Statement,
    manifest: Statement,
    songs: Statement,
    places: Semaphore,
}

impl Gateway {
    /// Connects from the given source address (the system's choice where there is none) within 5 s.
    pub async fn connect(access: &DatabaseAccess, from: Option<IpAddr>) -> Result<Self, Error> {
        let connection = Connection::open(access, from, "hopcast-gateway", CONNECT_DEADLINE).await?;
        let client = &connection.client;
        let prepare = async {
            tokio::try_join!(
                client.prepare_typed("SELECT hopcast.blob($1)", &[Type::BYTEA]),
                client.prepare_typed("SELECT hopcast.manifest($1)", &[Type::TEXT]),
                client.prepare_typed("SELECT name FROM hopcast.manifests ORDER BY name", &[]),
            )
            .doing("prepare the gateway's statements")
        };
        let what = "prepare the gateway's statements";
        let (blob, manifest, songs) = crate::error::within(CONNECT_DEADLINE, what, prepare).await?;
        Ok(Self { connection, blob, manifest, songs, places: Semaphore::new(DEPTH) })
    }

    /// A segment or init segment by its hash; `None` where neither the edge nor the origin has it. The bytes are not
    /// checked against the hash here.
    pub async fn blob(&self, sha256: &Sha256) -> Result<Option<Bytes>, Error> {
        let found = self.read("read a segment", &self.blob, &[&&sha256.0[..]]).await?;
        Ok(found.map(Bytes::from))
    }

    /// The newest manifest of a song that the edge has (else the origin's), as signed bytes; `None` where there is none.
    pub async fn manifest(&self, song: &SongName) -> Result<Option<Vec<u8>>, Error> {
        self.read("read a manifest", &self.manifest, &[&song.as_str()]).await
    }

    /// The songs that have reached this edge, in alphabetical order.
    pub async fn songs(&self) -> Result<Vec<SongName>, Error> {
        let what = "list the songs";
        let rows = self
            .deadline(what, async { self.connection.client.query(&self.songs, &[]).await.doing(what) })
            .await?;
        // A name that this program could not have written is nobody's song.
        Ok(rows.iter().filter_map(|row| SongName::new(row.get::<_, &str>(0)).ok()).collect())
    }

    /// True once the connection is gone: connect anew.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    async fn read(
        &self,
        what: &str,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Vec<u8>>, Error> {
        self.deadline(what, async {
            let row = self.connection.client.query_one(statement, parameters).await.doing(what)?;
            Ok(row.get(0))
        })
        .await
    }

    async fn deadline<T>(
        &self,
        what: &str,
        query: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        crate::error::within(READ_DEADLINE, what, async {
            let _place = self.places.acquire().await.expect("nobody closes this semaphore");
            let mut asked = Asked { connection: &self.connection, answered: false };
            let result = query.await;
            asked.answered = true;
            result
        })
        .await
    }
}

/// A statement that was sent. Where nobody waits for its answer any more, the connection ends: the server did not keep its own,
/// shorter limit, so it hangs or the way to it is dead; and statements sent later would only queue behind this one.
struct Asked<'a> {
    connection: &'a Connection,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.abort();
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

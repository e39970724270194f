//! An edge database as a [`Source`]: one pipelined connection, made anew when it is lost.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::{Rc, Weak},
    time::Duration,
};

use bytes::Bytes;
use hopcast_protocol::{DatabaseAccess, Sha256, SongName};
use hopcast_store::Gateway;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    backoff::Backoff,
    gateway::{Answer, Source, SourceError},
};

/// After a connect that failed slowly nobody tries again for this long: reads fail at once, so that the requester goes
/// elsewhere.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// A refusal within this time costs the next reader nothing: it tries again, since the database may have come up.
const QUICK: Duration = Duration::from_millis(50);
/// A connect that has taken this long is waited for by nobody any more, but goes on.
const SLOW: Duration = Duration::from_millis(500);
/// After this long a new one begins beside it: what it waits for may be gone (a host that was replaced).
const STUCK: Duration = Duration::from_millis(1500);
/// Slowest pace of the first connect's tries.
const SLOWEST: Duration = Duration::from_secs(5);

/// One edge database.
pub(crate) struct Database {
    access: DatabaseAccess,
    from: Option<IpAddr>,
    connection: RefCell<Option<Rc<Gateway>>>,
    /// Since when something connects: the latest attempt.
    connecting: Cell<Option<Instant>>,
    /// Somebody has connected, or failed to.
    news: Notify,
    /// The last failure; when, if it took long.
    failed: RefCell<(Option<Instant>, String)>,
    me: Weak<Self>,
}

impl Database {
    /// A database that is being connected to, from `from` where it is given. Call inside a local runtime.
    pub(crate) fn open(access: DatabaseAccess, from: Option<IpAddr>) -> Rc<Self> {
        let database = Rc::new_cyclic(|me| Self {
            access,
            from,
            connection: RefCell::default(),
            connecting: Cell::new(None),
            news: Notify::new(),
            failed: RefCell::new((None, "the connection broke at once".to_owned())),
            me: me.clone(),
        });
        // The first listener should not pay for the connect.
        let early = Rc::downgrade(&database);
        tokio::task::spawn_local(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), SLOWEST);
            while let Some(database) = early.upgrade() {
                if database.connection().await.is_ok() {
                    return;
                }
                drop(database);
                sleep(backoff.next(1.0).max(AFTER_FAILURE)).await;
            }
        });
        database
    }

    fn current(&self) -> Option<Rc<Gateway>> {
        self.connection.borrow().as_ref().filter(|gateway| !gateway.is_closed()).cloned()
    }

    async fn connection(&self) -> Result<Rc<Gateway>, SourceError> {
        if let Some(gateway) = self.current() {
            return Ok(gateway);
        }
        let failed = || SourceError(self.failed.borrow().1.clone());
        if self.failed.borrow().0.is_some_and(|at| at.elapsed() < AFTER_FAILURE) {
            return Err(failed());
        }
        let news = self.news.notified();
        let began =
            self.connecting.get().filter(|began| began.elapsed() < STUCK).unwrap_or_else(|| self.connect());
        timeout_at(began + SLOW, news)
            .await
            .map_err(|_| SourceError(format!("{} does not take the connection yet", self.access.name)))?;
        self.current().ok_or_else(failed)
    }

    /// Begins to connect, in a task of its own: whoever waits for it may give up in the middle.
    fn connect(&self) -> Instant {
        let began = Instant::now();
        self.connecting.set(Some(began));
        let (me, access, from) = (self.me.clone(), self.access.clone(), self.from);
        tokio::task::spawn_local(async move {
            let connected = Gateway::connect(&access, from).await;
            let Some(database) = me.upgrade() else { return };
            let is_latest = database.connecting.get() == Some(began);
            match connected {
                Ok(gateway) => *database.connection.borrow_mut() = Some(Rc::new(gateway)),
                Err(error) if is_latest => {
                    let slow = (began.elapsed() > QUICK).then(Instant::now);
                    *database.failed.borrow_mut() = (slow, error.to_string());
                }
                Err(_) => return,
            }
            if is_latest {
                database.connecting.set(None);
            }
            database.news.notify_waiters();
        });
        began
    }
}

impl Source for Database {
    fn blob<'a>(&'a self, sha256: &'a Sha256) -> Answer<'a> {
        Box::pin(async move {
            let gateway = self.connection().await?;
            gateway.blob(sha256).await.map_err(|error| SourceError(error.to_string()))
        })
    }

    fn manifest<'a>(&'a self, song: &'a SongName) -> Answer<'a> {
        Box::pin(async move {
            let gateway = self.connection().await?;
            let found = gateway.manifest(song).await.map_err(|error| SourceError(error.to_string()))?;
            Ok(found.map(Bytes::from))
        })
    }

    fn name(&self) -> String {
        self.access.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::DatabaseName;
    use tokio::net::TcpListener;

    use super::*;
    use crate::testing::paused;

    #[test]
    fn a_database_that_takes_no_connection_holds_one_reader_up_for_a_moment_and_later_ones_not_at_all() {
        paused(async {
            let silent = TcpListener::bind("127.78.100.9:0").await.unwrap();
            let database = Database::open(
                DatabaseAccess {
                    name: DatabaseName::new("edge-db-a").unwrap(),
                    host: "127.78.100.9".to_owned(),
                    port: silent.local_addr().unwrap().port(),
                    database: "music".to_owned(),
                    user: "hopcast_gateway".to_owned(),
                    password: "x".to_owned(),
                },
                None,
            );
            let began = Instant::now();
            let sha256 = Sha256([1; 32]);
            // Who gives up in the middle does not end the attempt.
            let _ = tokio::time::timeout(SLOW / 2, database.blob(&sha256)).await;
            for waited in [SLOW, SLOW] {
                let error = database.blob(&sha256).await.unwrap_err();
                assert!(error.to_string().contains("does not take the connection yet"), "{error}");
                assert_eq!(began.elapsed().as_millis(), waited.as_millis());
            }
            // Another attempt begins beside the one that is stuck, and each has its own deadline.
            tokio::time::sleep(STUCK).await;
            let second = database.connecting.get();
            assert!(second.is_some_and(|at| at >= began + STUCK), "{second:?}");
            drop(silent);
        });
    }
}

//! An edge database as a [`Source`]: one pipelined connection, made anew when it is lost.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use hopcast_protocol::{DatabaseAccess, Sha256, SongName};
use hopcast_store::Gateway;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
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
/// Slowest pace of the first connect's tries.
const SLOWEST: Duration = Duration::from_secs(5);

/// One edge database.
pub(crate) struct Database {
    access: DatabaseAccess,
    from: Option<IpAddr>,
    connection: RefCell<Option<Rc<Gateway>>>,
    connecting: Mutex<()>,
    failed: Cell<Option<Instant>>,
}

impl Database {
    /// A database that is being connected to, from `from` where it is given. Call inside a local runtime.
    pub(crate) fn open(access: DatabaseAccess, from: Option<IpAddr>) -> Rc<Self> {
        let database = Rc::new(Self {
            access,
            from,
            connection: RefCell::default(),
            connecting: Mutex::new(()),
            failed: Cell::new(None),
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
        let _one = self.connecting.lock().await;
        if let Some(gateway) = self.current() {
            return Ok(gateway);
        }
        if self.failed.get().is_some_and(|at| at.elapsed() < AFTER_FAILURE) {
            return Err(SourceError("not connected".to_owned()));
        }
        let began = Instant::now();
        // Whoever waits may give up in the middle; that counts as a failure too.
        self.failed.set(Some(began));
        let gateway = Gateway::connect(&self.access, self.from).await;
        let gateway = Rc::new(gateway.map_err(|error| {
            self.failed.set((began.elapsed() > QUICK).then(Instant::now));
            SourceError(error.to_string())
        })?);
        self.failed.set(None);
        *self.connection.borrow_mut() = Some(gateway.clone());
        Ok(gateway)
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

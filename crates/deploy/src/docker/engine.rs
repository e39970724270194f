//! The one way to the engine. Every request goes through [`Engine::call`]: at most [`IN_FLIGHT`] at a time, counted, each
//! with a deadline, and each error says what was asked of whom.
//!
//! A request is a task of its own, so that a caller who is dropped (a Ctrl-C) never breaks it off: an engine whose client
//! vanishes in the middle of a start can be left with an endpoint that it does not remove any more. [`Engine::settle`]
//! waits for those that are under way.

use std::{
    collections::{BTreeSet, HashMap},
    env,
    fmt::Display,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bollard::errors::Error as Bollard;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::Error;

/// Requests at a time. More gain nothing: the engine is bound by its CPU and serialises what touches one network.
pub const IN_FLIGHT: u32 = 8;
/// How long looking at something may take.
pub const LOOK: Duration = Duration::from_secs(20);
/// How long a change may take: creating, starting, removing, also on an engine that is busy with many others.
pub const CHANGE: Duration = Duration::from_secs(120);
/// How long the engine may take to answer at all.
const HELLO: Duration = Duration::from_secs(5);

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// An engine that has answered. Clones share everything.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    docker: bollard::Docker,
    /// `unix:///var/run/docker.sock`.
    host: String,
    permits: Arc<Semaphore>,
    sent: AtomicU64,
    /// By network: held by whoever takes an endpoint out of it.
    leaving: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Engine {
    /// Connects to the engine of `DOCKER_HOST`, else to the usual socket, and agrees on a version of the API with it.
    pub async fn connect() -> Result<Self, Error> {
        let set = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        Self::at(set.as_deref().unwrap_or(DEFAULT_HOST)).await
    }

    /// Connects to the engine at `host`, a `unix://` address.
    pub async fn at(host: &str) -> Result<Self, Error> {
        if !host.starts_with("unix://") {
            return Err(Error::NoEngine {
                host: host.to_owned(),
                why: "only an engine of this machine can be used, as its containers read the mesh's files: set DOCKER_HOST to a unix:// address, or unset it".into(),
            });
        }
        let none = |why: String| Error::NoEngine {
            host: host.to_owned(),
            why: format!("{why}; start it, or use --backend local"),
        };
        let docker = bollard::Docker::connect_with_unix(host, CHANGE.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(|error| none(cause(&error)))?;
        let docker = match tokio::time::timeout(HELLO, docker.negotiate_version()).await {
            Ok(Ok(docker)) => docker,
            Ok(Err(error)) => return Err(none(cause(&error))),
            Err(_) => return Err(none(format!("no answer within {} s", HELLO.as_secs()))),
        };
        Ok(Self(Arc::new(Inner {
            docker,
            host: host.to_owned(),
            permits: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
            sent: AtomicU64::new(1),
            leaving: Mutex::default(),
        })))
    }

    /// `unix:///var/run/docker.sock`.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// How many requests were sent.
    pub fn requests(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Sends one request. `what` fits after "failed to "; the deadline does not count the wait for those before it.
    pub async fn call<T, F>(
        &self,
        what: impl Display,
        within: Duration,
        request: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Bollard>> + Send + 'static,
    {
        let fail = |status, why| Error::Engine { what: what.to_string(), status, why };
        // The semaphore is never closed.
        let permit =
            self.0.permits.clone().acquire_owned().await.map_err(|error| fail(None, error.to_string()))?;
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        let request = request(self.0.docker.clone());
        let task = tokio::spawn(async move {
            let answer = tokio::time::timeout(within, request).await;
            drop(permit);
            answer
        });
        match task.await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(fail(status(&error), cause(&error))),
            Ok(Err(_)) => Err(fail(
                None,
                format!("the engine at {} gave no answer within {} s", self.host(), within.as_secs()),
            )),
            Err(error) => Err(fail(None, format!("the request broke off: {error}"))),
        }
    }

    /// The client itself, for what is no single request: streams of logs, builds, attached containers. Whoever uses it
    /// bounds it in time; it counts as one request.
    pub fn stream(&self) -> bollard::Docker {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        self.0.docker.clone()
    }

    /// Waits until nobody else takes an endpoint out of one of these networks. Docker 20.10 keeps a counter beside the
    /// endpoints of a network, and loses count when several leave at once: the empty network can then not be removed any more.
    pub async fn alone_in(&self, networks: impl IntoIterator<Item = &String>) -> Vec<OwnedMutexGuard<()>> {
        let mut guards = Vec::new();
        // Always in the same order: two that wait never wait for each other.
        for network in networks.into_iter().collect::<BTreeSet<_>>() {
            let lock = {
                let mut all = self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(network.clone()).or_default().clone()
            };
            guards.push(lock.lock_owned().await);
        }
        guards
    }

    /// Waits until no request is under way. Each has a deadline, and so has this.
    pub async fn settle(&self) {
        // The semaphore is never closed.
        let _ = self.0.permits.acquire_many(IN_FLIGHT).await;
    }
}

/// The HTTP status that the engine answered with.
fn status(error: &Bollard) -> Option<u16> {
    match error {
        Bollard::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What went wrong, in the words of whoever knows best.
pub(crate) fn cause(error: &Bollard) -> String {
    match error {
        Bollard::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Bollard::SocketNotFoundError(path) => format!("there is no socket {path}"),
        other => {
            // The innermost error is the one that says something ("Connection refused").
            let mut source: &dyn std::error::Error = other;
            while let Some(next) = source.source() {
                source = next;
            }
            source.to_string()
        }
    }
}

//! The keeper: the one process that owns all others of a mesh. `hopcast up` starts it as `hopcast keeper --dir DIR`.
//!
//! It runs as an unprivileged user, holds the mesh's lock, and answers on `<dir>/keeper.sock` (`wire.rs`). Its standard
//! input is the tie to the `up` that started it: at its end (Ctrl-C and SIGKILL of `up` alike) it stops everything in
//! order; the line `detach` unties it. It does not revive what dies: `status` shows it, and the next `up` heals it.
//!
//! Tasks, all on one thread: this module's loop (accepts, watches the tie, signals, and log sizes), one for each connection,
//! one for each process that it waits for. Whatever changes the mesh holds `Keeper::changing`. The warden, a process of
//! its own, ends what is left if the keeper itself is killed.

mod apply;
mod capture;
mod cluster;
mod create;
mod databases;
mod faults;
mod logs;
mod node;
mod password;
mod process;
mod server;
mod settings;
mod shutdown;
mod warden;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hopcast_protocol::PeerName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    error::{Doing as _, Error},
    orphans,
    state::Lock,
    wire::{Desired, Event},
};
use cluster::Clusters;
use node::Nodes;

/// The control socket's name in the mesh's directory.
pub(crate) const SOCKET: &str = "keeper.sock";
/// The line that unties the keeper.
const DETACH: &str = "detach";
/// Control connections at a time.
const CONNECTIONS: usize = 32;
/// How long an earlier keeper may take to let go of the mesh.
const LOCK: Duration = Duration::from_secs(15);
/// How long a change may take to notice that the mesh is being stopped.
const WIND_UP: Duration = Duration::from_secs(10);
/// Between two connections that cannot be accepted.
const BREATH: Duration = Duration::from_millis(100);
/// How long the last answers may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// What `hopcast keeper` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The mesh's state directory.
    pub dir: PathBuf,
    /// Be the keeper's warden instead.
    pub warden: bool,
}

/// What the keeper's tasks share.
struct Keeper {
    dir: PathBuf,
    nodes: Nodes,
    /// Held by whatever changes the mesh.
    changing: tokio::sync::Mutex<Clusters>,
    shared: Mutex<Shared>,
    /// Unix seconds of its start.
    since: u64,
    /// True once the mesh is being stopped.
    stopping: watch::Sender<bool>,
    /// Requests to stop; each hears how it goes.
    stop: mpsc::Sender<mpsc::Sender<Event>>,
}

/// Small things that are looked at from everywhere.
#[derive(Default)]
struct Shared {
    desired: Option<Arc<Desired>>,
    /// Links that faults have cut, each once, the lesser name first.
    cut: BTreeSet<(PeerName, PeerName)>,
    detached: bool,
}

impl Keeper {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Ends once the mesh is being stopped.
    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives in `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// Runs the keeper until the mesh has been stopped. Needs a tokio runtime with one thread.
pub async fn run(options: Options) -> Result<(), Error> {
    if options.warden {
        return warden::run(&options.dir).await;
    }
    let mut out = tokio::io::stdout();
    let begun = begin(&options.dir).await;
    // One line for the `up` that waits for it. It may be gone already; then the tie says so.
    let line = match &begun {
        Ok(_) => "ready\n".to_owned(),
        Err(error) => format!("{error}\n"),
    };
    let _ = out.write_all(line.as_bytes()).await;
    let _ = out.flush().await;
    let (lock, listener, warden) = begun?;
    let result = serve(&options.dir, listener).await;
    let _ = fs::remove_file(options.dir.join(SOCKET));
    if result.is_ok() {
        warden.dismiss().await;
    }
    drop(lock);
    result
}

/// Everything that may fail before the keeper is one.
async fn begin(dir: &Path) -> Result<(Lock, UnixListener, warden::Warden), Error> {
    raise_limits();
    capture::install();
    let deadline = tokio::time::Instant::now() + LOCK;
    let lock = loop {
        match Lock::take(&dir.join("lock"))? {
            Some(lock) => break lock,
            // An earlier keeper, or its warden, is about to be done.
            None if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOCK / 100).await,
            None => {
                return Err(Error::Keeper(format!(
                    "another keeper holds {}: wait a moment, or end it with `hopcast down`",
                    dir.display()
                )));
            }
        }
    };
    let at = dir.to_owned();
    let found = tokio::task::spawn_blocking(move || orphans::end(&at, &[std::process::id()]))
        .await
        .map_err(|error| Error::Keeper(format!("failed to look for orphans: {error}")))?;
    if !found.is_empty() {
        tracing::warn!(processes = ?found, "ended what an earlier keeper had left behind");
    }
    let warden = warden::start(dir)?;
    let listener = listen(dir)?;
    Ok((lock, listener, warden))
}

/// Binds through a descriptor of the directory: the path of a Unix socket may have 107 bytes only.
fn listen(dir: &Path) -> Result<UnixListener, Error> {
    use std::os::fd::AsRawFd as _;
    let path = dir.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing("remove", path),
        _ => {}
    }
    let handle = fs::File::open(dir).doing("open", dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd()));
    let listener = UnixListener::bind(short).doing("listen on", &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).doing("set the mode of", &path)?;
    Ok(listener)
}

/// As many descriptors as this user may have. Children inherit it.
fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn serve(dir: &Path, listener: UnixListener) -> Result<(), Error> {
    let (stop, mut stops) = mpsc::channel(CONNECTIONS);
    let keeper = Arc::new(Keeper {
        dir: dir.to_owned(),
        nodes: Nodes::default(),
        changing: tokio::sync::Mutex::new(Clusters::new(dir)),
        shared: Mutex::default(),
        since: node::now(),
        stopping: watch::Sender::new(false),
        stop,
    });
    let failed = |source| Error::File { what: "watch signals for", path: dir.to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut tie = BufReader::new(tokio::io::stdin()).lines();
    let mut sizes = tokio::time::interval(logs::LOOK);
    let mut connections = JoinSet::new();
    let mut listeners = Vec::new();
    loop {
        let detached = keeper.shared().detached;
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => { connections.spawn(server::serve(stream, Arc::clone(&keeper))); }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    // It may well fail again at once, for want of descriptors.
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = connections.join_next() => {}
            line = tie.next_line(), if !detached => match line {
                Ok(Some(line)) if line == DETACH => keeper.shared().detached = true,
                Ok(Some(line)) => tracing::warn!(line, "unknown word on standard input"),
                Ok(None) | Err(_) => { tracing::info!("`up` is gone"); break }
            },
            Some(events) = stops.recv() => { listeners.push(events); break }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // The terminal is gone; whether that ends the mesh is the tie's matter.
            _ = hangup.recv() => {}
            _ = sizes.tick() => logs::bound(dir),
        }
    }
    shutdown::run(&keeper, &mut stops, listeners).await;
    let _ = tokio::time::timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

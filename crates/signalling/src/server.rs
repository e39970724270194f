//! The running server: binds, accepts, ticks, rereads, drains.
//!
//! Tasks: one that accepts, ticks and mends paths, one for all connections that are not (yet) WebSockets, one for each room's
//! connections (a large room has more, see [`Hub`]), and the door's. All end with [`Server::run`], at the latest when the
//! drain's deadline has passed.

use std::{
    convert::Infallible,
    future::{Future, ready},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    config::{Limits, Listen, Settings},
    door::Door,
    error::BindError,
    frame::CLOSE_AWAY,
    group::Group,
    http,
    hub::Hub,
    listener,
    patient::Patient,
};

/// How often rooms look at the clock: a fraction of the 5 s between pings.
const TICK: Duration = Duration::from_millis(500);
/// Descriptors that are no client's: the listeners, the door's far ends, what the runtime needs.
const OTHER_FILES: u64 = 64;
/// After a failed accept (no descriptor left, say) this long nothing is accepted.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are not yet WebSockets, or never will be, and that are worked on before rooms are.
const TURN: usize = 8;
/// Bytes that the kernel keeps for a client that does not read.
const SEND_BUFFER: usize = 256 << 10;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No random numbers for the epoch.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// No client would find a descriptor.
    #[error(
        "the hard limit of open files is {files}, and the server itself needs {needed}, for a client more: raise it (ulimit -Hn; LimitNOFILE of systemd)"
    )]
    OpenFiles {
        /// How many may be open.
        files: u64,
        /// How many must.
        needed: u64,
    },
    /// The listening socket does not know its address.
    #[error("cannot read the listening address: {0}")]
    Address(std::io::Error),
}

/// A server that is bound, and serves once it is [`run`](Server::run).
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    listener: TcpListener,
    address: SocketAddr,
    door: Option<(Arc<Door>, TcpListener)>,
    bound: Bound,
    limits: Limits,
}

/// What a running server cannot take over from a changed file.
#[derive(Debug, PartialEq, Eq)]
struct Bound {
    listen: Listen,
    door: Option<SocketAddr>,
}

impl Bound {
    fn of(settings: &Settings) -> Self {
        Self { listen: settings.listen.clone(), door: settings.door.as_ref().map(|door| door.listen) }
    }
}

impl Server {
    /// Binds every address that the settings name.
    pub async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let mut limits = settings.limits;
        if let Some(files) = listener::raise_open_files() {
            let door = if settings.door.is_some() { 2 * limits.door_connections as u64 } else { 0 };
            let clients = files.saturating_sub(OTHER_FILES + door);
            if clients == 0 {
                return Err(StartError::OpenFiles { files, needed: OTHER_FILES + door + 1 });
            }
            if clients < limits.connections as u64 {
                warn!(
                    "at most {clients} clients at a time: the hard limit of open files is {files} (ulimit -Hn; LimitNOFILE of systemd)"
                );
                limits.connections = clients as usize;
            }
        }
        limits.connections = limits.connections.min(Semaphore::MAX_PERMITS);
        let listener = listener::bind(&settings.listen).await?;
        let address = listener.local_addr().map_err(StartError::Address)?;
        let door = match &settings.door {
            Some(config) => {
                let listener = listener::bind(&config.listen.into()).await?;
                Some((Arc::new(Door::new(config, &limits)), listener))
            }
            None => None,
        };
        let hub = Hub::new(settings).map_err(StartError::Random)?;
        info!("listening on {address}");
        Ok(Self { hub: Arc::new(hub), listener, address, door, bound: Bound::of(settings), limits })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the door listens.
    pub fn door_address(&self) -> Option<SocketAddr> {
        self.door.as_ref().and_then(|(_, listener)| listener.local_addr().ok())
    }

    /// Its rooms.
    pub fn hub(&self) -> Arc<Hub> {
        self.hub.clone()
    }

    /// Serves until `stop` is done, then drains. Settings that come through `reload` are taken over.
    pub async fn run(self, stop: impl Future<Output = ()>, mut reload: mpsc::Receiver<Settings>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let handshakes = Group::new(TURN);
        let (draining, drain) = watch::channel(false);
        let (door, door_task) = match self.door {
            Some((door, listener)) => {
                let task = tokio::spawn(door.clone().run(listener, drain.clone(), self.limits.drain));
                (Some(door), Some(task))
            }
            None => (None, None),
        };
        let mut stop = pin!(stop);
        let mut mending = pin!(self.hub.keep_mending());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reloads = true;
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticks.tick() => self.hub.tick(),
                () = &mut mending => {} // never
                settings = reload.recv(), if reloads => match settings {
                    Some(settings) => {
                        if Bound::of(&settings) != self.bound {
                            warn!("another address is taken over by a restart only");
                        }
                        self.hub.reload(&settings);
                        if let (Some(door), Some(config)) = (&door, &settings.door) {
                            door.reload(config);
                        }
                    }
                    None => reloads = false,
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => admit(&self.hub, &self.limits, &handshakes, stream, &places, &drain),
                    Err(error) => {
                        warn!("cannot accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        info!("draining {} connections", self.hub.metrics.connections.get());
        let _ = draining.send(true);
        self.hub.close_all(CLOSE_AWAY, "the server is going away");
        self.hub.events.close();
        let all = self.limits.connections as u32;
        if timeout(self.limits.drain, places.acquire_many(all)).await.is_err() {
            warn!("the drain's deadline of {:?} has passed", self.limits.drain);
        }
        if let Some(task) = door_task {
            let _ = task.await; // bounded by the same deadline
        }
    }
}

fn admit(
    hub: &Arc<Hub>,
    limits: &Limits,
    handshakes: &Group,
    stream: TcpStream,
    places: &Arc<Semaphore>,
    drain: &watch::Receiver<bool>,
) {
    match places.clone().try_acquire_owned() {
        Ok(permit) => {
            handshakes.join(serve(hub.clone(), stream, permit, drain.clone(), *limits));
        }
        Err(_) => handshakes.join(turn_away(stream)),
    }
}

/// One client's connection, until it ends or becomes a WebSocket.
async fn serve(
    hub: Arc<Hub>,
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    mut drain: watch::Receiver<bool>,
    limits: Limits,
) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let entered = Mutex::new(None);
    let service = service_fn(|request| ready(Ok::<_, Infallible>(http::answer(&hub, &entered, request))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.stall)), service)
        .with_upgrades();
    {
        let mut connection = pin!(connection);
        tokio::select! {
            _ = &mut connection => {} // how a client ends its connection is its own business
            () = drained(&mut drain) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
    if let Some(entered) = entered.into_inner().unwrap_or_else(PoisonError::into_inner) {
        entered.hand_over(limits.connection, permit).await;
    }
}

/// Waits until the server drains.
pub(crate) async fn drained(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|draining| *draining).await; // a server that is gone drains, too
}

/// One connection too many: it is told so, within a second.
pub(crate) async fn turn_away(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: text/plain\r\nContent-Length: 43\r\n\r\nthis server has as many clients as it takes";
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}

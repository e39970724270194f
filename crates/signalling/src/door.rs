//! The door: `/p/<peer>/...` reaches any peer as a player would, `/` lists the peers.
//!
//! Its own listener in the server's process; it shares nothing with the rooms. Bytes are streamed both ways with
//! backpressure and nothing in them is rewritten: playlists are relative. Tasks: one that accepts, one for each player's
//! connection, one for each connection to a peer (one request each).

mod page;
mod proxy;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use hopcast_protocol::{PeerName, config::DoorConfig};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tracing::warn;

use crate::{config::Limits, http::names_its_host, patient::Patient, server};

/// The body of every answer: a text, or what the peer sends.
type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Bytes that the kernel keeps for a player that does not read. Few, so that one who reads slowly is seen to read.
const SEND_BUFFER: usize = 128 << 10;

/// See the module.
#[derive(Debug)]
pub struct Door {
    peers: RwLock<Arc<BTreeMap<PeerName, String>>>,
    places: Arc<Semaphore>,
    most: u32,
    head: Duration,
    stall: Duration,
}

impl Door {
    /// A door to these peers.
    pub fn new(config: &DoorConfig, limits: &Limits) -> Self {
        let door = Self {
            peers: RwLock::default(),
            places: Arc::new(Semaphore::new(limits.door_connections)),
            most: limits.door_connections as u32,
            head: limits.head,
            stall: limits.door_stall,
        };
        door.reload(config);
        door
    }

    /// Other peers, from the next request on.
    pub fn reload(&self, config: &DoorConfig) {
        let peers = Arc::new(config.peers.iter().cloned().collect());
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    fn peers(&self) -> Arc<BTreeMap<PeerName, String>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves until `drain` turns true, then lets what is under way end within `deadline`.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        mut drain: watch::Receiver<bool>,
        deadline: Duration,
    ) {
        loop {
            tokio::select! {
                () = server::drained(&mut drain) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => match self.places.clone().try_acquire_owned() {
                        Ok(permit) => drop(tokio::spawn(self.clone().serve(stream, permit, drain.clone()))),
                        Err(_) => drop(tokio::spawn(server::turn_away(stream))),
                    },
                    Err(error) => {
                        warn!("the door cannot accept a connection: {error}");
                        tokio::time::sleep(server::ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let _ = timeout(deadline, self.places.acquire_many(self.most)).await;
    }

    /// The task of one player's connection.
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        mut drain: watch::Receiver<bool>,
    ) {
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
        let service = service_fn(|request| self.clone().answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(Patient::new(stream, self.stall)), service);
        let mut connection = pin!(connection);
        tokio::select! {
            _ = &mut connection => {}
            () = server::drained(&mut drain) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
        drop(permit);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        if !names_its_host(&request) {
            return Ok(refuse(StatusCode::BAD_REQUEST, "a request has one Host header\n"));
        }
        if path == "/" {
            return Ok(match *request.method() {
                Method::GET | Method::HEAD => page::peers(self.peers().keys()),
                _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n"),
            });
        }
        let Some((peer, rest)) =
            path.strip_prefix("/p/").map(|path| path.split_once('/').unwrap_or((path, "")))
        else {
            return Ok(refuse(StatusCode::NOT_FOUND, "not found; peers are at /p/<peer>/\n"));
        };
        let peer = peer.to_owned();
        let Some(endpoint) = self.peers().get(peer.as_str()).cloned() else {
            return Ok(refuse(StatusCode::NOT_FOUND, "there is no such peer; / lists them\n"));
        };
        if rest.is_empty() && !path.ends_with('/') {
            // Without the slash the page's relative links would miss the peer.
            let mut response = refuse(StatusCode::PERMANENT_REDIRECT, "");
            if let Ok(location) = HeaderValue::from_str(&format!("/p/{peer}/")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return Ok(response);
        }
        let target = match request.uri().query() {
            Some(query) => format!("/{rest}?{query}"),
            None => format!("/{rest}"),
        };
        Ok(proxy::forward(&peer, &endpoint, &target, request).await)
    }
}

/// An answer of the door's own.
fn refuse(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

//! A peer that cheats: the real program behind a proxy that lies, or beside one that dials whom it must not.
//!
//! It is a process of its own (the test program starts itself again), because the socket audit looks at processes. The
//! real peer is its child and listens on another port of the same address; neighbours and players reach the proxy.
//! Everything ends when its standard input does.

use std::{
    convert::Infallible,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Its orders come in this variable, as JSON.
const ORDERS: &str = "HOPCAST_TEST_ROGUE";

/// How it cheats.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Cheat {
    /// Takes itself out of `Via` where it relays.
    HidesInVia,
    /// Changes a byte of what it relays.
    ChangesBytes,
    /// Holds a connection to a peer that is no neighbour, from its own address or from none in particular.
    Dials { to: SocketAddr, from: Option<IpAddr> },
    /// The same, again and again, each closed at once.
    DialsBriefly { to: SocketAddr, from: Option<IpAddr> },
}

/// Whose place it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) name: String,
    pub(crate) cheat: Cheat,
    /// Where the peer is expected, and where the real one listens behind it.
    pub(crate) listen: SocketAddr,
    pub(crate) behind: SocketAddr,
    pub(crate) program: PathBuf,
    /// The real peer's file, with the other port.
    pub(crate) config: PathBuf,
    /// First and last address of the mesh's peers.
    pub(crate) peers: (IpAddr, IpAddr),
}

/// The running cheat.
pub(crate) struct Rogue {
    pub(crate) process: Child,
}

impl Rogue {
    /// Starts it in the test program `test`, whose only content is a call of [`obey`].
    pub(crate) fn start(orders: &Orders, test: &str) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Cheats as ordered until standard input ends. Does nothing without orders.
pub(crate) fn obey() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let mut real = Command::new(&orders.program)
        .arg("--config")
        .arg(&orders.config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.spawn(dial(orders.cheat.clone()));
        runtime.block_on(serve(orders));
    });
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    real.kill().unwrap();
    real.wait().unwrap();
    std::process::exit(0);
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

async fn dial(cheat: Cheat) {
    match cheat {
        Cheat::Dials { to, from } => {
            let _held = connect(to, from).await.unwrap();
            std::future::pending::<()>().await;
        }
        Cheat::DialsBriefly { to, from } => loop {
            drop(connect(to, from).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Cheat::HidesInVia | Cheat::ChangesBytes => {}
    }
}

async fn serve(orders: Orders) {
    let listener = TcpListener::bind(orders.listen).await.unwrap();
    while let Ok((stream, from)) = listener.accept().await {
        let orders = orders.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| pass(&orders, from.ip(), request));
            let _ = server::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Passes a request to the real peer and its answer back, changed where it is a relay's.
async fn pass(
    orders: &Orders,
    from: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let fault = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    let relay = request.uri().path().starts_with("/relay/");
    // The real peer sees one address only, so this is done here for it.
    if !relay
        && request.uri().path().starts_with("/hls/")
        && (orders.peers.0..=orders.peers.1).contains(&from)
    {
        return fault(StatusCode::FORBIDDEN);
    }
    let Ok(stream) = connect(orders.behind, Some(orders.listen.ip())).await else {
        return fault(StatusCode::BAD_GATEWAY);
    };
    let Ok((mut sender, connection)) = client::handshake(TokioIo::new(stream)).await else {
        return fault(StatusCode::BAD_GATEWAY);
    };
    tokio::spawn(connection);
    let Ok(response) = sender.send_request(request).await else { return fault(StatusCode::BAD_GATEWAY) };
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return fault(StatusCode::BAD_GATEWAY) };
    let mut bytes = body.to_bytes().to_vec();
    if relay && parts.status.is_success() {
        match orders.cheat {
            Cheat::HidesInVia => {
                let via = parts.headers.get("via").and_then(|via| via.to_str().ok()).unwrap_or("");
                let own = format!("1.1 {}", orders.name);
                let others: Vec<&str> = via.split(", ").filter(|entry| *entry != own).collect();
                parts.headers.insert("via", HeaderValue::from_str(&others.join(", ")).unwrap());
            }
            Cheat::ChangesBytes if !bytes.is_empty() => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            _ => {}
        }
    }
    Ok(Response::from_parts(parts, Full::new(bytes.into())))
}

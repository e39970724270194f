//! Sockets: bounded buffers where memory is bounded, no delay, and every dial from the peer's own address.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use hopcast_protocol::PeerLimits;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What the buffers are set to that only messages go through: requests, and what the signalling server says.
const SMALL: u32 = 64 * 1024;
/// How long a connect may take.
const CONNECT: Duration = Duration::from_millis(1500);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    Name(String, io::Error),
    /// The other side, or the system, said no.
    #[error("failed to connect to {0}: {1}")]
    Refused(String, io::Error),
    /// No answer in time.
    #[error("{0} did not answer within 1.5 s")]
    Silent(String),
}

/// SO_SNDBUF and SO_RCVBUF; where nothing is said the kernel sizes a buffer by itself (tcp(7), tcp_wmem and tcp_rmem).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffers {
    send: Option<u32>,
    receive: Option<u32>,
}

impl Buffers {
    /// For messages both ways.
    pub(crate) const MESSAGES: Self = Self { send: Some(SMALL), receive: Some(SMALL) };

    /// Requests go out, segments come in.
    pub(crate) fn asking(limits: &PeerLimits) -> Self {
        Self { send: Some(SMALL), receive: limits.receive_buffer }
    }

    /// Segments go out, requests come in.
    pub(crate) fn answering(limits: &PeerLimits) -> Self {
        Self { send: limits.send_buffer, receive: Some(SMALL) }
    }
}

fn socket(to: SocketAddr, buffers: Buffers) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = buffers.send {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = buffers.receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(socket)
}

/// Listens; accepted sockets inherit the buffers.
pub(crate) fn listen(at: SocketAddr, buffers: Buffers) -> io::Result<TcpListener> {
    let socket = socket(at, buffers)?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(128)
}

/// Connects to `host:port`, from `from` where it is given.
pub(crate) async fn dial(
    authority: &str,
    from: Option<IpAddr>,
    buffers: Buffers,
) -> Result<TcpStream, DialError> {
    let connect = async {
        // An address needs no resolver, and so no thread.
        let to = match authority.parse() {
            Ok(address) => address,
            Err(_) => tokio::net::lookup_host(authority)
                .await
                .and_then(|mut all| {
                    all.find(|to| from.is_none_or(|from| from.is_ipv4() == to.is_ipv4()))
                        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address of our family"))
                })
                .map_err(|error| DialError::Name(authority.to_owned(), error))?,
        };
        let connect = async {
            let socket = socket(to, buffers)?;
            if let Some(from) = from {
                socket.bind(SocketAddr::new(from, 0))?;
            }
            let stream = socket.connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        connect.await.map_err(|error| DialError::Refused(authority.to_owned(), error))
    };
    tokio::time::timeout(CONNECT, connect)
        .await
        .unwrap_or_else(|_| Err(DialError::Silent(authority.to_owned())))
}

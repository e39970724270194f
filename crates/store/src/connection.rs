//! One connection to a database: dialled from a given address, within a deadline, and gone when dropped. A host that begins
//! with `/` is the directory of a Unix socket, as PostgreSQL's own clients understand it.
//!
//! The driver's connection runs in a task of its own that [`Connection`] owns.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use hopcast_protocol::DatabaseAccess;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, UnixStream},
    task::JoinHandle,
};
use tokio_postgres::{Client, NoTls};

use crate::error::{Error, explain, within};

/// The driver's client and the task that moves its bytes.
pub(crate) struct Connection {
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closes the socket even where the server does not answer.
        self.task.abort();
    }
}

impl Connection {
    /// Dials, authenticates, and starts the task.
    pub(crate) async fn open(
        access: &DatabaseAccess,
        from: Option<IpAddr>,
        application: &str,
        deadline: Duration,
    ) -> Result<Self, Error> {
        let what = format!("connect to database {} at {}:{}", access.name, access.host, access.port);
        within(deadline, &what, Self::dial(access, from, application)).await
    }

    async fn dial(access: &DatabaseAccess, from: Option<IpAddr>, application: &str) -> Result<Self, Error> {
        let unreachable =
            |error| Error::Unreachable { name: access.name.to_string(), address: address(access), error };
        if access.host.starts_with('/') {
            let stream = dial_unix(&access.host, access.port).await.map_err(unreachable)?;
            return Self::start(access, stream, application).await;
        }
        let stream = dial(&access.host, access.port, from).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        Self::start(access, stream, application).await
    }

    /// Authenticates over an open stream, and starts the task.
    async fn start<S>(access: &DatabaseAccess, stream: S, application: &str) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&access.user)
            .password(&access.password)
            .dbname(&access.database)
            .application_name(application);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| {
            let detail = explain(&error);
            Error::Refused { name: access.name.to_string(), address: address(access), detail, error }
        })?;
        let name = access.name.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(database = %name, error = %explain(&error), "connection ended");
            }
        });
        Ok(Self { client, task })
    }

    /// True once no statement can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.task.is_finished()
    }

    /// Ends it without a word to the server, which may be hanging.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

fn address(access: &DatabaseAccess) -> String {
    format!("{}:{}", access.host, access.port)
}

/// Through a descriptor of the directory: the path of a Unix socket may have 107 bytes only.
async fn dial_unix(directory: &str, port: u16) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd as _;
    let handle = std::fs::File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/.s.PGSQL.{port}", handle.as_raw_fd())).await
}

async fn dial(host: &str, port: u16, from: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => tokio::net::lookup_host((host, port)).await?.collect(),
    };
    for to in addresses {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_keepalive(true)?;
        if let Some(from) = from {
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            socket.bind(SocketAddr::new(from, 0))?;
        }
        match socket.connect(to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

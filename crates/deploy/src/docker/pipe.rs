//! The inner end of the way to the databases: `hopcast pipe`, which runs in the operator's helper container.
//!
//! It listens on a Unix socket for each target, in a directory that it shares with who started it (a bind mount), and moves
//! bytes between each connection and the target's TCP address. Its standard input is the tie to who started it, who lets a
//! byte through now and then: at its end, or when none comes for [`SILENCE`], the pipe ends and its container with it.
//!
//! One task for each connection, all owned by [`run`].

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hopcast_protocol::DatabaseName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};

use crate::{Error, error::Doing as _};

/// What it says when every socket listens.
pub const READY: &str = "ready";
/// Longest time without a word from who started it.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How long connecting to a target may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections at a time to one target; an operator needs a few.
const CONNECTIONS: usize = 16;
/// Bytes that are under way in each direction.
const BUFFER: usize = 64 << 10;

/// What is connected: `origin-db=10.77.128.2:5432`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The database; a directory of this name has the socket.
    pub name: DatabaseName,
    /// Where it listens.
    pub to: SocketAddr,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.to)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, to) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=ADDRESS:PORT"))?;
        let name = DatabaseName::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name, to: to.parse().map_err(|_| format!("`{to}` is not ADDRESS:PORT"))? })
    }
}

/// Where PostgreSQL's clients look for the socket of a port in a directory.
fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

/// Listens for a target; only the own user may connect.
fn listen(folder: &Path, target: &Target) -> Result<UnixListener, Error> {
    let folder = folder.join(target.name.as_str());
    fs::create_dir(&folder).doing("create", &folder)?;
    let path = socket(&folder, target.to.port());
    let listener = UnixListener::bind(&path).doing("listen on", &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).doing("set the mode of", &path)?;
    Ok(listener)
}

async fn forward(mut stream: UnixStream, target: &Target) {
    // Whoever asked sees a closed connection; why stands in the container's log.
    let mut to = match timeout(CONNECT, TcpStream::connect(target.to)).await {
        Ok(Ok(to)) => to,
        Ok(Err(error)) => return tracing::warn!("{target}: {error}"),
        Err(_) => return tracing::warn!("{target}: no answer within {} s", CONNECT.as_secs()),
    };
    let _ = to.set_nodelay(true); // without it the connection is slower, not wrong
    if let Err(error) = copy_bidirectional_with_sizes(&mut stream, &mut to, BUFFER, BUFFER).await {
        tracing::debug!("{target}: {error}");
    }
}

async fn serve(listener: UnixListener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let target = target.clone();
                connections.spawn(async move { forward(stream, &target).await });
            }
            // Out of descriptors, or the connection is gone already: neither is mended by asking again at once.
            Err(error) => {
                tracing::warn!("{target}: failed to accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Returns when `tie` ends or falls silent.
pub async fn untied(mut tie: impl AsyncRead + Unpin, silence: Duration) {
    let mut bytes = [0; 64];
    while matches!(timeout(silence, tie.read(&mut bytes)).await, Ok(Ok(1..))) {}
}

/// Connects all targets until standard input ends. `folder` must be there and empty.
pub async fn run(folder: &Path, targets: &[Target]) -> Result<(), Error> {
    let mut servers = JoinSet::new();
    for target in targets {
        servers.spawn(serve(listen(folder, target)?, target.clone()));
    }
    let mut out = tokio::io::stdout();
    let told = async {
        out.write_all(format!("{READY}\n").as_bytes()).await?;
        out.flush().await
    };
    told.await.doing("write to", "standard output")?;
    untied(tokio::io::stdin(), SILENCE).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back_and_a_broken_one_is_named() {
        let target: Target = "origin-db=10.77.128.2:5432".parse().unwrap();
        assert_eq!((target.name.as_str(), target.to.port()), ("origin-db", 5432));
        assert_eq!(target.to_string(), "origin-db=10.77.128.2:5432");
        assert!("origin-db".parse::<Target>().unwrap_err().contains("NAME=ADDRESS:PORT"));
        assert!("../x=10.0.0.1:1".parse::<Target>().is_err());
        assert!("origin-db=there".parse::<Target>().unwrap_err().contains("`there`"));
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_a_target_that_is_away_closes_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target { name: "origin-db".parse().unwrap(), to: server.local_addr().unwrap() };
        let task = tokio::spawn(serve(listen(folder.path(), &target).unwrap(), target.clone()));
        let path = socket(&folder.path().join("origin-db"), target.to.port());
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        drop(stream);
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!((&got[..], &back[..]), (&b"ping"[..], &b"pong"[..]));
        drop(server);
        let mut client = UnixStream::connect(&path).await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "closed, not left waiting");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        task.abort();
    }

    #[tokio::test]
    async fn the_end_of_the_tie_and_its_silence_are_noticed() {
        let (mut here, there) = tokio::io::duplex(8);
        let waits = tokio::spawn(untied(there, Duration::from_secs(60)));
        here.write_all(b"\n").await.unwrap();
        drop(here);
        timeout(Duration::from_secs(10), waits).await.expect("it ends with the tie").unwrap();
        let (_here, there) = tokio::io::duplex(8);
        untied(there, Duration::from_millis(10)).await;
    }
}

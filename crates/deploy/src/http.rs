//! Small HTTP/1.1 requests, to the keeper and to the signalling server. One connection each, bounded and in time.

use std::{net::SocketAddr, path::Path, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};

use crate::wire::BODY_BYTES;

/// How long connecting, and the head of an answer, may take.
const HEAD: Duration = Duration::from_secs(5);

/// An answer on its way; the task that moves its bytes ends with it.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    driver: JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// Status and body.
    pub(crate) async fn read(mut self, within: Duration) -> Result<(StatusCode, Bytes), String> {
        let body = Limited::new(self.response.body_mut(), BODY_BYTES).collect();
        match tokio::time::timeout(within, body).await {
            Ok(Ok(body)) => Ok((self.response.status(), body.to_bytes())),
            Ok(Err(error)) => Err(format!("the answer broke off: {error}")),
            Err(_) => Err(format!("no whole answer within {} s", within.as_secs())),
        }
    }
}

/// Sends a request over a fresh connection.
async fn send<S>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
    head: Duration,
) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(async move {
        // An error also reaches whoever waits for the answer.
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(head, sender.send_request(request)).await {
        Ok(Ok(response)) => Ok(Answer { response, driver }),
        Ok(Err(error)) => {
            driver.abort();
            Err(error.to_string())
        }
        Err(_) => {
            driver.abort();
            Err(format!("no answer within {} s", head.as_secs()))
        }
    }
}

/// Connects to a socket in a directory, through a descriptor of it: the path of a Unix socket may have 107 bytes only.
pub(crate) async fn connect_unix(dir: &Path, socket: &str) -> std::io::Result<UnixStream> {
    use std::os::fd::AsRawFd as _;
    let handle = std::fs::File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", handle.as_raw_fd())).await
}

/// A request to the keeper. `head`: how long its answer may take to begin.
pub(crate) async fn unix(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Vec<u8>,
    head: Duration,
) -> Result<Answer, String> {
    send(stream, "keeper", method, path, body, head).await
}

/// GET over TCP; status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), String> {
    let stream = match tokio::time::timeout(HEAD, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {} s", HEAD.as_secs())),
    };
    send(stream, &address.to_string(), Method::GET, path, Vec::new(), HEAD).await?.read(HEAD).await
}

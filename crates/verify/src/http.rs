//! A small HTTP/1.1 client: one kept-alive connection to one endpoint, whole answers, each with a bound and a deadline.
//!
//! It shares no code with peer and signalling but hyper, so that an error of theirs is not repeated here.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinHandle, time::timeout};

use crate::place::Place;

/// Longest answer that is not a segment, in bytes: the graph of some 10,000 peers.
pub(crate) const ANSWER_LIMIT: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0} broke the connection: {1}")]
    Broken(SocketAddr, hyper::Error),
    #[error("{0} sent a broken or too long answer: {1}")]
    Body(SocketAddr, String),
    #[error("no answer from {0} within {1:?}")]
    Late(SocketAddr, Duration),
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The header's value, where there is one and it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body for an error text, cut.
    pub(crate) fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().chars().take(160).collect()
    }

    /// The answer, if it is a 200.
    pub(crate) fn ok(self) -> Result<Self, String> {
        if self.status == StatusCode::OK { Ok(self) } else { Err(self.unexpected()) }
    }

    /// Status, Proxy-Status and the body's first words, for an error text.
    pub(crate) fn unexpected(&self) -> String {
        let proxy = self.header("proxy-status").map(|text| format!(" [{text}]")).unwrap_or_default();
        format!("answered {}{proxy} {}", self.status.as_u16(), self.excerpt()).trim_end().to_owned()
    }
}

/// Ends its task when dropped.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Sender = http1::SendRequest<Empty<Bytes>>;

/// With `reset` the connection ends in a reset, and the kernel forgets it at once.
async fn connect(to: SocketAddr, from: Place, reset: bool) -> Result<(Sender, Task), HttpError> {
    let dial = async {
        let socket = from.socket(to).await?;
        if reset {
            socket.set_zero_linger()?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let stream = dial.await.map_err(|error| HttpError::Connect(to, error))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| HttpError::Broken(to, error))?;
    // How it ended is known to whoever waits for an answer on it.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok((sender, Task(task)))
}

/// A connection to one endpoint, opened when first needed and again when the other side closed it.
#[derive(Debug)]
pub(crate) struct Client {
    to: SocketAddr,
    from: Place,
    reset: bool,
    connection: Option<(Sender, Task)>,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, from: Place::Here, reset: false, connection: None }
    }

    /// A client that dials from this place.
    pub(crate) fn from(to: SocketAddr, from: Place) -> Self {
        Self { from, ..Self::new(to) }
    }

    /// The same, whose connections leave no trace in the kernel's tables.
    pub(crate) fn resetting(self) -> Self {
        Self { reset: true, ..self }
    }

    /// GET with the default bound.
    pub(crate) async fn get(&mut self, path: &str, within: Duration) -> Result<Answer, HttpError> {
        self.send("GET", path, &[], ANSWER_LIMIT, within).await
    }

    /// Sends a request and reads the whole answer, at most `limit` bytes of body.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        limit: usize,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        let to = self.to;
        match timeout(within, self.send_now(method, path, headers, limit)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.connection = None;
                Err(error)
            }
            Err(_) => {
                self.connection = None;
                Err(HttpError::Late(to, within))
            }
        }
    }

    async fn send_now(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        limit: usize,
    ) -> Result<Answer, HttpError> {
        loop {
            let kept = self.connection.take();
            let reused = kept.is_some();
            let (mut sender, task) = match kept {
                Some(kept) => kept,
                None => connect(self.to, self.from, self.reset).await?,
            };
            let mut request =
                Request::builder().method(method).uri(path).header(header::HOST, self.to.to_string());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Empty::new())?;
            let sent = match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(response) => {
                    let answer = read(self.to, response, limit).await?;
                    self.connection = Some((sender, task));
                    return Ok(answer);
                }
                // The other side closed the kept connection before it saw the request: once more on a new one.
                Err(error)
                    if reused
                        && (error.is_closed() || error.is_canceled() || error.is_incomplete_message()) => {}
                Err(error) => return Err(HttpError::Broken(self.to, error)),
            }
        }
    }
}

async fn read(to: SocketAddr, response: http::Response<Incoming>, limit: usize) -> Result<Answer, HttpError> {
    let (parts, body) = response.into_parts();
    let body =
        Limited::new(body, limit).collect().await.map_err(|error| HttpError::Body(to, error.to_string()))?;
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
}

/// Opens an answer without end: its body is read by the caller.
pub(crate) async fn stream(
    to: SocketAddr,
    path: &str,
    within: Duration,
) -> Result<(Incoming, Task), HttpError> {
    let open = async {
        let (mut sender, task) = connect(to, Place::Here, false).await?;
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, to.to_string())
            .header(header::ACCEPT, "text/event-stream")
            .body(Empty::new())?;
        let response = sender.send_request(request).await.map_err(|error| HttpError::Broken(to, error))?;
        if response.status() != StatusCode::OK {
            return Err(HttpError::Body(to, format!("status {} for {path}", response.status())));
        }
        Ok((response.into_body(), task))
    };
    timeout(within, open).await.unwrap_or(Err(HttpError::Late(to, within)))
}

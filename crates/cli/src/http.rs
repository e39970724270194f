//! A small HTTP/1.1 client: one bounded GET with a deadline, over a connection of its own.
//!
//! It talks to peers, as a player would, and to the signalling server. It follows no redirects and knows no TLS.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{HeaderMap, Request, StatusCode, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::exit::{self, Failure};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// The bytes of an answer.
pub(crate) type Body = Bytes;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text; empty where it is absent or no text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text, shortened to one line for an error message.
    pub(crate) fn sentence(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.lines().next().unwrap_or_default().chars().take(300).collect()
    }
}

/// `GET http://<to><target>`. `target` is path and query, already escaped; a body above `limit` bytes is an error.
pub(crate) async fn get(
    to: SocketAddr,
    target: &str,
    limit: usize,
    deadline: Duration,
) -> anyhow::Result<Answer> {
    let answer = async {
        let stream = timeout(CONNECT, TcpStream::connect(to))
            .await
            .with_context(|| format!("{to} does not answer"))?
            .with_context(|| format!("cannot connect to {to}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("{to} does not speak HTTP"))?;
        // Ends with the sender; what fails in it is seen in the answer.
        tokio::spawn(connection);
        let request = Request::get(target)
            .header(HOST, to.to_string())
            .body(Empty::<Bytes>::new())
            .with_context(|| format!("`{target}` is no request target"))?;
        let answer = sender
            .send_request(request)
            .await
            .with_context(|| format!("no answer to http://{to}{target}"))?;
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => bail!("the answer to http://{to}{target} broke off: {error}"),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    timeout(deadline, answer)
        .await
        .with_context(|| format!("no whole answer to http://{to}{target} within {} s", deadline.as_secs()))?
}

/// [`get`] from a running mesh's signalling server; where it can't be reached, the error says what that means.
pub(crate) async fn from_server(
    server: SocketAddr,
    target: &str,
    limit: usize,
    deadline: Duration,
) -> anyhow::Result<Answer> {
    get(server, target, limit, deadline).await.map_err(|error| {
        let message = format!(
            "the mesh's signalling server does not answer: {error:#}; `hopcast status` shows what runs, `hopcast up` \
             starts what does not"
        );
        Failure::new(exit::UNAVAILABLE, message).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// Serves one connection with fixed bytes.
    async fn server(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            stream.write_all(bytes).await.unwrap();
        });
        address
    }

    const SECOND: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_answer_comes_whole_or_not_at_all() {
        let to = server(b"HTTP/1.1 200 OK\r\nVia: 1.1 peer-1\r\nContent-Length: 5\r\n\r\nhello").await;
        let answer = get(to, "/x", 16, SECOND).await.unwrap();
        assert_eq!((answer.header("via"), &answer.body[..]), ("1.1 peer-1", &b"hello"[..]));
        let to = server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
        assert!(get(to, "/x", 64, SECOND).await.unwrap_err().to_string().contains("broke off"));
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_named_with_what_to_do() {
        let to = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = from_server(to, "/x", 16, SECOND).await.unwrap_err();
        assert_eq!(exit::code(&error), exit::UNAVAILABLE);
        let text = error.to_string();
        for part in ["signalling server does not answer", &to.to_string(), "`hopcast status`", "`hopcast up`"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_an_error() {
        let to = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        assert!(get(to, "/x", 4, SECOND).await.unwrap_err().to_string().contains("broke off"));
    }
}

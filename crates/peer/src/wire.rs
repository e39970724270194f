//! A kept-alive connection to a neighbour, moved along by whoever uses it.
//!
//! hyper's client is a pair: a sender of requests, and a connection that somebody has to poll. If that were a task of its own,
//! each piece of a body would go from one task to another, and a peer that relays several at a time would first read a piece of
//! each and then write a piece of each: peers along a route would work one after the other. So who waits for an answer
//! polls the connection itself; a task of its own keeps it while nobody uses it, to see it closed.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// hyper's buffer for one connection: the one buffer of a transfer, so also the longest write. What the kernel sends as one
/// packet to its own loopback (MTU 65,536, less 52 bytes of heads and timestamps) or hands to an Ethernet card to cut (45 times
/// 1,448 bytes): 64 KiB would go as a whole packet and a rest of a few bytes, each with its own way through the kernel.
pub(crate) const BUFFER: usize = 45 * 1448;

type Body = Empty<Bytes>;
type Http = Connection<TokioIo<TcpStream>, Body>;

/// What the user and the keeper share.
struct Line {
    /// `None` when it has ended.
    connection: RefCell<Option<Pin<Box<Http>>>>,
    in_use: Cell<bool>,
    keeper: Cell<Option<Waker>>,
}

impl Line {
    /// Moves it along; true when it has ended. What it waits for wakes `cx`, and nobody who moved it before.
    fn drive(&self, cx: &mut Context<'_>) -> bool {
        let mut connection = self.connection.borrow_mut();
        // Users learn of its error by themselves.
        if connection.as_mut().is_some_and(|open| open.as_mut().poll(cx).is_ready()) {
            *connection = None;
        }
        connection.is_none()
    }
}

/// What sees a connection closed that nobody uses. To be polled until it is done; dropping it ends the connection.
pub(crate) struct Keeper(Rc<Line>);

impl Future for Keeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.keeper.set(Some(cx.waker().clone()));
        if !self.0.in_use.get() && self.0.drive(cx) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.0.connection.borrow_mut() = None;
    }
}

/// One connection. It is in use from [`ask`](Wire::ask) to [`rest`](Wire::rest).
pub(crate) struct Wire {
    sender: SendRequest<Body>,
    line: Rc<Line>,
}

impl Wire {
    /// Speaks HTTP/1.1 over a stream.
    pub(crate) async fn open(stream: TcpStream) -> hyper::Result<(Self, Keeper)> {
        let (sender, connection) =
            Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await?;
        let connection = RefCell::new(Some(Box::pin(connection)));
        let line = Rc::new(Line { connection, in_use: Cell::new(false), keeper: Cell::new(None) });
        Ok((Self { sender, line: line.clone() }, Keeper(line)))
    }

    /// True when no request can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request; its body comes for as long as the wire is [driven](Wire::drive).
    pub(crate) async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let Self { sender, line } = self;
        line.in_use.set(true);
        let mut asked = pin!(async {
            sender.ready().await?;
            sender.send_request(request).await
        });
        poll_fn(|cx| {
            // Handed over, sent, and perhaps answered.
            if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            line.drive(cx);
            asked.as_mut().poll(cx)
        })
        .await
    }

    /// Moves the connection along, for who has asked and waits for the body.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) {
        self.line.drive(cx);
    }

    /// Nobody uses it for now.
    pub(crate) fn rest(&self) {
        if self.line.in_use.replace(false)
            && let Some(keeper) = self.line.keeper.take()
        {
            keeper.wake();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.rest();
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("in_use", &self.line.in_use).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::testing::paused;

    /// A wire to a neighbour that answers once, in two pieces, and closes when it is told to.
    async fn to_one_answer() -> (Wire, Keeper, tokio::sync::oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.84.100.2:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (close, closed) = tokio::sync::oneshot::channel();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"-next").await.unwrap();
            let _ = closed.await;
        });
        let (wire, keeper) = Wire::open(stream).await.unwrap();
        (wire, keeper, close)
    }

    async fn body(wire: &Wire, mut incoming: Incoming) -> Bytes {
        let mut collected = pin!((&mut incoming).collect());
        poll_fn(|cx| {
            if let Poll::Ready(all) = collected.as_mut().poll(cx) {
                return Poll::Ready(all.unwrap().to_bytes());
            }
            wire.drive(cx);
            collected.as_mut().poll(cx).map(|all| all.unwrap().to_bytes())
        })
        .await
    }

    #[test]
    fn who_asks_needs_nobody_else_and_who_keeps_it_sees_the_end() {
        paused(async {
            let (mut wire, keeper, close) = to_one_answer().await;
            let answer = wire.ask(Request::get("/").body(Empty::new()).unwrap()).await.unwrap();
            assert_eq!(body(&wire, answer.into_body()).await, "first-next");
            wire.rest();
            assert!(!wire.is_closed());
            close.send(()).unwrap();
            keeper.await;
            assert!(wire.is_closed());
        });
    }

    #[test]
    fn while_it_is_used_its_keeper_keeps_away_and_without_a_keeper_it_ends() {
        paused(async {
            let (mut wire, keeper, _close) = to_one_answer().await;
            let keeper = tokio::task::spawn_local(keeper);
            let answer = wire.ask(Request::get("/").body(Empty::new()).unwrap()).await.unwrap();
            keeper.abort();
            let _ = keeper.await;
            assert!(answer.into_body().collect().await.is_err(), "the link was cut");
            assert!(wire.ask(Request::get("/").body(Empty::new()).unwrap()).await.is_err());
        });
    }
}

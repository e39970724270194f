//! One accepted connection: its socket with a bound on how long it may stand still, and what its end gives back.
//!
//! hyper drops a response's body when the last piece is queued, not when it has left. A transfer's place is therefore
//! kept here until the socket has been flushed: a reader that takes nothing holds its place.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit},
    time::{Instant, Sleep, sleep_until},
};

/// A neighbour that takes nothing for this long is gone.
const NEIGHBOR_STALL: Duration = Duration::from_secs(10);
/// A player that takes nothing for this long is gone. Longer: a player may pause.
const PLAYER_STALL: Duration = Duration::from_secs(60);
/// How long a connection may take to bring its first request.
const FIRST: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(75);

/// What is known of a connection.
#[derive(Debug)]
pub struct Conn {
    /// The other end.
    pub remote: SocketAddr,
    kill: Notify,
    neighbor: Cell<bool>,
    busy: Cell<bool>,
    idle_until: Cell<Instant>,
    // Places of transfers whose last bytes are on their way out.
    leaving: RefCell<Vec<OwnedSemaphorePermit>>,
}

impl Conn {
    /// A connection that was just accepted.
    pub fn new(remote: SocketAddr, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            remote,
            kill: Notify::new(),
            neighbor: Cell::new(false),
            busy: Cell::new(false),
            idle_until: Cell::new(now + FIRST),
            leaving: RefCell::default(),
        })
    }

    /// The other end has proved to be a neighbour.
    pub fn is_neighbor(&self) {
        self.neighbor.set(true);
    }

    /// Ends the connection, whatever is under way.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// Waits for [`Conn::kill`].
    pub async fn killed(&self) {
        self.kill.notified().await;
    }

    /// A request came (true), or its response is complete (false).
    pub fn set_busy(&self, busy: bool) {
        self.busy.set(busy);
        self.idle_until.set(Instant::now() + IDLE);
    }

    /// Waits until the connection has been idle for too long.
    pub async fn expired(&self) {
        loop {
            sleep_until(self.idle_until.get()).await;
            let now = Instant::now();
            if self.busy.get() {
                self.idle_until.set(now + IDLE);
            } else if self.idle_until.get() <= now {
                return;
            }
        }
    }

    /// Keeps a transfer's place until its last bytes have left.
    pub fn leave(&self, place: OwnedSemaphorePermit) {
        self.leaving.borrow_mut().push(place);
    }

    fn stall(&self) -> Duration {
        if self.neighbor.get() { NEIGHBOR_STALL } else { PLAYER_STALL }
    }
}

/// The socket of an accepted connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    conn: Rc<Conn>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Wraps an accepted stream.
    pub(crate) fn new(stream: TcpStream, conn: Rc<Conn>) -> Self {
        Self { stream, conn, stalled: None }
    }

    fn watch(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.conn.stall();
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes the socket once all that it had queued is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.conn.leaving.borrow_mut().clear();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;
    use crate::testing::paused;

    #[test]
    fn a_reader_that_takes_nothing_is_given_up_and_keeps_its_place_until_then() {
        paused(async {
            for (neighbor, limit) in [(true, NEIGHBOR_STALL), (false, PLAYER_STALL)] {
                let listener = TcpListener::bind("127.78.100.1:0").await.unwrap();
                let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (stream, remote) = listener.accept().await.unwrap();
                let conn = Conn::new(remote, Instant::now());
                if neighbor {
                    conn.is_neighbor();
                }
                let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
                conn.leave(places.clone().try_acquire_owned().unwrap());
                let mut socket = Socket::new(stream, conn.clone());
                let began = Instant::now();
                let error = socket.write_all(&vec![0; 32 << 20]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(began.elapsed() >= limit, "the clock is the test's own: {:?}", began.elapsed());
                assert_eq!(places.available_permits(), 0, "not flushed, so not left");
                drop((socket, conn));
                assert_eq!(places.available_permits(), 1);
            }
        });
    }

    #[test]
    fn a_flush_gives_the_place_back() {
        paused(async {
            let listener = TcpListener::bind("127.78.100.2:0").await.unwrap();
            let _reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, remote) = listener.accept().await.unwrap();
            let conn = Conn::new(remote, Instant::now());
            let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
            let mut socket = Socket::new(stream, conn.clone());
            socket.write_all(b"the last bytes").await.unwrap();
            conn.leave(places.clone().try_acquire_owned().unwrap());
            socket.flush().await.unwrap();
            assert_eq!(places.available_permits(), 1);
        });
    }

    #[test]
    fn idle_connections_expire_and_busy_ones_do_not() {
        paused(async {
            let began = Instant::now();
            let remote = "127.0.0.1:1".parse().unwrap();
            Conn::new(remote, began).expired().await;
            assert_eq!(began.elapsed().as_secs(), FIRST.as_secs());

            let conn = Conn::new(remote, Instant::now());
            conn.set_busy(true);
            assert!(tokio::time::timeout(IDLE * 10, conn.expired()).await.is_err());
            conn.set_busy(false);
            let idle = Instant::now();
            conn.expired().await;
            assert_eq!(idle.elapsed().as_secs(), IDLE.as_secs());
        });
    }
}

//! A socket with a bound on how long its reader may take nothing.
//!
//! hyper has deadlines for reading a request, none for writing an answer: a client that asks and never reads would keep its
//! place for good. The clock runs only while there is something to write and the kernel's buffer is full.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Gives a reader up that takes nothing for `patience`.
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    /// The bare socket.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_now_and_then_stays_and_who_takes_none_is_given_up() {
        let patience = Duration::from_secs(10);
        let (here, mut there) = duplex(16);
        let mut socket = Patient::new(here, patience);
        let reader = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_secs(9)).await;
                there.read_u8().await.unwrap();
            }
            (there, Instant::now())
        });
        let error = socket.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (_there, last) = reader.await.unwrap();
        // The clock is the test's own: it moves only when everybody waits.
        assert_eq!(last.elapsed().as_secs(), patience.as_secs(), "counted from the last byte that was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_with_nothing_to_write_is_no_stall() {
        let (here, mut there) = duplex(16);
        let mut socket = Patient::new(here, Duration::from_secs(10));
        for _ in 0..3 {
            sleep(Duration::from_hours(1)).await;
            socket.write_all(b"x").await.unwrap();
        }
        assert_eq!(there.read_u8().await.unwrap(), b'x');
    }
}

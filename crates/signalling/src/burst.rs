//! Frames as they come, with a buffer only while they come.
//!
//! ```text
//!   nothing there:   Source { 256 bytes }                     begun() reads the first bytes into these
//!   a burst:         Source ──▶ fastwebsockets (8 KiB) ──▶ frames     until its buffer is empty after a frame
//! ```
//!
//! fastwebsockets gives each connection a buffer of 8 KiB for as long as its reader lives. Most connections of a server wait
//! most of the time, so a reader lives for one burst only: it is dropped when every byte that it took from the socket was part
//! of a frame that has been handed out. Requests and pongs fit into the first bytes, so a burst of one takes one read.

use std::{
    future::ready,
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use fastwebsockets::{Frame, Role, WebSocketError, WebSocketRead};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// Bytes of a burst that are read before it has a buffer.
const FIRST: usize = 256;
/// Longest head of a frame: two bytes, eight of a length, four of a mask (RFC 6455 5.2).
const HEAD: usize = 14;
/// Where the mask bit is, in the second byte of a head (RFC 6455 5.2).
const MASKED: u8 = 0x80;

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// What fastwebsockets says.
    WebSocket(WebSocketError),
    /// A client's frame without a mask (RFC 6455 5.1).
    Unmasked,
}

/// The reading half of a connection, and the first bytes of what comes next.
pub(crate) struct Source<R> {
    read: R,
    first: [u8; FIRST],
    begin: usize,
    end: usize,
    /// Bytes that a reader took and that are not yet part of a frame.
    ahead: AtomicUsize,
}

impl<R: AsyncRead + Unpin> Source<R> {
    pub(crate) fn new(read: R) -> Self {
        Self { read, first: [0; FIRST], begin: 0, end: 0, ahead: AtomicUsize::new(0) }
    }

    /// Waits until something comes; false at the end. Cancelling it loses nothing.
    pub(crate) async fn begun(&mut self) -> io::Result<bool> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, self.read.read(&mut self.first).await?);
        }
        Ok(self.begin < self.end)
    }

    /// What has begun to come. Messages of `bound` bytes and longer are an error.
    pub(crate) fn burst(&mut self, bound: usize) -> Burst<'_, R> {
        let Self { read, first, begin, end, ahead } = self;
        let taken = Taken { read, first, begin, end: *end, ahead };
        let (mut frames, _) = fastwebsockets::after_handshake_split(taken, tokio::io::sink(), Role::Server);
        frames.set_auto_close(false);
        frames.set_auto_pong(false);
        frames.set_max_message_size(bound);
        Burst { frames, ahead }
    }

    /// The bare half.
    pub(crate) fn into_inner(self) -> R {
        self.read
    }
}

/// What fastwebsockets reads from: the first bytes, then the connection, each byte counted.
struct Taken<'a, R> {
    read: &'a mut R,
    first: &'a [u8; FIRST],
    begin: &'a mut usize,
    end: usize,
    ahead: &'a AtomicUsize,
}

impl<R: AsyncRead + Unpin> AsyncRead for Taken<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let outcome = if *this.begin < this.end {
            let count = buf.remaining().min(this.end - *this.begin);
            buf.put_slice(&this.first[*this.begin..*this.begin + count]);
            *this.begin += count;
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut *this.read).poll_read(cx, buf)
        };
        this.ahead.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        outcome
    }
}

/// One burst's frames. Dropped half-way, it loses what it has read of the next one: only for connections that end.
pub(crate) struct Burst<'a, R> {
    frames: WebSocketRead<Taken<'a, R>>,
    ahead: &'a AtomicUsize,
}

impl<R: AsyncRead + Unpin> Burst<'_, R> {
    /// The next frame, and whether it was the burst's last.
    pub(crate) async fn next(&mut self) -> Result<(Frame<'_>, bool), ReadError> {
        let read = self.frames.read_frame(&mut |_| ready(Ok::<_, WebSocketError>(()))).await;
        let mut frame = read.map_err(ReadError::WebSocket)?;
        // How the frame would be written: the head that it had, but for a length that took more bytes than it needs (which
        // RFC 6455 5.2 forbids): then bytes seem to be left over, and the burst goes on.
        let mut head = [0; HEAD];
        let len = frame.fmt_head(&mut head) + frame.payload.len();
        if head[1] & MASKED == 0 {
            return Err(ReadError::Unmasked);
        }
        let before = self.ahead.fetch_sub(len, Ordering::Relaxed);
        Ok((frame, before == len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// A client's binary frame.
    fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut wire = vec![0x82];
        let masked = if mask.is_some() { MASKED } else { 0 };
        match payload.len() {
            short if short < 126 => wire.push(masked | short as u8),
            long => {
                wire.push(masked | 0x7e);
                wire.extend((long as u16).to_be_bytes());
            }
        }
        wire.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        let mask = mask.unwrap_or_default();
        wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        wire
    }

    /// All payloads, and after how many bytes of the wire a burst was at its end.
    async fn read_all(source: &mut Source<impl AsyncRead + Unpin>) -> (Vec<Vec<u8>>, usize) {
        let (mut payloads, mut bursts) = (Vec::new(), 0);
        while source.begun().await.unwrap() {
            bursts += 1;
            let mut burst = source.burst(1 << 16);
            loop {
                let (frame, last) = burst.next().await.unwrap();
                payloads.push(frame.payload.to_vec());
                if last {
                    break;
                }
            }
        }
        (payloads, bursts)
    }

    proptest! {
        #[test]
        fn frames_come_whole_however_their_bytes_do(
            lengths in proptest::collection::vec(prop_oneof![0..4_usize, 100..140_usize, 200..300_usize, 7000..9000_usize], 1..12),
            cuts in proptest::collection::vec(1..400_usize, 1..8),
        ) {
            let payloads: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(at, &len)| vec![at as u8; len]).collect();
            let wire: Vec<u8> =
                payloads.iter().flat_map(|payload| frame(payload, Some([1, 2, 3, 4]))).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (came, bursts) = runtime.block_on(async {
                // As long as a piece: what is read is never more than one of them.
                let (there, mut here) = duplex(400);
                let write = async move {
                    let mut rest = &wire[..];
                    for cut in cuts.iter().cycle() {
                        if rest.is_empty() {
                            break;
                        }
                        let (piece, more) = rest.split_at(rest.len().min(*cut));
                        here.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                        rest = more;
                    }
                };
                tokio::join!(async { read_all(&mut Source::new(there)).await }, write).0
            });
            prop_assert!(bursts >= 1 && bursts <= payloads.len());
            prop_assert_eq!(came, payloads);
        }
    }

    #[tokio::test]
    async fn a_burst_ends_where_nothing_more_has_come() {
        let (there, mut here) = duplex(1 << 16);
        let mut source = Source::new(there);
        let one = frame(&[7; 300], Some([9; 4]));
        // Three at once, then the half of one.
        here.write_all(&[&one[..], &one, &one].concat()).await.unwrap();
        assert!(source.begun().await.unwrap());
        let mut burst = source.burst(1000);
        let mut lasts = Vec::new();
        for _ in 0..3 {
            lasts.push(burst.next().await.unwrap().1);
        }
        drop(burst);
        assert_eq!(lasts, [false, false, true]);
        here.write_all(&one[..100]).await.unwrap();
        assert!(source.begun().await.unwrap());
        here.write_all(&one[100..]).await.unwrap();
        let (frame, last) =
            source.burst(1000).next().await.map(|(frame, last)| (frame.payload.len(), last)).unwrap();
        assert_eq!((frame, last), (300, true));
        drop(here);
        assert!(!source.begun().await.unwrap());
    }

    #[tokio::test]
    async fn a_client_has_to_mask_and_a_long_way_to_say_a_length_loses_nothing() {
        let wire = frame(b"bare", None);
        let mut source = Source::new(&wire[..]);
        assert!(source.begun().await.unwrap());
        assert!(matches!(source.burst(1000).next().await, Err(ReadError::Unmasked)));

        // RFC 6455 5.2 wants the shortest; what has come is handed out all the same, and the next one too.
        let mut wire = vec![0x82, MASKED | 0x7e, 0, 3, 0, 0, 0, 0, 1, 2, 3];
        wire.extend(frame(b"next", Some([5; 4])));
        let mut source = Source::new(&wire[..]);
        assert!(source.begun().await.unwrap());
        let mut burst = source.burst(1000);
        assert_eq!(burst.next().await.unwrap().0.payload[..], [1, 2, 3]);
        assert_eq!(burst.next().await.unwrap().0.payload[..], *b"next");
        assert!(matches!(burst.next().await, Err(ReadError::WebSocket(WebSocketError::UnexpectedEOF))));
    }
}

//! One WebSocket connection: a read loop and a write loop in ONE future, joined by its [`Outbox`].
//!
//! Knows frames, not messages: what a message means is the [`Handler`]'s. Frames are handled in the order in which they
//! come, a ping's pong included. Bounds: one message (also one in fragments), the outbox, a write that makes no progress,
//! and the time that a closing connection may linger.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use fastwebsockets::{OpCode, WebSocketError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    burst::{ReadError, Source},
    frame::{CLOSE_NORMAL, CLOSE_NOT_UTF8, CLOSE_PROTOCOL, CLOSE_TOO_LARGE, CONTROL_BYTES, Frame},
    group::Turns,
    outbox::Outbox,
};

/// What is done with what comes in. Must not block.
pub trait Handler {
    /// A frame that is no whole message came: the other end lives.
    fn alive(&mut self);
    /// A whole message, a sign of life like any frame; `text` says of which kind. A text is valid UTF-8.
    fn message(&mut self, payload: &[u8], text: bool);
    /// A message beyond the bound came; the connection will be closed with 1009.
    fn too_large(&mut self);
}

/// The bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Longest message, in bytes.
    pub message: usize,
    /// A write without progress for this long ends the connection.
    pub write_stall: Duration,
    /// After a close frame the other end gets this long to answer it.
    pub linger: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            message: hopcast_protocol::limits::MESSAGE_BYTES,
            write_stall: hopcast_protocol::limits::DEAD_AFTER,
            linger: Duration::from_secs(2),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The other end closed, with or without a close frame.
    Closed,
    /// The other end broke the protocol of RFC 6455.
    Protocol,
    /// A message beyond the bound.
    TooLarge,
    /// This end closed or cut it.
    Here,
}

/// Serves one connection until it ends. The handler is dropped as soon as nothing more will be read, before what is
/// queued has been written.
pub async fn serve<R, W, H>(
    read: R,
    mut write: W,
    outbox: &Outbox,
    turns: &Turns,
    handler: H,
    limits: ConnectionLimits,
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    H: Handler,
{
    let mut source = Source::new(read);
    let (ended, clean) = {
        let reading = async {
            let mut handler = handler;
            let (ended, last) = read_loop(&mut source, outbox, &mut handler, limits.message).await;
            drop(handler);
            outbox.finish(last);
            ended
        };
        let writing = write_loop(&mut write, outbox, turns, limits.write_stall);
        let (mut reading, mut writing) = (pin!(reading), pin!(writing));
        let first = poll_fn(|cx| {
            if let Poll::Ready(clean) = writing.as_mut().poll(cx) {
                return Poll::Ready(Err(clean));
            }
            if turns.may_read() { reading.as_mut().poll(cx).map(Ok) } else { Poll::Pending }
        });
        match first.await {
            // What is queued still goes out, the close frame last.
            Ok(ended) => (ended, timeout(limits.linger, writing).await.unwrap_or(false)),
            Err(clean) => (Ended::Here, clean),
        }
    };
    // Dropping a socket that has unread bytes resets the connection, and the last frames with it: read them away, until
    // the other end has closed too.
    if clean && ended != Ended::Closed {
        let _ =
            timeout(limits.linger, tokio::io::copy(&mut source.into_inner(), &mut tokio::io::sink())).await;
    }
    ended
}

/// Reads until the connection ends; returns why, and the close frame to answer with.
async fn read_loop<R, H>(
    source: &mut Source<R>,
    outbox: &Outbox,
    handler: &mut H,
    bound: usize,
) -> (Ended, Option<Frame>)
where
    R: AsyncRead + Unpin,
    H: Handler,
{
    let mut partial: Option<Partial> = None;
    while let Ok(true) = source.begun().await {
        let mut burst = source.burst(bound + 1); // what is as long as this is refused, too
        loop {
            let (frame, last) = match burst.next().await {
                Ok(next) => next,
                Err(error) => return unreadable(&error, handler),
            };
            if let Some(end) = take(&frame, &mut partial, outbox, handler, bound) {
                return end;
            }
            if outbox.is_ending() {
                return (Ended::Here, None);
            }
            // A burst in one read must not keep this thread, nor fill the own outbox faster than it is written.
            tokio::task::consume_budget().await;
            outbox.half_empty().await;
            if last {
                break;
            }
        }
    }
    (Ended::Closed, None)
}

fn protocol(why: &str) -> (Ended, Option<Frame>) {
    (Ended::Protocol, Some(Frame::close(CLOSE_PROTOCOL, why)))
}

/// What a frame that cannot be read ends the connection with.
fn unreadable<H: Handler>(error: &ReadError, handler: &mut H) -> (Ended, Option<Frame>) {
    match error {
        ReadError::WebSocket(WebSocketError::FrameTooLarge) => too_large(handler),
        ReadError::WebSocket(WebSocketError::InvalidUTF8) => {
            (Ended::Protocol, Some(Frame::close(CLOSE_NOT_UTF8, "not UTF-8")))
        }
        ReadError::WebSocket(WebSocketError::IoError(_) | WebSocketError::UnexpectedEOF) => {
            (Ended::Closed, None)
        }
        ReadError::WebSocket(error) => protocol(&error.to_string()),
        ReadError::Unmasked => protocol("a client's frame without a mask"),
    }
}

fn too_large<H: Handler>(handler: &mut H) -> (Ended, Option<Frame>) {
    handler.too_large();
    (Ended::TooLarge, Some(Frame::close(CLOSE_TOO_LARGE, "message too large")))
}

/// Does what a frame asks for; how the connection ends, if it does by it.
fn take<H: Handler>(
    frame: &fastwebsockets::Frame<'_>,
    partial: &mut Option<Partial>,
    outbox: &Outbox,
    handler: &mut H,
    bound: usize,
) -> Option<(Ended, Option<Frame>)> {
    if !(frame.fin && matches!(frame.opcode, OpCode::Text | OpCode::Binary)) {
        handler.alive();
    }
    match frame.opcode {
        OpCode::Ping => {
            if outbox.push(Frame::pong(&frame.payload)).is_err() {
                outbox.abort();
                return Some((Ended::Here, None));
            }
        }
        OpCode::Pong if frame.payload.len() > CONTROL_BYTES => return Some(protocol("pong too long")),
        OpCode::Pong => {}
        OpCode::Close => return Some(answer_to_close(&frame.payload)),
        OpCode::Text | OpCode::Binary if partial.is_some() => {
            return Some(protocol("message inside a message"));
        }
        OpCode::Text | OpCode::Binary if frame.fin => {
            handler.message(&frame.payload, frame.opcode == OpCode::Text);
        }
        OpCode::Continuation if partial.is_none() => return Some(protocol("continuation of nothing")),
        OpCode::Text | OpCode::Binary | OpCode::Continuation => {
            let part = partial.get_or_insert_with(|| Partial::new(frame.opcode == OpCode::Text));
            match part.add(&frame.payload, frame.fin, bound) {
                Ok(()) => {}
                Err(CLOSE_TOO_LARGE) => return Some(too_large(handler)),
                Err(code) => return Some((Ended::Protocol, Some(Frame::close(code, "not UTF-8")))),
            }
            if frame.fin {
                handler.message(&part.bytes, part.text);
                *partial = None;
            }
        }
    }
    None
}

/// A message in fragments (RFC 6455 5.4), checked as it grows.
struct Partial {
    bytes: Vec<u8>,
    text: bool,
    /// How much of it is known to be UTF-8.
    checked: usize,
}

impl Partial {
    fn new(text: bool) -> Self {
        Self { bytes: Vec::new(), text, checked: 0 }
    }

    /// Appends; the error is a close code.
    fn add(&mut self, part: &[u8], last: bool, bound: usize) -> Result<(), u16> {
        if self.bytes.len() + part.len() > bound {
            return Err(CLOSE_TOO_LARGE);
        }
        self.bytes.extend_from_slice(part);
        if self.text {
            match std::str::from_utf8(&self.bytes[self.checked..]) {
                Ok(_) => self.checked = self.bytes.len(),
                Err(error) if last || error.error_len().is_some() => return Err(CLOSE_NOT_UTF8),
                Err(error) => self.checked += error.valid_up_to(),
            }
        }
        Ok(())
    }
}

/// RFC 6455 5.5.1 and 7.4: what answers the other end's close frame.
fn answer_to_close(payload: &[u8]) -> (Ended, Option<Frame>) {
    if payload.len() > CONTROL_BYTES {
        return protocol("close too long");
    }
    let (code, reason) = match payload {
        [] => return (Ended::Closed, Some(Frame::close_empty())),
        [_] => return protocol("close with half a code"),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if std::str::from_utf8(reason).is_err() {
        return (Ended::Protocol, Some(Frame::close(CLOSE_NOT_UTF8, "not UTF-8")));
    }
    if !fastwebsockets::CloseCode::from(code).is_allowed() {
        return protocol("close code not allowed");
    }
    (Ended::Closed, Some(Frame::close(if code == 0 { CLOSE_NORMAL } else { code }, "")))
}

/// Places for frames that a connection keeps when all are written, in each of two lists: 32 bytes each.
const KEPT: usize = 16;

/// Writes until the outbox ends; false if it was cut, or the other end did not take the bytes.
async fn write_loop<W: AsyncWrite + Unpin>(
    write: &mut W,
    outbox: &Outbox,
    turns: &Turns,
    stall: Duration,
) -> bool {
    let mut frames = Vec::new();
    while outbox.take(&mut frames, turns).await {
        let written = tokio::select! {
            biased; // mostly it is done at once, and nobody need be told of the end of it
            written = write_batch(write, &frames, stall) => written,
            () = outbox.aborted() => return false,
        };
        if written.is_err() {
            return false;
        }
        frames.clear();
        if frames.capacity() > KEPT {
            frames = Vec::new();
        }
    }
    !outbox.is_aborted() && write.shutdown().await.is_ok()
}

/// Writes all frames with as few system calls as the kernel allows.
async fn write_batch<W: AsyncWrite + Unpin>(
    write: &mut W,
    frames: &[Frame],
    stall: Duration,
) -> io::Result<()> {
    let mut left = Left { frames, gone: 0 };
    while !left.frames.is_empty() {
        let written = in_time(poll_fn(|cx| left.poll_write(write, cx)), stall).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left.advance(written);
    }
    Ok(())
}

/// What is to be written, without so many bytes of the first frame. The list that the kernel is given is made anew at each
/// write: kept here it would be most of what an idle connection needs.
struct Left<'a> {
    frames: &'a [Frame],
    gone: usize,
}

impl Left<'_> {
    fn poll_write<W: AsyncWrite + Unpin>(
        &self,
        write: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        const SLICES: usize = 64;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(self.frames) {
            *slice = IoSlice::new(frame.wire());
            count += 1;
        }
        slices[0].advance(self.gone);
        Pin::new(write).poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, written: usize) {
        self.gone += written;
        while let Some((first, rest)) = self.frames.split_first()
            && self.gone >= first.len()
        {
            self.gone -= first.len();
            self.frames = rest;
        }
    }
}

/// A write, within so long. A clock is looked at only where the other end does not take the bytes at once.
async fn in_time(write: impl Future<Output = io::Result<usize>>, stall: Duration) -> io::Result<usize> {
    let mut write = pin!(write);
    match poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
        Poll::Ready(written) => written,
        Poll::Pending => Box::pin(timeout(stall, write)).await?,
    }
}

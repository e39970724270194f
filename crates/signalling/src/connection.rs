//! One WebSocket connection: a read loop and a write loop in ONE task (the connection's own), joined by its [`Outbox`].
//!
//! Knows frames, not messages: what a message means is the [`Handler`]'s. Frames are handled in the order in which they
//! come, a ping's pong included. Bounds: one message (also one in fragments), the outbox, a write that makes no progress,
//! and the time that a closing connection may linger.

use std::{io::IoSlice, time::Duration};

use fastwebsockets::{OpCode, Role, WebSocketError, WebSocketRead};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    frame::{CLOSE_NORMAL, CLOSE_NOT_UTF8, CLOSE_PROTOCOL, CLOSE_TOO_LARGE, CONTROL_BYTES, Frame},
    outbox::{Outbox, Taken},
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
    mut read: R,
    mut write: W,
    outbox: &Outbox,
    handler: H,
    limits: ConnectionLimits,
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    H: Handler,
{
    let (ended, clean) = {
        let (mut frames, _) =
            fastwebsockets::after_handshake_split(&mut read, tokio::io::sink(), Role::Server);
        frames.set_auto_close(false);
        frames.set_auto_pong(false);
        frames.set_max_message_size(limits.message + 1); // what is as long as this is refused, too
        let reading = async {
            let mut handler = handler;
            let (ended, last) = read_loop(&mut frames, outbox, &mut handler, limits.message).await;
            drop(handler);
            outbox.finish(last);
            ended
        };
        let writing = write_loop(&mut write, outbox, limits.write_stall);
        tokio::pin!(writing);
        tokio::select! {
            // What is queued still goes out, the close frame last.
            ended = reading => (ended, timeout(limits.linger, writing).await.unwrap_or(false)),
            clean = &mut writing => (Ended::Here, clean),
        }
    };
    // Dropping a socket that has unread bytes resets the connection, and the last frames with it: read them away, until
    // the other end has closed too.
    if clean && ended != Ended::Closed {
        let _ = timeout(limits.linger, tokio::io::copy(&mut read, &mut tokio::io::sink())).await;
    }
    ended
}

/// Reads until the connection ends; returns why, and the close frame to answer with.
async fn read_loop<R, H>(
    read: &mut WebSocketRead<R>,
    outbox: &Outbox,
    handler: &mut H,
    bound: usize,
) -> (Ended, Option<Frame>)
where
    R: AsyncRead + Unpin,
    H: Handler,
{
    let mut partial: Option<Partial> = None;
    let protocol = |why: &str| (Ended::Protocol, Some(Frame::close(CLOSE_PROTOCOL, why)));
    loop {
        let frame = match read.read_frame(&mut |_| std::future::ready(Ok::<_, WebSocketError>(()))).await {
            Ok(frame) => frame,
            Err(WebSocketError::FrameTooLarge) => {
                handler.too_large();
                return (Ended::TooLarge, Some(Frame::close(CLOSE_TOO_LARGE, "message too large")));
            }
            Err(WebSocketError::InvalidUTF8) => {
                return (Ended::Protocol, Some(Frame::close(CLOSE_NOT_UTF8, "not UTF-8")));
            }
            Err(WebSocketError::IoError(_) | WebSocketError::UnexpectedEOF) => return (Ended::Closed, None),
            Err(error) => return protocol(&error.to_string()),
        };
        if !(frame.fin && matches!(frame.opcode, OpCode::Text | OpCode::Binary)) {
            handler.alive();
        }
        match frame.opcode {
            OpCode::Ping => {
                if outbox.push(Frame::pong(&frame.payload)).is_err() {
                    outbox.abort();
                    return (Ended::Here, None);
                }
            }
            OpCode::Pong if frame.payload.len() > CONTROL_BYTES => return protocol("pong too long"),
            OpCode::Pong => {}
            OpCode::Close => return answer_to_close(&frame.payload),
            OpCode::Text | OpCode::Binary if partial.is_some() => {
                return protocol("message inside a message");
            }
            OpCode::Text | OpCode::Binary if frame.fin => {
                handler.message(&frame.payload, frame.opcode == OpCode::Text);
            }
            OpCode::Continuation if partial.is_none() => return protocol("continuation of nothing"),
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                let part = partial.get_or_insert_with(|| Partial::new(frame.opcode == OpCode::Text));
                match part.add(&frame.payload, frame.fin, bound) {
                    Ok(()) => {}
                    Err(CLOSE_TOO_LARGE) => {
                        handler.too_large();
                        return (Ended::TooLarge, Some(Frame::close(CLOSE_TOO_LARGE, "message too large")));
                    }
                    Err(code) => return (Ended::Protocol, Some(Frame::close(code, "not UTF-8"))),
                }
                if frame.fin {
                    handler.message(&part.bytes, part.text);
                    partial = None;
                }
            }
        }
        if outbox.is_ending() {
            return (Ended::Here, None);
        }
        // A burst in one read must not keep this thread, nor fill the own outbox faster than it is written.
        tokio::task::consume_budget().await;
        outbox.half_empty().await;
    }
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
    let protocol = |why: &str| (Ended::Protocol, Some(Frame::close(CLOSE_PROTOCOL, why)));
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

/// Writes until the outbox ends; false if it was cut, or the other end did not take the bytes.
async fn write_loop<W: AsyncWrite + Unpin>(write: &mut W, outbox: &Outbox, stall: Duration) -> bool {
    loop {
        let frames = match outbox.take().await {
            Taken::Frames(frames) => frames,
            Taken::End => break,
        };
        let written = tokio::select! {
            biased;
            () = outbox.aborted() => return false,
            written = write_batch(write, &frames, stall) => written,
        };
        if written.is_err() {
            return false;
        }
    }
    !outbox.is_aborted() && write.shutdown().await.is_ok()
}

/// Writes all frames with as few system calls as the kernel allows.
async fn write_batch<W: AsyncWrite + Unpin>(
    write: &mut W,
    frames: &[Frame],
    stall: Duration,
) -> std::io::Result<()> {
    const SLICES: usize = 64;
    let (mut first, mut offset) = (0, 0);
    while first < frames.len() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let batch = &frames[first..frames.len().min(first + SLICES)];
        for (slice, frame) in slices.iter_mut().zip(batch) {
            *slice = IoSlice::new(frame.wire());
        }
        slices[0] = IoSlice::new(&batch[0].wire()[offset..]);
        let mut written = timeout(stall, write.write_vectored(&slices[..batch.len()])).await??;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let left = frames[first].len() - offset;
            if written < left {
                offset += written;
                break;
            }
            written -= left;
            (first, offset) = (first + 1, 0);
        }
    }
    Ok(())
}

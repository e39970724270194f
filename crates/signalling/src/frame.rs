//! WebSocket frames as they go over the wire (RFC 6455 5.2), encoded once and shared by everyone who gets them.
//!
//! A server's frames carry no mask, so the same bytes fit every connection: a path of 100 hops is serialised once and
//! queued 100 times as a counted reference.

use std::cell::RefCell;

use bytes::Bytes;
use fastwebsockets::{Frame as Raw, OpCode, Payload};
use serde::Serialize;

/// A normal end.
pub const CLOSE_NORMAL: u16 = 1000;
/// The server is going away.
pub const CLOSE_AWAY: u16 = 1001;
/// The client broke the protocol.
pub const CLOSE_PROTOCOL: u16 = 1002;
/// A text that is not UTF-8.
pub const CLOSE_NOT_UTF8: u16 = 1007;
/// A message beyond the bound.
pub const CLOSE_TOO_LARGE: u16 = 1009;
/// The client does not read, or has been silent for too long.
pub const CLOSE_POLICY: u16 = 1008;

/// Longest payload of a control frame (RFC 6455 5.5).
pub const CONTROL_BYTES: usize = 125;

/// What a thread keeps for the text of its next message, in bytes.
const KEPT_TEXT: usize = 64 << 10;

/// One frame in wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    fn encode(opcode: OpCode, payload: &[u8]) -> Self {
        let mut head = [0; 16];
        let len = Raw::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
        // Of the very size, which is what needs no second allocation to be counted.
        Self([&head[..len], payload].concat().into())
    }

    /// A text frame with any payload.
    pub fn text(payload: &[u8]) -> Self {
        Self::encode(OpCode::Text, payload)
    }

    /// A binary frame.
    pub fn binary(payload: &[u8]) -> Self {
        Self::encode(OpCode::Binary, payload)
    }

    /// A text frame with a message as JSON.
    pub fn json(message: &impl Serialize) -> Self {
        thread_local! {
            static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.shrink_to(KEPT_TEXT);
            serde_json::to_writer(&mut *text, message)
                .expect("messages are structs of strings and numbers, which JSON can always say");
            Self::text(text)
        })
    }

    /// A ping without payload.
    pub fn ping() -> Self {
        Self::encode(OpCode::Ping, b"")
    }

    /// The answer to a ping: its payload comes back.
    pub fn pong(payload: &[u8]) -> Self {
        Self::encode(OpCode::Pong, payload)
    }

    /// A close frame; the reason is cut to what a control frame takes.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        let end = reason.floor_char_boundary(CONTROL_BYTES - payload.len());
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        Self::encode(OpCode::Close, &payload)
    }

    /// A close frame without code, the answer to such a one.
    pub fn close_empty() -> Self {
        Self::encode(OpCode::Close, b"")
    }

    /// The bytes on the wire.
    pub fn wire(&self) -> &Bytes {
        &self.0
    }

    /// Length on the wire, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no frame is empty: it has a head")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The payload, of whatever kind the frame is.
    pub fn payload(&self) -> &[u8] {
        let head = match self.0[1] {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        &self.0[head..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_lengths_of_rfc_6455_5_2() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::text(&vec![b'x'; len]);
            assert_eq!(frame.len(), head + len);
            assert_eq!(frame.payload().len(), len);
            assert_eq!(frame.wire()[0], 0x81);
        }
        assert_eq!(&Frame::close(4409, "replaced").wire()[..4], &[0x88, 10, 0x11, 0x39]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = Frame::close(1008, &"ü".repeat(100));
        assert!(frame.payload().len() <= CONTROL_BYTES);
        assert!(std::str::from_utf8(&frame.payload()[2..]).is_ok());
    }
}

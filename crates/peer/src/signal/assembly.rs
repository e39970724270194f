//! Messages out of frames (RFC 6455 5.4): a message in fragments is put together up to a bound. Pure; the socket owns it.

use fastwebsockets::OpCode;

/// Why a frame ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// More bytes than the bound.
    TooLong,
    /// A fragment that continues nothing, or a message inside another.
    OutOfOrder,
}

/// The message that is on its way.
#[derive(Debug)]
pub(super) struct Assembly {
    bound: usize,
    partial: Option<(OpCode, Vec<u8>)>,
}

impl Assembly {
    /// `bound`: longest message, in bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, partial: None }
    }

    /// Takes a frame that is no control frame; returns the message that it completes, with its kind.
    pub(super) fn add(
        &mut self,
        opcode: OpCode,
        last: bool,
        payload: &[u8],
    ) -> Result<Option<(OpCode, Vec<u8>)>, Broken> {
        let (kind, mut bytes) = match (opcode, self.partial.take()) {
            (OpCode::Continuation, Some(partial)) => partial,
            (OpCode::Continuation, None) | (_, Some(_)) => return Err(Broken::OutOfOrder),
            (kind, None) => (kind, Vec::new()),
        };
        if bytes.len() + payload.len() > self.bound {
            return Err(Broken::TooLong);
        }
        bytes.extend_from_slice(payload);
        if last {
            return Ok(Some((kind, bytes)));
        }
        self.partial = Some((kind, bytes));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_a_message_and_never_grow_past_the_bound() {
        let mut assembly = Assembly::new(6);
        assert_eq!(assembly.add(OpCode::Text, true, b"whole"), Ok(Some((OpCode::Text, b"whole".to_vec()))));
        assert_eq!(assembly.add(OpCode::Text, false, b"ab"), Ok(None));
        assert_eq!(assembly.add(OpCode::Continuation, false, b"cd"), Ok(None));
        let message = assembly.add(OpCode::Continuation, true, b"ef").unwrap();
        assert_eq!(message, Some((OpCode::Text, b"abcdef".to_vec())));
        assert_eq!(assembly.add(OpCode::Text, false, b"abcdef"), Ok(None));
        assert_eq!(assembly.add(OpCode::Continuation, false, b"g"), Err(Broken::TooLong));
    }

    #[test]
    fn the_order_of_fragments_counts() {
        let mut assembly = Assembly::new(6);
        assert_eq!(assembly.add(OpCode::Continuation, true, b""), Err(Broken::OutOfOrder));
        assert_eq!(assembly.add(OpCode::Text, false, b"a"), Ok(None));
        assert_eq!(assembly.add(OpCode::Text, true, b"b"), Err(Broken::OutOfOrder));
    }
}

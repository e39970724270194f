//! What waits to be written to one connection: a queue with a bound, never waited for.
//!
//! Anyone may [`push`](Outbox::push); it takes a short lock and returns at once. A full queue is the pusher's sign to
//! drop that connection ([`abort`](Outbox::abort)). What serves the connection is the only one that takes out, everything at
//! once, so that many frames go into one write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::frame::Frame;

/// The bounds of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Most frames.
    pub frames: usize,
    /// Most bytes; a single longer frame is taken by an empty queue.
    pub bytes: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { frames: 4096, bytes: 1 << 20 }
    }
}

/// The queue is full: its reader is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// What [`Outbox::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// These, in this order.
    Frames(Vec<Frame>),
    /// Nothing more will come.
    End,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    finished: bool,
    aborted: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    state: Mutex<State>,
    ready: Notify,
    room: Notify,
    cut: Notify,
}

impl Outbox {
    /// An empty queue.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
            cut: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame. After [`finish`](Self::finish) or [`abort`](Self::abort) it is dropped silently.
    pub fn push(&self, frame: Frame) -> Result<(), Overflow> {
        let mut state = self.state();
        if state.finished || state.aborted {
            return Ok(());
        }
        let bytes = state.bytes + frame.len();
        if state.frames.len() >= self.limits.frames || (bytes > self.limits.bytes && !state.frames.is_empty())
        {
            return Err(Overflow);
        }
        state.bytes = bytes;
        state.frames.push(frame);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues a last frame, a close, beyond the bound if need be; nothing is taken after it.
    pub fn finish(&self, last: Option<Frame>) {
        let mut state = self.state();
        if state.finished || state.aborted {
            return;
        }
        state.finished = true;
        state.frames.extend(last);
        drop(state);
        self.ready.notify_one();
        self.room.notify_one();
    }

    /// Throws away what is queued and ends the connection, in the middle of a write too.
    pub fn abort(&self) {
        let mut state = self.state();
        state.aborted = true;
        state.frames = Vec::new();
        state.bytes = 0;
        drop(state);
        self.ready.notify_one();
        self.room.notify_one();
        self.cut.notify_one();
    }

    /// Whether it was finished or aborted.
    pub fn is_ending(&self) -> bool {
        let state = self.state();
        state.finished || state.aborted
    }

    /// Whether it was aborted.
    pub fn is_aborted(&self) -> bool {
        self.state().aborted
    }

    /// Everything queued, as soon as there is something. For what serves the connection alone.
    pub async fn take(&self) -> Taken {
        loop {
            {
                let mut state = self.state();
                if !state.frames.is_empty() {
                    state.bytes = 0;
                    let frames = std::mem::take(&mut state.frames);
                    drop(state);
                    self.room.notify_one();
                    return Taken::Frames(frames);
                }
                if state.finished || state.aborted {
                    return Taken::End;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Waits until at most half of the queue is in use: who sends without reading the answers is not read further.
    pub async fn half_empty(&self) {
        loop {
            {
                let state = self.state();
                let busy = state.frames.len() > self.limits.frames / 2 || state.bytes > self.limits.bytes / 2;
                if !busy || state.finished || state.aborted {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// Waits for [`abort`](Self::abort).
    pub async fn aborted(&self) {
        loop {
            if self.state().aborted {
                return;
            }
            self.cut.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Outbox {
        Outbox::new(OutboxLimits { frames: 2, bytes: 20 })
    }

    #[tokio::test]
    async fn full_is_told_and_nothing_is_waited_for() {
        let outbox = small();
        assert_eq!(outbox.push(Frame::text(b"one")), Ok(()));
        assert_eq!(outbox.push(Frame::text(b"two")), Ok(()));
        assert_eq!(outbox.push(Frame::text(b"three")), Err(Overflow));
        assert_eq!(outbox.take().await, Taken::Frames(vec![Frame::text(b"one"), Frame::text(b"two")]));
        assert_eq!(outbox.push(Frame::text(&[b'x'; 100])), Ok(()), "an empty queue takes any frame");
        assert_eq!(outbox.push(Frame::text(b"x")), Err(Overflow));
    }

    #[tokio::test]
    async fn finish_lets_go_out_what_is_queued_and_abort_does_not() {
        let outbox = small();
        outbox.push(Frame::text(b"one")).unwrap();
        outbox.finish(Some(Frame::close_empty()));
        outbox.push(Frame::text(b"late")).unwrap();
        assert_eq!(outbox.take().await, Taken::Frames(vec![Frame::text(b"one"), Frame::close_empty()]));
        assert_eq!(outbox.take().await, Taken::End);

        let outbox = small();
        outbox.push(Frame::text(b"one")).unwrap();
        outbox.abort();
        outbox.aborted().await;
        assert_eq!(outbox.take().await, Taken::End);
    }
}

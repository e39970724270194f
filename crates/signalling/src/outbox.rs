//! What waits to be written to one connection: a queue with a bound, never waited for.
//!
//! Anyone may [`push`](Outbox::push); it takes a short lock and returns at once. A full queue is the pusher's sign to
//! drop that connection ([`abort`](Outbox::abort)). What serves the connection is the only one that takes out, everything at
//! once, so that many frames go into one write. All waiting is that one task's: it is woken by the first frame of many.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{frame::Frame, group::Turns};

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

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    finished: bool,
    aborted: bool,
    /// What serves the connection waits for something to write.
    writer: Option<Waker>,
    /// It waits for something else.
    waiting: Option<Waker>,
}

impl State {
    fn ending(&self) -> bool {
        self.finished || self.aborted
    }
}

/// Lets go of the lock and has another look taken by who waits.
fn wake(mut state: MutexGuard<'_, State>) {
    let (writer, waiting) = (state.writer.take(), state.waiting.take());
    drop(state);
    for waker in [writer, waiting].into_iter().flatten() {
        waker.wake();
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    state: Mutex<State>,
}

impl Outbox {
    /// An empty queue.
    pub fn new(limits: OutboxLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more than half of it is in use.
    fn is_busy(&self, state: &State) -> bool {
        state.frames.len() > self.limits.frames / 2 || state.bytes > self.limits.bytes / 2
    }

    /// Queues a frame. After [`finish`](Self::finish) or [`abort`](Self::abort) it is dropped silently.
    pub fn push(&self, frame: Frame) -> Result<(), Overflow> {
        let mut state = self.state();
        if state.ending() {
            return Ok(());
        }
        let bytes = state.bytes + frame.len();
        if state.frames.len() >= self.limits.frames || (bytes > self.limits.bytes && !state.frames.is_empty())
        {
            return Err(Overflow);
        }
        let first = state.frames.is_empty();
        state.bytes = bytes;
        state.frames.push(frame);
        if first && let Some(writer) = state.writer.take() {
            drop(state);
            writer.wake();
        }
        Ok(())
    }

    /// Queues a last frame, a close, beyond the bound if need be; nothing is taken after it.
    pub fn finish(&self, last: Option<Frame>) {
        let mut state = self.state();
        if state.ending() {
            return;
        }
        state.finished = true;
        state.frames.extend(last);
        wake(state);
    }

    /// Throws away what is queued and ends the connection, in the middle of a write too.
    pub fn abort(&self) {
        let mut state = self.state();
        state.aborted = true;
        state.frames = Vec::new();
        state.bytes = 0;
        wake(state);
    }

    /// Whether it was finished or aborted.
    pub fn is_ending(&self) -> bool {
        self.state().ending()
    }

    /// Whether it was aborted.
    pub fn is_aborted(&self) -> bool {
        self.state().aborted
    }

    /// Everything queued, as soon as there is something and it is the time to write, into an empty list, whose memory is used
    /// for what comes next. False at the end: nothing more will come.
    pub async fn take(&self, into: &mut Vec<Frame>, turns: &Turns) -> bool {
        debug_assert!(into.is_empty(), "what was taken before is lost");
        poll_fn(|cx| {
            let mut state = self.state();
            if state.frames.is_empty() {
                if state.ending() {
                    return Poll::Ready(false);
                }
                if state.writer.is_none() {
                    state.writer = Some(turns.writer(cx));
                }
                return Poll::Pending;
            }
            if !turns.may_write() {
                return Poll::Pending;
            }
            let busy = self.is_busy(&state);
            state.bytes = 0;
            std::mem::swap(&mut state.frames, into);
            if busy {
                wake(state); // half_empty
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Waits until at most half of the queue is in use: who sends without reading the answers is not read further.
    pub async fn half_empty(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.ending() || !self.is_busy(&state) { Poll::Ready(()) } else { wait(&mut state, cx) }
        })
        .await;
    }

    /// Waits for [`abort`](Self::abort).
    pub async fn aborted(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.aborted { Poll::Ready(()) } else { wait(&mut state, cx) }
        })
        .await;
    }
}

fn wait<T>(state: &mut State, cx: &Context<'_>) -> Poll<T> {
    if !state.waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        state.waiting = Some(cx.waker().clone());
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Outbox {
        Outbox::new(OutboxLimits { frames: 2, bytes: 20 })
    }

    async fn taken(outbox: &Outbox) -> Option<Vec<Frame>> {
        let mut frames = Vec::new();
        outbox.take(&mut frames, &Turns::default()).await.then_some(frames)
    }

    #[tokio::test]
    async fn full_is_told_and_nothing_is_waited_for() {
        let outbox = small();
        assert_eq!(outbox.push(Frame::text(b"one")), Ok(()));
        assert_eq!(outbox.push(Frame::text(b"two")), Ok(()));
        assert_eq!(outbox.push(Frame::text(b"three")), Err(Overflow));
        assert_eq!(taken(&outbox).await, Some(vec![Frame::text(b"one"), Frame::text(b"two")]));
        assert_eq!(outbox.push(Frame::text(&[b'x'; 100])), Ok(()), "an empty queue takes any frame");
        assert_eq!(outbox.push(Frame::text(b"x")), Err(Overflow));
    }

    #[tokio::test]
    async fn finish_lets_go_out_what_is_queued_and_abort_does_not() {
        let outbox = small();
        outbox.push(Frame::text(b"one")).unwrap();
        outbox.finish(Some(Frame::close_empty()));
        outbox.push(Frame::text(b"late")).unwrap();
        assert_eq!(taken(&outbox).await, Some(vec![Frame::text(b"one"), Frame::close_empty()]));
        assert_eq!(taken(&outbox).await, None);

        let outbox = small();
        outbox.push(Frame::text(b"one")).unwrap();
        outbox.abort();
        outbox.aborted().await;
        assert_eq!(taken(&outbox).await, None);
    }

    #[tokio::test]
    async fn who_waits_for_room_goes_on_when_everything_was_taken() {
        let outbox = small();
        outbox.push(Frame::text(b"one")).unwrap();
        outbox.push(Frame::text(b"two")).unwrap();
        // In this order within one task: first it is found busy, then it is emptied, and then nothing more comes.
        let reading = async {
            outbox.half_empty().await;
            outbox.finish(None);
        };
        let writing = async {
            assert_eq!(taken(&outbox).await.map(|frames| frames.len()), Some(2));
            taken(&outbox).await
        };
        assert_eq!(tokio::join!(biased; reading, writing).1, None);
    }
}

//! Futures of one kind as ONE task that takes turns with the others.
//!
//! ```text
//!   room of 10,000:  ● ● ● ● ● ●  ──▶ group ─┐
//!   room of 8:       ● ●          ──▶ group ─┼──▶ the runtime's queue: one entry for each group
//!   handshakes:      ● ● ●        ──▶ group ─┘
//! ```
//!
//! A runtime's queue is first come, first served: if every connection were a task of its own, two thousand that leave one
//! room at once would stand in it before the one request of another room. A group stands in it once, works on a bounded
//! number of its members, and goes to the end of it. So rooms share the processors as equals, whatever their sizes, and
//! what one member does to others of its group wakes no other thread.
//!
//! A member that panics ends by itself.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

/// What a group is made of.
pub(crate) type Member = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module. It has a task only while it has members.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    gate: Arc<Mutex<Gate>>,
    turn: usize,
}

/// Where members come in. As many wait as join between two turns.
#[derive(Default)]
struct Gate {
    waiting: Vec<Member>,
    task: TaskState,
}

#[derive(Debug, Default)]
enum TaskState {
    /// There is none.
    #[default]
    None,
    /// It will look at the gate without being woken.
    Awake,
    Asleep(Waker),
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting.len()).field("task", &self.task).finish()
    }
}

impl Group {
    /// An empty one that polls `turn` members before it lets others work.
    pub(crate) fn new(turn: usize) -> Self {
        Self { gate: Arc::default(), turn }
    }

    /// Takes a member in. To be called within a runtime.
    pub(crate) fn join(&self, member: impl Future<Output = ()> + Send + 'static) {
        let mut gate = lock(&self.gate);
        gate.waiting.push(Box::pin(member));
        match std::mem::replace(&mut gate.task, TaskState::Awake) {
            TaskState::None => drop(tokio::spawn(run(self.gate.clone(), self.turn))),
            TaskState::Awake => {}
            TaskState::Asleep(waker) => {
                drop(gate);
                waker.wake();
            }
        }
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls members until there are none.
async fn run(gate: Arc<Mutex<Gate>>, turn: usize) {
    let mut members = FuturesUnordered::new();
    let left = Arc::new(AtomicUsize::new(0));
    poll_fn(move |cx| {
        left.store(turn, Ordering::Relaxed);
        loop {
            for member in lock(&gate).waiting.drain(..) {
                members.push(AssertUnwindSafe(Bounded { member, left: left.clone() }).catch_unwind());
            }
            while let Poll::Ready(Some(_)) = members.poll_next_unpin(cx) {}
            let mut gate = lock(&gate);
            if gate.waiting.is_empty() {
                let ended = members.is_empty();
                gate.task = if ended { TaskState::None } else { TaskState::Asleep(cx.waker().clone()) };
                return if ended { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
}

/// A member that is polled only while the turn is not over.
struct Bounded {
    member: Member,
    left: Arc<AtomicUsize>,
}

impl Future for Bounded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            // Again in the next turn; two of these, and the whole group yields.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.member.poll_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A future that is polled `times` times, each time at once again.
    async fn busy(times: usize, told: mpsc::UnboundedSender<&'static str>, name: &'static str) {
        for _ in 0..times {
            told.send(name).unwrap();
            let mut again = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut again, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_large_group_and_a_small_one_take_turns() {
        let (told, mut order) = mpsc::unbounded_channel();
        let (large, small) = (Group::new(8), Group::new(8));
        for _ in 0..1000 {
            large.join(busy(2, told.clone(), "large"));
        }
        small.join(busy(2, told.clone(), "small"));
        drop(told);
        let mut all = Vec::new();
        while let Some(name) = order.recv().await {
            all.push(name);
        }
        assert_eq!(all.len(), 2002);
        let last = all.iter().rposition(|name| *name == "small").unwrap();
        assert!(last < 40, "the small group's two steps were done after {last} of the large one's 2,000");
    }

    #[tokio::test]
    async fn members_come_and_go_and_one_that_panics_ends_alone() {
        let group = Group::new(4);
        for _ in 0..3 {
            // The group's task ends between two rounds, and there is another.
            let (go, gone) = oneshot::channel::<()>();
            let (done, mut finished) = mpsc::unbounded_channel();
            let second = done.clone();
            group.join(async move {
                let _ = gone.await;
                done.send(1).unwrap();
            });
            group.join(async { panic!("one member's fault: this line is expected here") });
            group.join(async move { second.send(2).unwrap() });
            assert_eq!(finished.recv().await, Some(2));
            go.send(()).unwrap();
            assert_eq!(finished.recv().await, Some(1));
            while !matches!(lock(&group.gate).task, TaskState::None) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn who_joins_while_the_group_sleeps_is_polled() {
        let group = Group::new(4);
        let (_hold, held) = oneshot::channel::<()>();
        group.join(async move { drop(held.await) });
        while !matches!(lock(&group.gate).task, TaskState::Asleep(_)) {
            tokio::task::yield_now().await;
        }
        let (done, finished) = oneshot::channel();
        group.join(async move { done.send(()).unwrap() });
        finished.await.unwrap();
    }
}

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
//! By hand, since it is what each frame to each peer passes: with `FuturesUnordered`, which writes two neighbours' entries at each
//! visit, a path through 1,250 peers cost a fifth more, and with `futures-buffered` more still (docs/benchmarks).
//!
//! A member that panics takes its group with it: a release build ends as a whole then (`panic = "abort"`).

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// What a group is made of.
type Member = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module. It has a task only while it has members.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    queue: Arc<Queue>,
    turn: usize,
}

/// What is to be done, by members and others.
#[derive(Debug, Default)]
struct Queue(Mutex<ToDo>);

#[derive(Default)]
struct ToDo {
    /// The places of members that are to be polled, each once: first come, first served.
    woken: VecDeque<usize>,
    /// As many as join between two turns.
    joining: Vec<Member>,
    task: TaskState,
}

#[derive(Debug, Default)]
enum TaskState {
    /// There is none.
    #[default]
    None,
    /// It will look at what is to be done without being woken.
    Awake,
    Asleep(Waker),
}

impl std::fmt::Debug for ToDo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToDo")
            .field("woken", &self.woken.len())
            .field("joining", &self.joining.len())
            .field("task", &self.task)
            .finish()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, ToDo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// An empty one that polls `turn` members before it lets others work.
    pub(crate) fn new(turn: usize) -> Self {
        Self { queue: Arc::default(), turn }
    }

    /// Takes a member in. To be called within a runtime.
    pub(crate) fn join(&self, member: impl Future<Output = ()> + Send + 'static) {
        let mut to_do = self.queue.lock();
        to_do.joining.push(Box::pin(member));
        match std::mem::replace(&mut to_do.task, TaskState::Awake) {
            TaskState::None => {
                let mut members = Members::new(self.queue.clone());
                let turn = self.turn;
                drop(tokio::spawn(poll_fn(move |cx| members.take_a_turn(turn, cx))));
            }
            TaskState::Awake => {}
            TaskState::Asleep(waker) => {
                drop(to_do);
                waker.wake();
            }
        }
    }
}

/// How one member is woken: its place is noted, once until it is polled.
struct Bell {
    place: usize,
    rung: AtomicBool,
    queue: Arc<Queue>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut to_do = self.queue.lock();
        to_do.woken.push_back(self.place);
        if matches!(to_do.task, TaskState::Asleep(_))
            && let TaskState::Asleep(waker) = std::mem::replace(&mut to_do.task, TaskState::Awake)
        {
            drop(to_do);
            waker.wake();
        }
    }
}

/// A member, and how it is woken. The bell of a member that has ended stays rung: nobody hears of it again.
struct Place {
    member: Member,
    bell: Arc<Bell>,
    waker: Waker,
}

/// All members, polled by their group's task.
struct Members {
    queue: Arc<Queue>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Taken out of the queue.
    woken: VecDeque<usize>,
}

impl Members {
    fn new(queue: Arc<Queue>) -> Self {
        Self { queue, places: Vec::new(), free: Vec::new(), woken: VecDeque::new() }
    }

    /// Polls as many as a turn has; ends when there are no members.
    fn take_a_turn(&mut self, turn: usize, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..turn {
            let Some(place) = self.woken.pop_front() else {
                if !self.look(cx) {
                    return if self.is_empty() { Poll::Ready(()) } else { Poll::Pending };
                }
                continue;
            };
            self.poll(place);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Takes what is to be done out of the queue; false where that is nothing, which is noted.
    fn look(&mut self, cx: &Context<'_>) -> bool {
        let mut to_do = self.queue.lock();
        std::mem::swap(&mut self.woken, &mut to_do.woken);
        let joining = std::mem::take(&mut to_do.joining);
        if self.woken.is_empty() && joining.is_empty() {
            to_do.task =
                if self.is_empty() { TaskState::None } else { TaskState::Asleep(cx.waker().clone()) };
            return false;
        }
        drop(to_do);
        for member in joining {
            self.join(member);
        }
        true
    }

    /// Finds a place for a member; it is to be polled.
    fn join(&mut self, member: Member) {
        let place = self.free.pop().unwrap_or(self.places.len());
        let bell = Arc::new(Bell { place, rung: AtomicBool::new(true), queue: self.queue.clone() });
        let waker = Waker::from(bell.clone());
        let member = Some(Place { member, bell, waker });
        match self.places.get_mut(place) {
            Some(free) => *free = member,
            None => self.places.push(member),
        }
        self.woken.push_back(place);
    }

    fn poll(&mut self, place: usize) {
        let Some(Place { member, bell, waker }) = self.places.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        // Before it is polled: what happens from here on is to be looked at again. Acquires what was done before it was rung.
        bell.rung.swap(false, Ordering::AcqRel);
        let mut cx = Context::from_waker(waker);
        if member.as_mut().poll(&mut cx).is_ready() {
            bell.rung.store(true, Ordering::Release);
            self.places[place] = None;
            self.free.push(place);
        }
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
    async fn members_come_and_go() {
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
            group.join(async move { second.send(2).unwrap() });
            assert_eq!(finished.recv().await, Some(2));
            go.send(()).unwrap();
            assert_eq!(finished.recv().await, Some(1));
            while !matches!(group.queue.lock().task, TaskState::None) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn who_joins_while_the_group_sleeps_is_polled() {
        let group = Group::new(4);
        let (_hold, held) = oneshot::channel::<()>();
        group.join(async move { drop(held.await) });
        while !matches!(group.queue.lock().task, TaskState::Asleep(_)) {
            tokio::task::yield_now().await;
        }
        let (done, finished) = oneshot::channel();
        group.join(async move { done.send(()).unwrap() });
        finished.await.unwrap();
    }
}

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
//! A group reads or it writes. Members that were woken are polled first, and what they do may give hundreds of others something
//! to write; those are polled when nobody of the first kind is left. When very many have written in one go it rests for a few
//! milliseconds, in which it reads only: so under load one write takes the frames of several paths, and a write is what a path
//! costs (docs/benchmarks). A group with little to do writes at once.
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
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep};

/// When so many have written in one go, a group rests: meanwhile nothing is written.
const MANY: usize = 256;
/// It rests for as long as that took, but not longer than this.
const LONGEST_REST: Duration = Duration::from_millis(5);

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
    /// The same of those that have something to write.
    writers: VecDeque<usize>,
    /// As many as join between two turns.
    joining: Vec<Place>,
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
    /// The same, but what is to be written has to wait.
    Resting(Waker),
}

impl std::fmt::Debug for ToDo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToDo")
            .field("woken", &self.woken.len())
            .field("writers", &self.writers.len())
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

/// Lets go of the lock, and has what is to be done looked at.
fn wake(mut to_do: MutexGuard<'_, ToDo>) {
    match std::mem::take(&mut to_do.task) {
        TaskState::Asleep(waker) | TaskState::Resting(waker) => {
            to_do.task = TaskState::Awake;
            drop(to_do);
            waker.wake();
        }
        as_it_was => to_do.task = as_it_was,
    }
}

impl Group {
    /// An empty one that polls `turn` members before it lets others work.
    pub(crate) fn new(turn: usize) -> Self {
        Self { queue: Arc::default(), turn }
    }

    /// Takes a member in. To be called within a runtime.
    pub(crate) fn join(&self, member: impl Future<Output = ()> + Send + 'static) {
        self.join_with(|_| member);
    }

    /// Takes a member in that writes when its group does. To be called within a runtime.
    pub(crate) fn join_with<M>(&self, member: impl FnOnce(Turns) -> M)
    where
        M: Future<Output = ()> + Send + 'static,
    {
        let bell =
            || Bell { place: AtomicUsize::new(0), rung: AtomicBool::new(true), queue: self.queue.clone() };
        let writes = Arc::new(Writes { bell: bell(), now: AtomicBool::new(false) });
        let member = Box::pin(member(Turns(Some(writes.clone()))));
        let bell = Arc::new(bell());
        let waker = Waker::from(bell.clone());
        let mut to_do = self.queue.lock();
        to_do.joining.push(Place { member, bell, waker, writes });
        if matches!(to_do.task, TaskState::None) {
            to_do.task = TaskState::Awake;
            let mut members = Members::new(self.queue.clone());
            let turn = self.turn;
            drop(tokio::spawn(poll_fn(move |cx| members.take_a_turn(turn, cx))));
        } else {
            wake(to_do);
        }
    }
}

/// How one member is woken: its place is noted, once until it is polled.
#[derive(Debug)]
struct Bell {
    /// Not looked at before it has been polled for the first time.
    place: AtomicUsize,
    rung: AtomicBool,
    queue: Arc<Queue>,
}

impl Bell {
    fn ring(&self, to_write: bool) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let place = self.place.load(Ordering::Relaxed);
        let mut to_do = self.queue.lock();
        if !to_write {
            to_do.woken.push_back(place);
            return wake(to_do);
        }
        to_do.writers.push_back(place);
        if !matches!(to_do.task, TaskState::Resting(_)) {
            wake(to_do);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring(false);
    }
}

/// How one member is told that there is something to write.
#[derive(Debug)]
struct Writes {
    bell: Bell,
    /// It is being polled for that.
    now: AtomicBool,
}

impl Wake for Writes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(true);
    }
}

/// When a member may read and when it may write: not at the same time in a group, at any time without one.
#[derive(Debug, Clone, Default)]
pub struct Turns(Option<Arc<Writes>>);

impl Turns {
    /// Whether the group reads.
    pub(crate) fn may_read(&self) -> bool {
        self.0.as_ref().is_none_or(|writes| !writes.now.load(Ordering::Relaxed))
    }

    /// Whether the group writes; if not, the member is polled again when it does.
    pub(crate) fn may_write(&self) -> bool {
        self.0.as_ref().is_none_or(|writes| {
            let now = writes.now.load(Ordering::Relaxed);
            if !now {
                writes.wake_by_ref();
            }
            now
        })
    }

    /// What has the member polled when it may write.
    pub(crate) fn writer(&self, cx: &Context<'_>) -> Waker {
        self.0.clone().map_or_else(|| cx.waker().clone(), Waker::from)
    }
}

/// A member, and how it is woken. The bells of a member that has ended stay rung: nobody hears of it again.
struct Place {
    member: Member,
    bell: Arc<Bell>,
    waker: Waker,
    writes: Arc<Writes>,
}

/// All members, polled by their group's task.
struct Members {
    queue: Arc<Queue>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Taken out of the queue: to be polled because they were woken.
    woken: VecDeque<usize>,
    /// To be polled to write.
    writers: VecDeque<usize>,
    /// How many of those that were taken out at once have written, and what that took.
    wrote: usize,
    spent: Duration,
    /// Until then nothing is written.
    rest: Option<Pin<Box<Sleep>>>,
}

impl Members {
    fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            places: Vec::new(),
            free: Vec::new(),
            woken: VecDeque::new(),
            writers: VecDeque::new(),
            wrote: 0,
            spent: Duration::ZERO,
            rest: None,
        }
    }

    /// Polls as many as a turn has; ends when there are no members.
    fn take_a_turn(&mut self, turn: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut left = turn;
        while left > 0 {
            if let Some(place) = self.woken.pop_front() {
                self.poll(place, false);
                left -= 1;
            } else if !self.writers.is_empty() {
                self.write(&mut left);
            } else if !self.look(cx) {
                return if self.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has so many write at the most; when all have, the group rests.
    fn write(&mut self, left: &mut usize) {
        let begin = Instant::now();
        while *left > 0
            && let Some(place) = self.writers.pop_front()
        {
            self.poll(place, true);
            self.wrote += 1;
            *left -= 1;
        }
        self.spent += begin.elapsed();
        if self.writers.is_empty() {
            if self.wrote >= MANY {
                self.rest = Some(Box::pin(sleep(self.spent.min(LONGEST_REST))));
            }
            (self.wrote, self.spent) = (0, Duration::ZERO);
        }
    }

    /// Whether nothing is to be written yet.
    fn rests(&mut self, cx: &mut Context<'_>) -> bool {
        let rests = self.rest.as_mut().is_some_and(|rest| rest.as_mut().poll(cx).is_pending());
        if !rests {
            self.rest = None;
        }
        rests
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Takes what comes next out of the queue; false where that is nothing, which is noted.
    fn look(&mut self, cx: &mut Context<'_>) -> bool {
        let rests = self.rests(cx);
        let queue = self.queue.clone();
        let mut to_do = queue.lock();
        std::mem::swap(&mut self.woken, &mut to_do.woken);
        if !rests {
            std::mem::swap(&mut self.writers, &mut to_do.writers);
        }
        let joining = std::mem::take(&mut to_do.joining);
        if self.woken.is_empty() && joining.is_empty() && self.writers.is_empty() {
            to_do.task = match rests {
                _ if self.is_empty() => TaskState::None,
                true => TaskState::Resting(cx.waker().clone()),
                false => TaskState::Asleep(cx.waker().clone()),
            };
            return false;
        }
        drop(to_do);
        for member in joining {
            self.join(member);
        }
        true
    }

    /// Finds a place for a member; it is to be polled.
    fn join(&mut self, member: Place) {
        let place = self.free.pop().unwrap_or(self.places.len());
        member.bell.place.store(place, Ordering::Relaxed);
        member.writes.bell.place.store(place, Ordering::Relaxed);
        member.writes.bell.rung.store(false, Ordering::Release);
        match self.places.get_mut(place) {
            Some(free) => *free = Some(member),
            None => self.places.push(Some(member)),
        }
        self.woken.push_back(place);
    }

    fn poll(&mut self, place: usize, to_write: bool) {
        let Some(Place { member, bell, waker, writes }) = self.places.get_mut(place).and_then(Option::as_mut)
        else {
            return;
        };
        // Before it is polled: what happens from here on is to be looked at again. Acquires what was done before it was rung.
        let rung = if to_write { &writes.bell.rung } else { &bell.rung };
        rung.swap(false, Ordering::AcqRel);
        writes.now.store(to_write, Ordering::Relaxed);
        let mut cx = Context::from_waker(waker);
        if member.as_mut().poll(&mut cx).is_ready() {
            bell.rung.store(true, Ordering::Release);
            writes.bell.rung.store(true, Ordering::Release);
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

    /// A member that reads once when it is told to, and then writes.
    async fn told(go: oneshot::Receiver<()>, turns: Turns, log: Arc<Mutex<Vec<&'static str>>>) {
        let _ = go.await;
        assert!(turns.may_read());
        log.lock().unwrap().push("read");
        poll_fn(|_| if turns.may_write() { Poll::Ready(()) } else { Poll::Pending }).await;
        assert!(!turns.may_read());
        log.lock().unwrap().push("written");
        std::thread::sleep(Duration::from_micros(10)); // what writing takes
    }

    async fn until(is: impl Fn() -> bool) {
        while !is() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_read_before_any_writes_and_after_many_there_is_a_rest() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let group = Group::new(32);
        let mut tell = Vec::new();
        for _ in 0..=MANY {
            let (send, receive) = oneshot::channel();
            group.join_with(|turns| told(receive, turns, log.clone()));
            tell.push(send);
        }
        let last = tell.pop().unwrap();
        for tell in tell {
            tell.send(()).unwrap();
        }
        until(|| log.lock().unwrap().len() == 2 * MANY).await;
        assert_eq!(log.lock().unwrap()[..MANY], ["read"; MANY]);
        assert_eq!(log.lock().unwrap()[MANY..], ["written"; MANY]);
        log.lock().unwrap().clear();
        // While the group rests it reads; the clock stands still until nothing is left to be done.
        last.send(()).unwrap();
        until(|| matches!(group.queue.lock().task, TaskState::Resting(_)) && log.lock().unwrap().len() == 1)
            .await;
        let begin = tokio::time::Instant::now();
        until_asleep(&group).await;
        assert_eq!(*log.lock().unwrap(), ["read", "written"]);
        assert!((Duration::from_millis(1)..=LONGEST_REST * 2).contains(&begin.elapsed()));
    }

    #[tokio::test]
    async fn a_group_whose_members_all_end_before_its_rest_takes_others_in() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let group = Group::new(32);
        for _ in 0..MANY {
            let (send, receive) = oneshot::channel();
            group.join_with(|turns| told(receive, turns, log.clone()));
            send.send(()).unwrap();
        }
        until(|| log.lock().unwrap().len() == 2 * MANY).await;
        tokio::task::yield_now().await;
        let (done, finished) = oneshot::channel();
        group.join(async move { done.send(()).unwrap() });
        finished.await.unwrap();
    }

    /// Until its last member is gone, with time going by.
    async fn until_asleep(group: &Group) {
        while !matches!(group.queue.lock().task, TaskState::None) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn few_that_write_are_followed_by_no_rest() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let group = Group::new(32);
        for _ in 0..3 {
            let (send, receive) = oneshot::channel();
            group.join_with(|turns| told(receive, turns, log.clone()));
            send.send(()).unwrap();
            until(|| !log.lock().unwrap().is_empty() && log.lock().unwrap().len() % 2 == 0).await;
            assert!(!matches!(group.queue.lock().task, TaskState::Resting(_)));
        }
    }
}

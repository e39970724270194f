//! `down`: removes exactly what is labelled as this mesh's, until the engine has nothing of it.
//!
//! It needs no topology file and no state directory. An `up` that was killed may still have requests under way in the
//! engine, so what is there is listed again until nothing is.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Docker, Engine,
    files::Files,
    labels::Role,
    nodes,
    present::{Container, Leaving, Life, Network, Present, Volume},
};
use crate::{DestroyOptions, Destroyed, Error, Progress, State, Step, state::Lock};

/// How long rounds may go on that leave no less than the ones before.
const GONE: Duration = Duration::from_secs(20);
/// How long the engine may take, from the beginning, to know that an empty network is empty.
const COUNTED: Duration = Duration::from_secs(10);
/// How long an `up` that is under way may take to end.
const UP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// What the engine does for a client that is no more takes less than this.
const SETTLED: Duration = Duration::from_secs(2);
/// Seconds that a database has to write its data, where they are kept.
const DATABASE: i32 = 20;

pub(super) async fn run(
    docker: &Docker,
    options: DestroyOptions,
    progress: &dyn Progress,
) -> Result<Destroyed, Error> {
    let state = docker.state();
    let engine = docker.engine().await?;
    let lock = wait_for_up(state).await?;
    let mut done = Destroyed::default();
    let begun = Instant::now();
    let patience = begun + COUNTED;
    let (mut first, mut headway) = (true, Headway::default());
    loop {
        let present = Present::read(engine).await?;
        headway.look(present.count(state.mesh()));
        if options.keep_data {
            let ours = present.volumes.iter().filter(|volume| volume.label.is_of(state.mesh()));
            done.volumes = ours.map(|volume| volume.name.clone()).collect();
            done.volumes.sort();
        }
        let round = Round { engine, state, options, progress, patience };
        let left = round.remove(&present, &mut done).await;
        let is_over = headway.is_over(Instant::now());
        match left {
            Ok(0) => break,
            // Something new may have come, or something is still on its way out: look again.
            Ok(_) => {}
            Err(error) if is_over => return Err(error),
            Err(error) => tracing::debug!(%error, "trying again"),
        }
        if is_over {
            return Err(Error::State(format!(
                "something of mesh {} comes back as it is removed: is another `hopcast up` of it running?",
                state.mesh()
            )));
        }
        // After a round that took long, what a killed `up` had under way has come to its end in the engine: seen at once.
        if !std::mem::take(&mut first) || begun.elapsed() < SETTLED {
            tokio::time::sleep(LOOK).await;
        }
    }
    if options.purge {
        state.sweep()?;
    }
    // Without a lock there was no directory: one that is there now is that of a later `up`.
    let Some(lock) = lock else { return Ok(done) };
    Files::new(state).remove()?;
    // A local mesh of that name has the same secret, and its data need it also where it does not run.
    let is_local = state.dir().join("pg").exists() || Lock::is_held(&state.dir().join("lock"))?;
    if options.purge && !is_local {
        state.purge(&lock)?;
    } else {
        done.kept = Some(state.dir());
    }
    Ok(done)
}

/// Whether rounds of removals get anywhere. A round takes as long as the engine takes for it, so what counts is what the next
/// look finds: there are as many more rounds as leave less than any before, and those that begin within [`GONE`] of them.
#[derive(Default)]
struct Headway {
    /// The fewest objects that a look has found.
    fewest: Option<usize>,
    /// Until when there may be no fewer; counted from the end of the round that follows the look which found them.
    until: Option<Instant>,
}

impl Headway {
    /// A round begins with so many objects of the mesh.
    fn look(&mut self, there: usize) {
        if self.fewest.is_none_or(|fewest| there < fewest) {
            (self.fewest, self.until) = (Some(there), None);
        }
    }

    /// A round has ended; true where it was the last one.
    fn is_over(&mut self, now: Instant) -> bool {
        now > *self.until.get_or_insert(now + GONE)
    }
}

/// An `up` that was just interrupted ends in a moment. Where there is no state directory there is no `up`.
async fn wait_for_up(state: &State) -> Result<Option<Lock>, Error> {
    let deadline = Instant::now() + UP;
    loop {
        match state.lock_if_there() {
            Err(Error::Busy(_)) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            result => return result,
        }
    }
}

struct Round<'a> {
    engine: &'a Engine,
    state: &'a State,
    options: DestroyOptions,
    progress: &'a dyn Progress,
    /// Until when a network that the engine thinks is in use is asked for again.
    patience: Instant,
}

impl Round<'_> {
    /// Removes what was there; how much that was.
    async fn remove(&self, present: &Present, done: &mut Destroyed) -> Result<usize, Error> {
        let mesh = self.state.mesh();
        let ours: Vec<&Container> = present.of(mesh).collect();
        let total = ours.len() as u64;
        let todo = ours.iter().map(|container| {
            let in_order = self.options.keep_data
                && container.label.role == Some(Role::Database)
                && container.life == Life::Running;
            (Leaving::of(container), in_order.then_some(DATABASE))
        });
        let mut todo: Vec<_> = todo.collect();
        let emptying = Emptying::new(self, present, &ours);
        // What takes longest begins first; then what empties a small network, which is removed while the large one empties.
        todo.sort_by_cached_key(|(container, in_order)| (in_order.is_none(), emptying.smallest(container)));
        let remove = |(container, in_order): (Leaving, Option<i32>)| {
            let emptying = &emptying;
            async move {
                nodes::leave(self.engine, &container, in_order).await?;
                // A network need not wait for the end of what has left it, a volume must.
                let (removed, ()) =
                    tokio::join!(nodes::remove_now(self.engine, &container), emptying.left(&container.id));
                removed?;
                emptying.ended(&container.id).await;
                Ok(())
            }
        };
        let removed =
            nodes::each(todo, remove, |count| self.progress.step(Step::Removed, count, total)).await;
        if removed.is_ok() {
            emptying.rest().await;
        }
        let Outcome { removed: objects, miscounted, stuck } = emptying.outcome();
        let mut count = ours.len() + objects.len();
        done.networks.extend(objects);
        removed?;
        for container in &ours {
            if container.label.role != Some(Role::Helper) && !done.stopped.contains(&container.name) {
                done.stopped.push(container.name.clone());
            }
        }
        // Its containers may have left the engine's lists a moment before their endpoints left its books.
        count += if Instant::now() < self.patience { miscounted.len() } else { 0 };
        done.stuck = miscounted;
        stuck.map_or(Ok(count), Err)
    }
}

/// Networks and volumes, each of which goes as soon as nobody uses it.
struct Emptying<'a> {
    round: &'a Round<'a>,
    containers: &'a [&'a Container],
    objects: Vec<(Object<'a>, AtomicUsize)>,
    outcome: Mutex<Outcome>,
}

/// What was removed, and what could not be.
#[derive(Default)]
struct Outcome {
    removed: Vec<String>,
    /// Networks that the engine thinks are in use and are not.
    miscounted: Vec<String>,
    stuck: Option<Error>,
}

enum Object<'a> {
    Network(&'a Network),
    Volume(&'a Volume),
}

impl Object<'_> {
    fn is_used_by(&self, container: &Container) -> bool {
        match self {
            Self::Network(network) => container.networks.contains(&network.name),
            // Which of them has which is not in the engine's list.
            Self::Volume(_) => container.label.role == Some(Role::Database),
        }
    }
}

impl<'a> Emptying<'a> {
    fn new(round: &'a Round<'_>, present: &'a Present, containers: &'a [&'a Container]) -> Self {
        let mesh = round.state.mesh();
        let networks = present.networks.iter().filter(|network| network.label.is_of(mesh));
        let volumes = present.volumes.iter().filter(|volume| volume.label.is_of(mesh));
        let volumes = volumes.filter(|_| !round.options.keep_data);
        let objects = networks.map(Object::Network).chain(volumes.map(Object::Volume));
        let counted = objects.map(|object| {
            let users = containers.iter().filter(|container| object.is_used_by(container)).count();
            (object, AtomicUsize::new(users))
        });
        Self { round, containers, objects: counted.collect(), outcome: Mutex::default() }
    }

    /// How many containers there are in the smallest of its networks.
    fn smallest(&self, container: &Leaving) -> usize {
        let sizes = self.objects.iter().filter_map(|(object, users)| match object {
            Object::Network(network) if container.networks.contains(&network.name) => {
                Some(users.load(Ordering::Relaxed))
            }
            _ => None,
        });
        sizes.min().unwrap_or(usize::MAX)
    }

    /// A container has left its networks: those that it was the last one in go.
    async fn left(&self, id: &str) {
        self.without(id, |object| matches!(object, Object::Network(_))).await;
    }

    /// A container is no more: the volumes that it was the last one with go.
    async fn ended(&self, id: &str) {
        self.without(id, |object| matches!(object, Object::Volume(_))).await;
    }

    async fn without(&self, id: &str, of_kind: impl Fn(&Object<'_>) -> bool) {
        let Some(container) = self.containers.iter().find(|container| container.id == id) else { return };
        for (object, users) in self.objects.iter().filter(|(object, _)| of_kind(object)) {
            if object.is_used_by(container) && users.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.remove(object).await;
            }
        }
    }

    /// What no container used.
    async fn rest(&self) {
        let unused = self
            .objects
            .iter()
            .filter(|(object, _)| !self.containers.iter().any(|container| object.is_used_by(container)));
        for (object, _) in unused {
            self.remove(object).await;
        }
    }

    async fn remove(&self, object: &Object<'_>) {
        let engine = self.round.engine;
        let (name, removed) = match object {
            Object::Network(network) => {
                (&network.name, nodes::remove_network(engine, &network.name, &network.id).await)
            }
            Object::Volume(volume) => {
                (&volume.name, nodes::remove_volume(engine, &volume.name).await.map(|()| true))
            }
        };
        let mut outcome = self.lock();
        match removed {
            Ok(true) => outcome.removed.push(name.clone()),
            Ok(false) => outcome.miscounted.push(name.clone()),
            // The others go, whatever becomes of this one.
            Err(error) => {
                outcome.stuck.get_or_insert(error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcome(&self) -> Outcome {
        std::mem::take(&mut self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_round_is_no_reason_to_give_up_and_one_without_end_is() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut headway = Headway::default();
        headway.look(170);
        assert!(!headway.is_over(at(90)), "the first round took a minute and a half");
        headway.look(3);
        assert!(!headway.is_over(at(150)), "the next one removed most of the rest");
        headway.look(0);
        assert!(!headway.is_over(at(151)));

        // Another `up` makes what is removed.
        let mut headway = Headway::default();
        for seconds in [1, 11, 21] {
            headway.look(5);
            assert!(!headway.is_over(at(seconds)), "{seconds} s");
        }
        headway.look(6);
        assert!(headway.is_over(at(22)));
    }
}

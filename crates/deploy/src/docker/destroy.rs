//! `down`: removes exactly what is labelled as this mesh's, until the engine has nothing of it.
//!
//! It needs no topology file and no state directory. An `up` that was killed may still have requests under way in the
//! engine, so what is there is listed again until nothing is.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Docker, Engine,
    files::Files,
    labels::Role,
    nodes,
    present::{Container, Leaving, Life, Present},
};
use crate::{DestroyOptions, Destroyed, Error, Progress, State, Step, error::Doing as _, state::Lock};

/// How long it may take until nothing is left, beside the deadlines of the requests.
const GONE: Duration = Duration::from_secs(20);
/// How long the engine may take, from the beginning, to know that an empty network is empty.
const COUNTED: Duration = Duration::from_secs(10);
/// How long an `up` that is under way may take to end.
const UP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// Seconds that a database has to write its data, where they are kept.
const DATABASE: i32 = 20;

pub(super) async fn run(
    docker: &Docker,
    options: DestroyOptions,
    progress: &dyn Progress,
) -> Result<Destroyed, Error> {
    let state = docker.state();
    let engine = docker.engine().await?;
    let _lock = wait_for_up(state).await?;
    let mut done = Destroyed::default();
    let deadline = Instant::now() + GONE;
    let patience = Instant::now() + COUNTED;
    loop {
        let present = Present::read(engine).await?;
        let round = Round { engine, state, options, progress, patience };
        let left = round.remove(&present, &mut done).await;
        match left {
            Ok(0) => break,
            // Something new may have come, or something is still on its way out: look again.
            Ok(_) => {}
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => tracing::debug!(%error, "trying again"),
        }
        if Instant::now() > deadline {
            return Err(Error::State(format!(
                "something of mesh {} comes back as it is removed: is another `hopcast up` of it running?",
                state.mesh()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    let files = Files::new(state);
    files.remove()?;
    if options.purge && !Lock::is_held(&state.dir().join("lock"))? {
        let dir = state.dir();
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing("remove", dir);
            }
            _ => {}
        }
    } else if state.dir().exists() {
        done.kept = Some(state.dir());
    }
    Ok(done)
}

/// An `up` that was just interrupted ends in a moment. Where there is no state directory there is no `up`.
async fn wait_for_up(state: &State) -> Result<Option<Lock>, Error> {
    let deadline = Instant::now() + UP;
    loop {
        if !state.dir().exists() {
            return Ok(None);
        }
        match state.lock() {
            Err(Error::Busy(_)) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            result => return result.map(Some),
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
        // What takes longest begins first.
        todo.sort_by_key(|(_, in_order)| in_order.is_none());
        let remove = |(container, in_order): (Leaving, Option<i32>)| async move {
            nodes::remove(self.engine, &container, in_order).await
        };
        nodes::each(todo, remove, |count| self.progress.step(Step::Removed, count, total)).await?;
        for container in &ours {
            if container.label.role != Some(Role::Helper) && !done.stopped.contains(&container.name) {
                done.stopped.push(container.name.clone());
            }
        }
        let mut count = ours.len();
        let (mut stuck, mut miscounted) = (None, Vec::new());
        for network in present.networks.iter().filter(|network| network.label.is_of(mesh)) {
            match nodes::remove_network(self.engine, &network.name, &network.id).await {
                Ok(true) => done.networks.push(network.name.clone()),
                // Its containers may have left the engine's lists a moment before their endpoints left its books.
                Ok(false) => {
                    miscounted.push(network.name.clone());
                    count += usize::from(Instant::now() < self.patience);
                    continue;
                }
                // The others go, whatever becomes of this one.
                Err(error) => stuck = stuck.or(Some(error)),
            }
            count += 1;
        }
        done.stuck = miscounted;
        let volumes = present.volumes.iter().filter(|volume| volume.label.is_of(mesh));
        for volume in volumes.filter(|_| !self.options.keep_data) {
            nodes::remove_volume(self.engine, &volume.name).await?;
            done.networks.push(volume.name.clone());
            count += 1;
        }
        stuck.map_or(Ok(count), Err)
    }
}

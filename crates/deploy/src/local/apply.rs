//! `up`: from a plan to a ready mesh.

use std::{path::PathBuf, pin::pin, time::Duration};

use hopcast_protocol::MeshSecret;
use hopcast_topology::Plan;
use tokio::sync::Notify;

use super::{Local, client::Client, clusters, destroy::end_orphans, launch, preflight, settled};
use crate::{
    Applied, Changes, Error, NodeRole, NodeState, NodeStatus, Progress, State, Step, databases,
    postgres::Postgres,
    programs::{self, Programs},
    ready,
    render::{self, Loopback},
    wire::{Desired, Report},
};

/// How long the end of what was started may take.
const WIND_UP: Duration = Duration::from_secs(20);
/// How long a database that has just started may refuse.
const CONNECT: Duration = Duration::from_secs(30);
/// Between two looks at whether the keeper is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The programs' copies that the mesh's user may execute.
struct Staged {
    hopcast: PathBuf,
    peer: PathBuf,
    signalling: PathBuf,
}

pub(super) async fn run(local: &Local, plan: &Plan, progress: &dyn Progress) -> Result<Applied, Error> {
    let state = &local.state;
    if *state.mesh() != plan.mesh {
        return Err(Error::State(format!(
            "the plan is of mesh {}, the state directory of {}",
            plan.mesh,
            state.mesh()
        )));
    }
    preflight::names(plan)?;
    preflight::files(plan)?;
    databases::inputs(plan)?;
    let found = match &local.programs {
        Some(programs) => programs.clone(),
        None => Programs::find()?,
    };
    preflight::overlaps(state, plan).await?;
    let (account, _lock) = state.lock_made(|| launch::directories(state))?;
    let running = settled::nodes(state).await?;
    preflight::addresses(state, plan, &running).await?;
    let (postgres, staged) = tokio::try_join!(find_postgres(state, plan), stage(state, found, progress))?;
    let (secret, new_secret) = state.create_secret()?;
    if new_secret && state.dir().join("pg").join(plan.origin.name.as_str()).exists() {
        progress.note(&format!(
            "the secret of mesh {} was gone: a new one was made, and every peer is replaced",
            plan.mesh
        ));
    }
    let desired = desired(plan, &secret, postgres, &staged)?;
    let body = desired.body()?;

    let session = if running.is_empty() {
        // A keeper whose directory was removed still runs. Told to end, it ends whatever carries the mesh's mark, also a new
        // keeper: it has to be gone before that one starts.
        end_orphans(state).await?;
        Some(launch::keeper(state, &account, &staged.hopcast).await?)
    } else {
        None
    };
    match make_so(state, &desired, body, progress).await {
        Ok(mut changes) => {
            changes.new_secret = new_secret;
            programs::sweep(&state.dir().join("bin"), &in_use(&staged, &running, state));
            Ok(Applied { changes, session, requests: None })
        }
        Err(error) => {
            // What this call started ends with it, before the error is told.
            if let Some(session) = session {
                let _ = tokio::time::timeout(WIND_UP, session.stop()).await;
            }
            Err(error)
        }
    }
}

/// With a keeper that answers; `body` is [`Desired::body`].
async fn make_so(
    state: &State,
    desired: &Desired,
    body: Vec<u8>,
    progress: &dyn Progress,
) -> Result<Changes, Error> {
    let client = Client::connect(state).await?.ok_or_else(|| {
        Error::Keeper("the keeper has just ended; `hopcast logs keeper` may say why".into())
    })?;
    let (access, plan) = (super::access(state, desired)?, &desired.plan);
    let watch = UntilDatabases { progress, up: Notify::new() };
    let data = async {
        watch.up.notified().await;
        let mut databases = databases::set_up(plan, &access, plan.origin.local, CONNECT).await?;
        let songs = databases.ingest(plan, &access.secret, progress).await?;
        databases.replicate(plan, progress).await?;
        Ok::<_, Error>(songs)
    };
    let (mut data, mut early) = (pin!(data), None);
    let mut changes = {
        let mut apply = pin!(client.apply(body, &watch));
        // The data need the databases alone; the peers are started meanwhile. A failure there does not break this off.
        loop {
            tokio::select! {
                changes = &mut apply => break changes?,
                songs = &mut data, if early.is_none() => early = Some(songs),
            }
        }
    };
    // Whatever it told of its steps, they are up by now.
    watch.up.notify_one();
    let songs = async {
        match early {
            Some(songs) => songs,
            None => data.await,
        }
    };
    let ready = ready::wait(plan, plan.signalling.local, progress, || dead(&client));
    // To encode a song may take long, and looks neither at the keeper nor at a database.
    let (songs, ()) = tokio::select! {
        both = async { tokio::try_join!(songs, ready) } => both?,
        gone = end(&client) => return Err(gone),
    };
    changes.songs = songs;
    Ok(changes)
}

/// Returns when the keeper has ended, or a database. A keeper that only does not answer may yet do so.
async fn end(client: &Client<'_>) -> Error {
    loop {
        tokio::time::sleep(LOOK).await;
        match client.unless_gone(client.report().await).await {
            Ok(Some(report)) => {
                if let Err(dead) = alive(&report, |node| node.role == NodeRole::Database) {
                    return dead;
                }
            }
            Ok(None) => {
                return Error::Keeper(
                    "the keeper has ended meanwhile; `hopcast logs keeper` may say why".into(),
                );
            }
            Err(error) => tracing::debug!(%error, "the keeper does not answer"),
        }
    }
}

/// Hears when the databases are up.
struct UntilDatabases<'a> {
    progress: &'a dyn Progress,
    up: Notify,
}

impl Progress for UntilDatabases<'_> {
    fn step(&self, step: Step, done: u64, total: u64) {
        self.progress.step(step, done, total);
        if step == Step::Databases && done == total {
            self.up.notify_one();
        }
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }
}

/// An error that names the nodes that have ended meanwhile.
async fn dead(client: &Client<'_>) -> Result<(), Error> {
    alive(&client.report().await?, |_| true)
}

/// The same of these nodes of a report.
fn alive(report: &Report, of: impl Fn(&NodeStatus) -> bool) -> Result<(), Error> {
    let is_dead = |node: &&NodeStatus| node.state == NodeState::Dead && of(node);
    let dead: Vec<_> = report.nodes.iter().filter(is_dead).collect();
    let Some(first) = dead.first() else { return Ok(()) };
    let more =
        if dead.len() > 1 { format!(", and {} more nodes are dead", dead.len() - 1) } else { String::new() };
    Err(Error::Keeper(format!(
        "{} {}{more}; see `hopcast logs {}`",
        first.name,
        first.detail.as_deref().unwrap_or("ended"),
        first.name
    )))
}

pub(super) async fn find_postgres(state: &State, plan: &Plan) -> Result<Postgres, Error> {
    let pg = state.dir().join("pg");
    let data: Vec<_> = std::iter::once(&plan.origin.name)
        .chain(plan.edges.iter().map(|edge| &edge.name))
        .map(|name| pg.join(name.as_str()))
        .collect();
    let cache = state.dir().join("cache");
    blocking(move || Postgres::find(&cache, &data)).await
}

async fn stage(state: &State, found: Programs, progress: &dyn Progress) -> Result<Staged, Error> {
    let bin = state.dir().join("bin");
    progress.step(Step::Programs, 0, 3);
    let stage = |program: PathBuf| {
        let bin = bin.clone();
        blocking(move || programs::stage(&program, &bin))
    };
    let staged = tokio::try_join!(stage(found.hopcast), stage(found.peer), stage(found.signalling));
    let (hopcast, peer, signalling) = staged?;
    progress.step(Step::Programs, 3, 3);
    Ok(Staged { hopcast, peer, signalling })
}

/// Runs what reads large files or other programs' output where nothing waits for it but this.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::State(format!("failed to prepare the programs: {error}")))?
}

/// Staged programs that must stay: a keeper that was there before runs an older one, perhaps.
fn in_use(staged: &Staged, running: &[NodeStatus], state: &State) -> Vec<PathBuf> {
    let mut used = vec![staged.hopcast.clone(), staged.peer.clone(), staged.signalling.clone()];
    let keeper = running.iter().find(|node| node.role == NodeRole::Keeper).and_then(|node| node.pid);
    let exe = keeper.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    used.extend(exe.filter(|path| path.starts_with(state.dir())));
    used
}

fn desired(plan: &Plan, secret: &MeshSecret, postgres: Postgres, staged: &Staged) -> Result<Desired, Error> {
    Ok(Desired {
        plan: plan.clone(),
        superuser_password: databases::superuser_password(plan, secret)?,
        postgres,
        databases: clusters::of(plan),
        signalling_program: staged.signalling.clone(),
        signalling: render::signalling(plan, secret, &Loopback),
        peer_program: staged.peer.clone(),
        peers: render::peers(plan, secret, &Loopback),
    })
}

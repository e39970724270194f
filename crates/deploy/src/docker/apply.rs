//! `up`: from a plan to a ready mesh.
//!
//! Everything is looked at before anything is touched. Then: what goes, goes; networks and volumes; databases and the
//! signalling server; peers, while the databases are filled. Whatever moment it is killed at, the next one begins from the
//! engine's own lists.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
    time::Duration,
};

use hopcast_protocol::{MeshName, MeshSecret};
use hopcast_topology::Plan;
use tokio::time::Instant;

use super::{
    Docker, Engine, checks,
    diff::{self, Diff},
    files::Files,
    image::{self, Image, ImageRole, Images, Origin},
    labels::{self, Role},
    nodes, password, place,
    present::{self, Leaving, Life, Present},
    wanted::{self, Wanted},
};
use crate::{
    Applied, ApplyOptions, Changes, Error, Progress, Step, databases, error::Doing as _, graph, ready,
};

/// A helper that was made this long ago and does not run was left by somebody who was killed, in seconds.
const HELPER: u64 = 60;
/// How long a database may take until it listens.
const NEW_CLUSTER: Duration = Duration::from_secs(120);
/// Between two looks at whether a node has ended that should run.
const LOOK: Duration = Duration::from_secs(2);

/// How long the engine may go on starting a container for a client that is no more.
const STARTING: Duration = Duration::from_secs(5);
/// Between two looks at that.
const SOON: Duration = Duration::from_millis(100);

pub(super) async fn run(
    docker: &Docker,
    plan: &Plan,
    options: &ApplyOptions,
    progress: &dyn Progress,
) -> Result<Applied, Error> {
    let state = docker.state();
    if *state.mesh() != plan.mesh {
        return Err(Error::State(format!(
            "the plan is of mesh {}, the state directory of {}",
            plan.mesh,
            state.mesh()
        )));
    }
    databases::inputs(plan)?;
    let engine = docker.engine().await?;
    let sent = engine.requests();
    let files = Files::new(state);
    let routes =
        checks::routes(&std::fs::read_to_string("/proc/net/route").doing("read", "/proc/net/route")?);
    let look = |secret: &MeshSecret, images: &Images| {
        let password = databases::superuser_password(plan, secret)?;
        Ok::<_, Error>(wanted::wanted(plan, secret, &password, images))
    };

    // With images that nobody has: what is in the way does not depend on them.
    let shape = look(&MeshSecret([0; 32]), &names_alone(plan))?;
    let chosen = Chosen(&options.only);
    chosen.check(&shape)?;
    let check = |present: &Present| {
        checks::names(&shape, present)?;
        checks::subnets(&shape.networks, &plan.mesh, present, &routes)?;
        checks::ports(&shape, present)
    };
    if options.dry_run {
        let present = look_around(engine, &plan.mesh, check).await?;
        let (secret, new_secret) = match state.secret()? {
            Some(secret) => (secret, false),
            None => (MeshSecret([0; 32]), true),
        };
        let data = image::data::of(engine, &present, &plan.mesh).await?;
        let images = image::find_for(engine, plan, docker.programs(), &data).await?;
        let wanted = look(&secret, &images)?;
        let diff = diff::diff(&wanted, &present, &files.stale(&wanted), &options.only);
        return Ok(Applied {
            changes: Changes { new_secret, ..diff.changes(&wanted) },
            session: None,
            requests: None,
        });
    }

    let ((), _lock) = state.lock_made(|| files.prepare(state))?;
    let mut present = look_around(engine, &plan.mesh, check).await?;
    // Before anything is touched: what cannot be done for some nodes alone.
    let applied = if chosen.all() { None } else { files.plan()? };
    if let Some(applied) = &applied {
        chosen.check_edges(&shape, plan, applied)?;
    }
    if !chosen.all() && present.has(&plan.mesh) && state.secret()?.is_none() {
        return Err(Error::State(format!(
            "the secret of mesh {} is gone, so every node has to be replaced: run `hopcast up` without --only",
            plan.mesh
        )));
    }
    let (secret, new_secret) = state.create_secret()?;
    let data = image::data::of(engine, &present, &plan.mesh).await?;
    let images = image::ensure_for(engine, plan, docker.programs(), &data, progress).await?;
    if images.all().iter().any(|image| image.origin != Origin::Present) {
        // That took its time: others may have come meanwhile.
        present = look_around(engine, &plan.mesh, check).await?;
    }
    let wanted = look(&secret, &images)?;
    if new_secret && present.has(&plan.mesh) {
        progress.note(&format!(
            "the secret of mesh {} was gone: a new one was made, and every node is replaced",
            plan.mesh
        ));
    }
    let diff = diff::diff(&wanted, &present, &files.stale(&wanted), &options.only);
    // Others run as the one that was applied says.
    if applied.is_none() {
        files.write_plan(plan)?;
    }
    let job = Job { engine, files: &files, wanted: &wanted, progress };
    job.sweep_helpers(&present).await?;
    job.make_room(&diff).await?;
    job.servers(&diff).await?;
    let rest = async {
        job.peers(&diff).await?;
        if !chosen.any(&wanted, |node| node.role != Role::Database) {
            return Ok(());
        }
        let server = place::published(plan.signalling.local);
        ready::wait(&chosen.peers(plan), server, progress, || job.dead(|node| chosen.has(&node.name))).await
    };
    let is_database = |node: &wanted::Node| node.role == Role::Database && chosen.has(&node.name);
    let data = async {
        if !chosen.any(&wanted, is_database) {
            return Ok(Vec::new());
        }
        let mut access = docker.open_to(plan, &secret).await?;
        // The edges follow the origin; it does not depend on them.
        let origin = chosen.has(plan.origin.name.as_str());
        access.edges.retain(|edge| origin || chosen.has(edge.name.as_str()));
        let fill = async {
            let password = &access.origin.password;
            job.passwords(plan, password, job.kept(&diff)).await?;
            // The entry point of a new cluster makes it first, which takes its time on a busy machine.
            let set_up = || databases::set_up(plan, &access, plan.origin.docker.address, NEW_CLUSTER);
            let mut databases = match set_up().await {
                // An earlier `up` was killed after it had made their containers and before it had set this password.
                Err(error) if password::is_refused(&error) => {
                    job.passwords(plan, password, job.names(is_database)).await?;
                    set_up().await?
                }
                databases => databases?,
            };
            let songs =
                if origin { databases.ingest(plan, &access.secret, progress).await? } else { Vec::new() };
            databases.replicate(plan, progress).await?;
            Ok::<_, Error>(songs)
        };
        let songs = tokio::select! {
            songs = fill => songs,
            dead = job.death(is_database) => Err(dead),
        };
        access.close().await;
        songs
    };
    let (songs, ()) = tokio::try_join!(data, rest)?;
    if chosen.all() {
        files.sweep(&wanted)?;
    }
    let requests = Some(engine.requests() - sent);
    let changes = Changes { songs, new_secret, ..diff.changes(&wanted) };
    Ok(Applied { changes, session: None, requests })
}

/// What is on the engine, once `check` finds nothing in the way. An `up` that was killed may have a start under way in the engine,
/// which takes the port before it says so: looked at again for as long as that may be.
async fn look_around(
    engine: &Engine,
    mesh: &MeshName,
    check: impl Fn(&Present) -> Result<(), Error>,
) -> Result<Present, Error> {
    let deadline = Instant::now() + STARTING;
    loop {
        let present = Present::read(engine).await?;
        let starting = present.of(mesh).any(|container| container.life == Life::Created);
        match check(&present) {
            Err(Error::Taken { .. }) if starting && Instant::now() < deadline => {
                tokio::time::sleep(SOON).await;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(present),
        }
    }
}

/// The plan's images, without knowing what is in them.
pub(super) fn names_alone(plan: &Plan) -> Images {
    let image = |role, name: &str| Image {
        role,
        name: name.to_owned(),
        id: String::new(),
        content: String::new(),
        bytes: 0,
        origin: Origin::Missing,
    };
    Images {
        peer: image(ImageRole::Peer, &plan.docker.peer_image),
        signalling: image(ImageRole::Signalling, &plan.docker.signalling_image),
        postgres: image(ImageRole::Postgres, &plan.docker.postgres_image),
        database_major: None,
    }
}

/// The nodes that `--only` names, and no others are touched or waited for; every node where it names none.
#[derive(Clone, Copy)]
struct Chosen<'a>(&'a [String]);

impl Chosen<'_> {
    fn all(self) -> bool {
        self.0.is_empty()
    }

    fn has(self, name: &str) -> bool {
        self.all() || self.0.iter().any(|one| one == name)
    }

    /// One of them is like this.
    fn any(self, wanted: &Wanted, of: impl Fn(&wanted::Node) -> bool) -> bool {
        wanted.nodes.iter().any(|node| self.has(&node.name) && of(node))
    }

    /// Every node that was asked for is one of the plan's.
    fn check(self, wanted: &Wanted) -> Result<(), Error> {
        match self.0.iter().find(|name| !wanted.nodes.iter().any(|node| node.name == **name)) {
            Some(unknown) => Err(Error::Unknown(format!(
                "there is no node {unknown} in mesh {}: --only takes names like {}",
                wanted.mesh,
                wanted.nodes.last().map_or("peer-1", |node| &node.name)
            ))),
            None => Ok(()),
        }
    }

    /// The origin's set-up drops what belongs to edges that are not in the plan: where a database is chosen, the plan has the
    /// edges of the one that was `applied`.
    fn check_edges(self, wanted: &Wanted, plan: &Plan, applied: &Plan) -> Result<(), Error> {
        let names = |plan: &Plan| -> BTreeSet<String> {
            plan.edges.iter().map(|edge| edge.name.to_string()).collect()
        };
        let (now, before) = (names(plan), names(applied));
        match now.symmetric_difference(&before).next() {
            Some(other) if self.any(wanted, |node| node.role == Role::Database) => {
                Err(Error::State(format!(
                    "{other} is either new in the topology file or not there any more, which concerns the other databases, too: run `hopcast up` without --only"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The plan with the chosen peers alone in its rooms.
    fn peers(self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for room in &mut plan.rooms {
            room.peers.retain(|peer| self.has(peer.as_str()));
        }
        plan
    }
}

/// What every part of the work needs.
struct Job<'a> {
    engine: &'a Engine,
    files: &'a Files,
    wanted: &'a Wanted,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Helper containers whose owner was killed between making and starting them; those that run end with their owner.
    async fn sweep_helpers(&self, present: &Present) -> Result<(), Error> {
        let now = present::now();
        let left: Vec<_> = present
            .of(&self.wanted.mesh)
            .filter(|container| {
                container.label.role == Some(Role::Helper)
                    && container.life != Life::Running
                    && container.created + HELPER < now
            })
            .map(Leaving::of)
            .collect();
        let remove = |container: Leaving| async move { nodes::remove(self.engine, &container, None).await };
        nodes::each(left, remove, |_| ()).await
    }

    /// What goes, goes; then networks and volumes.
    async fn make_room(&self, diff: &Diff) -> Result<(), Error> {
        let total = diff.remove.len() as u64;
        let remove = |container: Leaving| async move { nodes::remove(self.engine, &container, None).await };
        nodes::each(diff.remove.clone(), remove, |done| self.progress.step(Step::Removed, done, total))
            .await?;
        for (id, name) in &diff.remove_networks {
            if !nodes::remove_network(self.engine, name, id).await? {
                return Err(Error::State(format!(
                    "network {name} has to be made anew, but the engine counts endpoints in it that it does not have any more: restart the engine, which mends that, and run `hopcast up` again"
                )));
            }
        }
        for name in &diff.remove_volumes {
            nodes::remove_volume(self.engine, name).await?;
        }
        for &at in &diff.create_networks {
            nodes::create_network(self.engine, &self.wanted.mesh, &self.wanted.networks[at]).await?;
        }
        for &at in &diff.create_volumes {
            nodes::create_volume(self.engine, &self.wanted.mesh, &self.wanted.volumes[at]).await?;
        }
        Ok(())
    }

    /// Databases and the signalling server: the first takes longest, and the second is what peers ask for first.
    async fn servers(&self, diff: &Diff) -> Result<(), Error> {
        let is_server = |at: usize| self.wanted.nodes[at].role != Role::Peer;
        self.make(diff, is_server, Step::Databases).await?;
        self.reread(diff, is_server).await?;
        let is_signalling = |at: usize| self.wanted.nodes[at].role == Role::Signalling;
        if let Some(&(_, at)) = diff.reload.iter().find(|&&(_, at)| is_signalling(at)) {
            self.links(at).await;
        }
        Ok(())
    }

    async fn peers(&self, diff: &Diff) -> Result<(), Error> {
        let is_peer = |at: usize| self.wanted.nodes[at].role == Role::Peer;
        self.make(diff, is_peer, Step::Processes).await?;
        self.reread(diff, is_peer).await
    }

    /// Makes and starts the containers of some nodes.
    ///
    /// All are made before the first is started: making one is cheap, and who is killed in between leaves nothing that
    /// runs.
    async fn make(&self, diff: &Diff, of: impl Fn(usize) -> bool, step: Step) -> Result<(), Error> {
        let create: Vec<usize> = diff.create.iter().copied().filter(|&at| of(at)).collect();
        let ids = Mutex::new(BTreeMap::<usize, String>::new());
        ids.lock()
            .expect("nobody panics with it")
            .extend(diff.start.iter().filter(|&&(_, at)| of(at)).map(|(id, at)| (*at, id.clone())));
        for &at in ids.lock().expect("nobody panics with it").keys().chain(&create) {
            self.files.write(&self.wanted.nodes[at], false)?;
            self.files.reread(&self.wanted.nodes[at].name)?;
        }
        let make = |at: usize| {
            let node = &self.wanted.nodes[at];
            let (ids, dir) = (&ids, self.files.of(&node.name));
            async move {
                let id = nodes::create(self.engine, &self.wanted.mesh, node, &dir).await?;
                ids.lock().expect("nobody panics with it").insert(at, id);
                Ok(())
            }
        };
        let total = (create.len() + ids.lock().expect("nobody panics with it").len()) as u64;
        if total > 0 {
            self.progress.step(step, 0, total);
        }
        nodes::each(create, make, |_| ()).await?;
        let ids = ids.into_inner().expect("nobody panics with it");
        let start = |(at, id): (usize, String)| async move {
            nodes::start(self.engine, &self.wanted.nodes[at], &id).await
        };
        nodes::each(ids, start, |done| self.progress.step(step, done, total)).await
    }

    /// The names of some nodes.
    fn names(&self, of: impl Fn(&wanted::Node) -> bool) -> Vec<String> {
        self.wanted.nodes.iter().filter(|node| of(node)).map(|node| node.name.clone()).collect()
    }

    /// The databases that were made anew over data that were there: those may want another password.
    fn kept(&self, diff: &Diff) -> Vec<String> {
        let kept = diff.create.iter().map(|&at| &self.wanted.nodes[at]).filter(|node| {
            let volume = node.container.volume.as_ref();
            let new = |name: &str| diff.create_volumes.iter().any(|&at| self.wanted.volumes[at].name == name);
            volume.is_some_and(|(name, _)| !new(name))
        });
        kept.map(|node| node.name.clone()).collect()
    }

    /// Sets the password of these databases.
    async fn passwords(&self, plan: &Plan, password: &str, databases: Vec<String>) -> Result<(), Error> {
        let postgres = &plan.postgres;
        let reset = |name: String| async move {
            password::reset(self.engine, &name, &postgres.user, password, postgres.port, NEW_CLUSTER).await
        };
        nodes::each(databases, reset, |_| ()).await
    }

    /// Running nodes that reread their files, and paused ones that go on.
    async fn reread(&self, diff: &Diff, of: impl Fn(usize) -> bool) -> Result<(), Error> {
        let all = |list: &[(String, usize)]| -> Vec<_> {
            list.iter().filter(|&&(_, at)| of(at)).cloned().collect()
        };
        let go_on = |(id, at): (String, usize)| async move {
            nodes::resume(self.engine, &self.wanted.nodes[at].name, &id).await
        };
        nodes::each(all(&diff.resume), go_on, |_| ()).await?;
        let reload = all(&diff.reload);
        for &(_, at) in &reload {
            self.files.write(&self.wanted.nodes[at], true)?;
        }
        let hang_up = |(id, at): (String, usize)| async move {
            let name = &self.wanted.nodes[at].name;
            nodes::signal(self.engine, name, &id, "HUP").await?;
            self.files.reread(name)
        };
        nodes::each(reload, hang_up, |_| ()).await
    }

    /// The server must know a link before its ends announce it.
    async fn links(&self, at: usize) {
        let file = self.wanted.nodes[at].files.get(wanted::CONFIG_FILE);
        let port = self.wanted.nodes[at].container.ports.first();
        if let Some((file, (published, _))) = file.zip(port)
            && let Ok(config) = serde_json::from_slice::<hopcast_protocol::SignallingConfig>(file)
        {
            graph::wait_for_links(*published, &config).await;
        }
    }

    /// Returns when one of these nodes has ended.
    async fn death(&self, of: impl Fn(&wanted::Node) -> bool) -> Error {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(dead) = self.dead(&of).await {
                return dead;
            }
        }
    }

    /// An error that names the nodes that have ended meanwhile, of those that should run by now.
    async fn dead(&self, of: impl Fn(&wanted::Node) -> bool) -> Result<(), Error> {
        let there = present::containers(self.engine, labels::filter(&self.wanted.mesh)).await?;
        let by_name: HashMap<_, _> =
            there.iter().map(|container| (container.name.as_str(), container)).collect();
        let dead: Vec<String> = self
            .wanted
            .nodes
            .iter()
            .filter(|node| of(node))
            .filter_map(|node| match by_name.get(node.name.as_str()) {
                None => Some(format!("{} is gone", node.name)),
                Some(there) => matches!(there.life, Life::Exited | Life::Restarting | Life::Gone)
                    .then(|| format!("{}: {}", node.name, there.status)),
            })
            .collect();
        let Some(first) = dead.first() else { return Ok(()) };
        let more = if dead.len() > 1 {
            format!(", and {} more nodes do not run", dead.len() - 1)
        } else {
            String::new()
        };
        let name = first.split([':', ' ']).next().unwrap_or_default();
        Err(Error::State(format!("{first}{more}; see `hopcast logs {name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn of_chosen_nodes_only_they_are_waited_for() {
        let plan = plan();
        let wanted = wanted::wanted(&plan, &MeshSecret([7; 32]), "password", &names_alone(&plan));
        let only = ["peer-2".to_owned()];
        let chosen = Chosen(&only);
        chosen.check(&wanted).unwrap();
        let rooms: Vec<_> = chosen.peers(&plan).rooms.into_iter().map(|room| room.peers).collect();
        assert_eq!(rooms, [[plan.peers[1].name.clone()]]);
        assert!(!chosen.any(&wanted, |node| node.role == Role::Database));
        assert_eq!(Chosen(&[]).peers(&plan), plan);
        let error = Chosen(&["peer-4".to_owned()]).check(&wanted).unwrap_err();
        assert!(matches!(&error, Error::Unknown(text) if text.contains("peer-4")), "{error}");
    }

    #[test]
    fn a_chosen_database_is_refused_where_the_edges_are_others() {
        let applied = plan();
        let mut plan = plan();
        plan.edges.pop();
        let wanted = wanted::wanted(&plan, &MeshSecret([7; 32]), "password", &names_alone(&plan));
        let (database, peer) = (["edge-db-a".to_owned()], ["peer-2".to_owned()]);
        let error = Chosen(&database).check_edges(&wanted, &plan, &applied).unwrap_err().to_string();
        assert!(error.contains("edge-db-b") && error.contains("without --only"), "{error}");
        Chosen(&peer).check_edges(&wanted, &plan, &applied).unwrap();
        Chosen(&database).check_edges(&wanted, &plan, &plan).unwrap();
    }
}

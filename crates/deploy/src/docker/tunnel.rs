//! SQL from this machine to databases that only their own networks reach.
//!
//! A helper container at the operator's address in the origin's network, where the origin and every edge are, listens on
//! Unix sockets in a directory of the mesh's state directory (0700) and passes what comes on to the databases
//! ([`super::pipe`]). PostgreSQL's clients take such a directory as a host. It lives as long as its [`Tunnel`].

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use hopcast_protocol::DatabaseName;
use hopcast_topology::Plan;
use tokio::time::{Instant, sleep, timeout};

use super::{
    engine::Engine,
    helper::{Helper, Position, Spec},
    pipe, place,
};
use crate::{Error, State, error::Doing as _};

/// Where the directory is inside.
const SHARED: &str = "/run/hopcast";
/// The directory of all such directories of a mesh.
const FOLDER: &str = "tunnel";
/// How long it may take to listen.
const READY: Duration = Duration::from_secs(30);
/// The operator has one address in the network: how long another command may hold it.
const TURN: Duration = Duration::from_secs(60);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(300);

/// An open way to the databases. Dropping it, or the end of this process in whatever way, closes it.
#[derive(Debug)]
pub struct Tunnel {
    engine: Engine,
    helper: Helper,
    folder: Folder,
}

/// A directory of this process's own, removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    /// Makes one, and removes those of processes that are gone.
    fn make(state: &State) -> Result<Self, Error> {
        let all = state.dir().join(FOLDER);
        sweep(&all)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let own = all.join(format!("{}-{:x}", std::process::id(), now.as_micros()));
        DirBuilder::new().recursive(true).mode(0o700).create(&own).doing("create", &own)?;
        Ok(Self(own))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next one that is made sweeps what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the directories of processes that are gone.
fn sweep(all: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).doing("read", all),
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next()?.parse::<u32>().ok());
        if owner.is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be sweeping, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Whom it leads to: the origin, and the edges in the plan's order, each where the origin's network has it.
fn targets(plan: &Plan) -> Vec<pipe::Target> {
    let origin = pipe::Target { name: plan.origin.name.clone(), to: plan.origin.docker.address };
    let edges = plan.edges.iter().map(|edge| pipe::Target {
        name: edge.name.clone(),
        to: (edge.docker_origin, edge.docker.address.port()).into(),
    });
    std::iter::once(origin).chain(edges).collect()
}

impl Tunnel {
    /// Opens one to all databases of a plan, through a helper of this image. Waits for its turn.
    pub(crate) async fn open(
        engine: &Engine,
        state: &State,
        plan: &Plan,
        image: &str,
    ) -> Result<Self, Error> {
        let until = Instant::now() + TURN;
        let folder = Folder::make(state)?;
        let mut helper = loop {
            let mut arguments = vec!["pipe".to_owned(), "--dir".into(), SHARED.into()];
            arguments.extend(targets(plan).iter().map(ToString::to_string));
            let spec = Spec {
                mesh: &plan.mesh,
                image,
                arguments,
                position: Position::At {
                    network: plan.origin.network.to_string(),
                    address: place::operator(plan),
                },
                shared: Some((folder.0.clone(), SHARED)),
                input: Vec::new(),
            };
            match Helper::start(engine, spec).await {
                Ok(helper) => break helper,
                Err(error) if is_taken(&error) && Instant::now() < until => sleep(AGAIN).await,
                Err(error) if is_taken(&error) => {
                    return Err(Error::Deadline {
                        what: "get the operator's address in the origin's network".into(),
                        after: TURN,
                        seen: format!(
                            "another command holds it ({error}); `docker ps --filter label={}={}` shows its helper",
                            super::labels::ROLE,
                            super::labels::Role::Helper.as_str(),
                        ),
                    });
                }
                Err(error) => return Err(error),
            }
        };
        match timeout(READY, helper.line()).await {
            Ok(Ok(Some(line))) if line == pipe::READY => Ok(Self { engine: engine.clone(), helper, folder }),
            Ok(Ok(line)) => Err(helper.failed(&line.unwrap_or_else(|| "it has ended".into()))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(helper.failed(&format!("it does not listen within {} s", READY.as_secs()))),
        }
    }

    /// The host under which PostgreSQL's clients reach a database.
    pub(crate) fn host(&self, database: &DatabaseName) -> String {
        self.folder.0.join(database.as_str()).display().to_string()
    }

    /// Closes it, and waits until its helper has ended.
    pub async fn close(self) {
        let Self { engine, helper, folder } = self;
        helper.end(&engine).await;
        drop(folder);
    }
}

/// The engine's words for an address that another container has.
fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Engine { why, .. } if why.to_lowercase().contains("address already in use"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn it_leads_to_every_database_where_the_origins_network_has_it() {
        let plan = plan();
        let targets = targets(&plan);
        assert_eq!(targets.len(), 1 + plan.edges.len());
        assert_eq!(targets[0].to, plan.origin.docker.address);
        assert_eq!(targets[1].to.ip(), std::net::IpAddr::from(plan.edges[0].docker_origin));
        let subnet = place::database_subnet(&plan.origin.docker);
        for target in &targets {
            let std::net::IpAddr::V4(ip) = target.to.ip() else { panic!("{target}") };
            assert!(subnet.overlaps(place::Subnet::new(ip, 32)), "{target}");
        }
    }

    #[test]
    fn what_others_left_is_swept_and_what_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path(), "m".parse().unwrap());
        let first = Folder::make(&state).unwrap();
        let left = state.dir().join(FOLDER).join("4294967295-1");
        fs::create_dir(&left).unwrap();
        let second = Folder::make(&state).unwrap();
        assert!(first.0.is_dir() && second.0.is_dir() && !left.exists());
        let gone = second.0.clone();
        drop(second);
        assert!(!gone.exists());
    }
}

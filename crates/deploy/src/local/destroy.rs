//! `down`: stops what is this mesh's, and with `purge` removes its directory.
//!
//! Where the mesh of that name is on Docker, too, only what is this backend's goes: the secret is that mesh's as well.
//!
//! It needs no topology file. A keeper that answers stops everything in order; where there is none, or it hangs, whatever
//! carries the mesh's mark is ended from here.

use std::{fs, io, path::Path, time::Duration};

use super::client::Client;
use crate::{
    Destroyed, Error, Progress, State,
    docker::files::Files,
    error::Doing as _,
    keeper::SOCKET,
    orphans, proc,
    state::{Lock, remove},
};

/// How long a keeper may take to be gone after its last word.
const GONE: Duration = Duration::from_secs(10);
/// How long an `up` that is under way may take to notice.
const UP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

pub(super) async fn run(state: &State, purge: bool, progress: &dyn Progress) -> Result<Destroyed, Error> {
    let dir = state.dir();
    let mut done = Destroyed::default();
    if !dir.exists() {
        if purge {
            state.sweep()?;
        }
        // Who removed it by hand left the processes.
        done.orphans = end_orphans(state).await?;
        return Ok(done);
    }
    match Client::connect(state).await {
        Ok(Some(client)) => match stop(&client, progress).await {
            Ok(stopped) => done.stopped = stopped,
            Err(error) => progress.note(&format!("{error}; ending every process of the mesh")),
        },
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    // Without the directory another `down` has removed the mesh meanwhile.
    let Some(lock) = wait_for_up(state).await? else { return Ok(done) };
    done.orphans = end_orphans(state).await?;
    if purge && !Files::new(state).dir().exists() {
        state.purge(&lock)?;
    } else {
        let data: &[&str] = if purge { &["pg", "log", "cache"] } else { &[] };
        for part in ["config", "bin"].iter().chain(data) {
            remove(&dir.join(part))?;
        }
        if purge {
            state.sweep()?;
        }
        remove_empty(&dir.join("cache"));
        for file in [SOCKET, "lock"] {
            match fs::remove_file(dir.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing("remove", dir.join(file));
                }
                _ => {}
            }
        }
        done.kept = Some(dir);
    }
    Ok(done)
}

/// Ends every process of the mesh, and says who was there.
pub(super) async fn end_orphans(state: &State) -> Result<Vec<u32>, Error> {
    let dir = state.dir();
    let at = dir.clone();
    let found = tokio::task::spawn_blocking(move || orphans::end(&at, &[std::process::id()]))
        .await
        .map_err(|error| Error::Keeper(format!("failed to end the mesh's processes: {error}")))?;
    let left = proc::marked(&dir);
    if left.is_empty() {
        Ok(found)
    } else {
        Err(Error::Keeper(format!("these processes of mesh {} cannot be ended: {left:?}", state.mesh())))
    }
}

async fn stop(client: &Client<'_>, progress: &dyn Progress) -> Result<Vec<String>, Error> {
    let pid = client.report().await?.pid;
    let stopped = client.stop(progress).await?;
    let deadline = tokio::time::Instant::now() + GONE;
    while proc::is_alive(pid) {
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Keeper(format!("the keeper (process {pid}) does not end")));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(stopped)
}

/// An `up` that is under way has just lost its keeper: it ends.
async fn wait_for_up(state: &State) -> Result<Option<Lock>, Error> {
    let deadline = tokio::time::Instant::now() + UP;
    loop {
        match state.lock_if_there() {
            Err(Error::Busy(_)) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            result => return result,
        }
    }
}

/// pg-embed makes directories for a download that rarely comes; one that came is kept. What cannot be removed stays.
fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::MeshName;

    use super::*;
    use crate::Quiet;

    #[tokio::test]
    async fn what_the_mesh_of_that_name_on_docker_needs_stays() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path(), MeshName::new("m").unwrap());
        for part in ["bin", "config", "log", "pg/origin-db", "cache/x", "docker/nodes/peer-1"] {
            fs::create_dir_all(state.dir().join(part)).unwrap();
        }
        state.create_secret().unwrap();
        let done = run(&state, true, &Quiet).await.unwrap();
        assert_eq!(done.kept, Some(state.dir()));
        let mut left: Vec<_> =
            fs::read_dir(state.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["apply.lock", "docker", "secret"]);
        assert!(state.dir().join("docker/nodes/peer-1").exists());
        Files::new(&state).remove().unwrap();
        assert_eq!(run(&state, true, &Quiet).await.unwrap().kept, None);
        assert!(!state.dir().exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn several_at_once_all_succeed() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path(), MeshName::new("m").unwrap());
        for _ in 0..20 {
            for part in ["bin", "config", "log", "pg/origin-db", "cache"] {
                fs::create_dir_all(state.dir().join(part)).unwrap();
            }
            let down = |purge| {
                let state = state.clone();
                tokio::spawn(async move { run(&state, purge, &Quiet).await })
            };
            let all = [true, false, true, false].map(down);
            for done in all {
                done.await.unwrap().unwrap();
            }
            assert!(!state.dir().exists());
        }
    }
}

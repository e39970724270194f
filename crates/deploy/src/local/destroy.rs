//! `down`: stops what is this mesh's, and with `purge` removes its directory.
//!
//! It needs no topology file. A keeper that answers stops everything in order; where there is none, or it hangs, whatever
//! carries the mesh's mark is ended from here.

use std::{fs, io, path::Path, time::Duration};

use super::client::Client;
use crate::{
    Destroyed, Error, Progress, State, error::Doing as _, keeper::SOCKET, orphans, proc, state::Lock,
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
    let _lock = wait_for_up(state).await?;
    let at = dir.clone();
    done.orphans = tokio::task::spawn_blocking(move || orphans::end(&at, &[std::process::id()]))
        .await
        .map_err(|error| Error::Keeper(format!("failed to end the mesh's processes: {error}")))?;
    let left = proc::marked(&dir);
    if !left.is_empty() {
        return Err(Error::Keeper(format!(
            "these processes of mesh {} cannot be ended: {left:?}",
            state.mesh()
        )));
    }
    if purge {
        remove(&dir)?;
    } else {
        for part in ["config", "bin"] {
            remove(&dir.join(part))?;
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
async fn wait_for_up(state: &State) -> Result<Lock, Error> {
    let deadline = tokio::time::Instant::now() + UP;
    loop {
        match state.lock() {
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

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", dir),
        _ => Ok(()),
    }
}

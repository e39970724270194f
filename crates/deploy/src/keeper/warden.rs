//! The warden: a process beside the keeper that sleeps until the keeper is gone, and then ends whatever it left behind.
//!
//! An orderly keeper leaves nothing; one that was killed with SIGKILL leaves peers and postmasters. Whoever kills the warden
//! as well finds them ended by the next `up` or `down`.

use std::{env, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use crate::{
    error::{Doing as _, Error},
    orphans,
    state::Lock,
};

/// How long the kernel may take to release a dead keeper's lock.
const LOCK: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// The keeper's end of the tie to its warden.
pub(super) struct Warden {
    child: Child,
    tie: Option<ChildStdin>,
}

impl Warden {
    /// Nothing is left: the warden may go.
    pub(super) async fn dismiss(mut self) {
        if let Some(mut tie) = self.tie.take() {
            let _ = tie.write_all(b"done\n").await;
        }
        let _ = tokio::time::timeout(LOCK, self.child.wait()).await;
    }
}

/// Starts it.
pub(super) fn start(dir: &Path) -> Result<Warden, Error> {
    let program = env::current_exe().doing("find", "the running program")?;
    let mut child = Command::new(&program)
        .args(["keeper", "--warden", "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .doing("start", program)?;
    let tie = child.stdin.take();
    Ok(Warden { child, tie })
}

/// Is it.
pub(super) async fn run(dir: &Path) -> Result<(), Error> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    if matches!(stdin.read(&mut buffer).await, Ok(length) if length > 0) {
        return Ok(()); // the keeper ends in order
    }
    let deadline = tokio::time::Instant::now() + LOCK;
    let _lock = loop {
        match Lock::take(&dir.join("lock"))? {
            Some(lock) => break lock,
            // Either the dead keeper's, which the kernel is about to release, or that of a new keeper, which ends
            // orphans itself.
            None if tokio::time::Instant::now() > deadline => return Ok(()),
            None => tokio::time::sleep(LOOK).await,
        }
    };
    let found = orphans::end(dir, &[std::process::id()]);
    if !found.is_empty() {
        tracing::warn!(processes = ?found, "the keeper was killed; ended what it left behind");
    }
    Ok(())
}

//! A temporary folder that goes with its value, and, where its process was killed, with the next one's.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

const PREFIX: &str = "hopcast-ingest-";
/// A folder younger than this may be about to be locked.
const YOUNG: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Scratch {
    folder: TempDir,
    /// flock(2) on the folder: the kernel drops it with the process.
    _lock: File,
}

impl Scratch {
    /// A new one in `parent`. What killed processes have left there is removed.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        sweep(parent, SystemTime::now());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::open(folder.path())?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes folders of this kind that no process holds. Those of others, or that resist, stay.
fn sweep(parent: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let age =
            entry.metadata().and_then(|seen| seen.modified()).ok().and_then(|at| now.duration_since(at).ok());
        let left = age.is_some_and(|age| age > YOUNG)
            && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
        if left {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_in_use_or_young_or_of_others_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = Scratch::new(parent.path()).unwrap();
        let (left, other) = (parent.path().join("hopcast-ingest-left"), parent.path().join("other"));
        for folder in [&left, &other] {
            std::fs::create_dir_all(folder.join("64k")).unwrap();
        }
        sweep(parent.path(), SystemTime::now());
        assert!(left.exists(), "it may be about to be locked");
        sweep(parent.path(), SystemTime::now() + 2 * YOUNG);
        assert!(!left.exists() && other.exists() && used.path().exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}

//! The state directory of a mesh: `<root>/<mesh>/`. Paths, the secret, and the locks; it starts nothing.
//!
//! | path | what |
//! | --- | --- |
//! | `secret` | 64 hexadecimal digits, 0600 |
//! | `bin/` | the programs, so that an unprivileged user may execute them |
//! | `config/<node>.json` | 0400 |
//! | `log/<node>.log` | bounded |
//! | `pg/<database>/` | the clusters |
//! | `keeper.sock` | the keeper's control socket |
//! | `lock`, `apply.lock` | held by the keeper, and by who changes the mesh |
//!
//! A lock lies in the directory that a purge takes away. So a purge renames the directory, to `<root>/.purge-<mesh>-...`, and
//! deletes it under that name; and who has waited for a lock looks whether its file is still the one in its place.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use hopcast_protocol::{MeshName, MeshSecret};
use rustix::fs::FlockOperation;

use crate::{
    error::{Doing as _, Error},
    proc,
};

/// How often a lock is taken anew whose directory was purged meanwhile.
const PURGED: usize = 100;

/// Where a mesh keeps what must outlive a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    root: PathBuf,
    mesh: MeshName,
}

impl State {
    /// The default root: `$HOPCAST_STATE`, else `/var/lib/hopcast` for root, else `$XDG_STATE_HOME/hopcast`, else
    /// `~/.local/state/hopcast`.
    pub fn default_root() -> Result<PathBuf, Error> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = if let Some(root) = set("HOPCAST_STATE") {
            root
        } else if rustix::process::geteuid().is_root() {
            "/var/lib/hopcast".into()
        } else if let Some(state) = set("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
            state.join("hopcast")
        } else if let Some(home) = set("HOME") {
            home.join(".local/state/hopcast")
        } else {
            return Err(Error::State(
                "neither HOPCAST_STATE nor HOME is set: set HOPCAST_STATE to a directory".into(),
            ));
        };
        std::path::absolute(&root).doing("find", root)
    }

    /// The mesh of that name under that root; nothing is touched.
    pub fn new(root: impl Into<PathBuf>, mesh: MeshName) -> Self {
        Self { root: root.into(), mesh }
    }

    /// The mesh's name.
    pub fn mesh(&self) -> &MeshName {
        &self.mesh
    }

    /// The directory of all meshes.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the root where there is none. Whatever the umask: the mesh's user passes through it. Nothing in it is
    /// readable by that alone.
    pub fn create_root(&self) -> io::Result<()> {
        if self.root.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.root)?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o755))
    }

    /// The mesh's own directory. It also marks the mesh's processes, in their `HOPCAST_MESH` variable.
    pub fn dir(&self) -> PathBuf {
        self.root.join(self.mesh.as_str())
    }

    /// The log of a node.
    pub fn log(&self, node: &str) -> PathBuf {
        self.dir().join("log").join(format!("{node}.log"))
    }

    fn secret_path(&self) -> PathBuf {
        self.dir().join("secret")
    }

    /// The mesh's secret; `None` where there is none yet.
    pub fn secret(&self) -> Result<Option<MeshSecret>, Error> {
        let path = self.secret_path();
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(256).read_to_string(&mut text).doing("read", &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing("read", path),
        };
        text.trim().parse().map(Some).map_err(|_| {
            Error::State(format!(
                "{} is not 64 hexadecimal digits: put the right file back, or delete it and run `up` (every peer is replaced)",
                path.display()
            ))
        })
    }

    /// The mesh's secret, made where there is none; true where it was made.
    pub fn create_secret(&self) -> Result<(MeshSecret, bool), Error> {
        if let Some(secret) = self.secret()? {
            return Ok((secret, false));
        }
        let secret = MeshSecret::generate()
            .map_err(|error| Error::State(format!("the system gives no random bytes: {error}")))?;
        write_new(&self.secret_path(), format!("{secret}\n").as_bytes(), 0o600)?;
        Ok((secret, true))
    }

    fn lock_path(&self) -> PathBuf {
        self.dir().join("apply.lock")
    }

    /// Excludes every other `up` and `down` of this mesh until dropped.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.lock_path();
        for _ in 0..PURGED {
            let Some(lock) = Lock::take(&path)? else { break };
            if lock.is_at(&path) {
                return Ok(lock);
            }
        }
        Err(Error::Busy(self.mesh.clone()))
    }

    /// The same, for who removes the mesh: `None` where it has no directory (any more).
    pub(crate) fn lock_if_there(&self) -> Result<Option<Lock>, Error> {
        match self.lock() {
            // A directory that is there now, after all, is that of a later `up`.
            Err(error) if is_gone(&error) => Ok(None),
            locked => locked.map(Some),
        }
    }

    /// The same, for who needs the mesh's directories: `make` makes what is missing of them.
    pub(crate) fn lock_made<T>(&self, make: impl Fn() -> Result<T, Error>) -> Result<(T, Lock), Error> {
        let locked = || {
            make()?;
            let lock = self.lock()?;
            // What was made was purged, perhaps, and somebody else made the directory with the lock. From here on it stays.
            Ok((make()?, lock))
        };
        for _ in 1..PURGED {
            match locked() {
                Err(error) if is_gone(&error) => {}
                result => return result,
            }
        }
        locked()
    }

    /// Removes the mesh's directory, whose lock the caller holds, and what purges that were killed have left.
    pub(crate) fn purge(&self, _lock: &Lock) -> Result<(), Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", self.purge_prefix(), std::process::id());
        let (dir, aside) = (self.dir(), self.root.join(name));
        // Of an earlier process that had this number.
        remove(&aside)?;
        fs::rename(&dir, &aside).doing("remove", dir)?;
        // Who had found the directory before it was renamed may still make one file in it.
        for _ in 1..PURGED {
            match remove(&aside) {
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(error),
                Ok(()) => return self.sweep(),
            }
        }
        remove(&aside)?;
        self.sweep()
    }

    /// Removes what purges of this mesh that were killed have left.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let prefix = self.purge_prefix();
        for entry in fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            // `<process>-<number>`; other meshes' names may begin like this one's.
            let Some(left) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
            let Some((process, number)) = left.split_once('-') else { continue };
            let (Ok(process), Ok(_)) = (process.parse(), number.parse::<u32>()) else { continue };
            if !proc::is_alive(process) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn purge_prefix(&self) -> String {
        format!(".purge-{}-", self.mesh)
    }

    /// Every mesh that has a directory under the root.
    pub fn all(root: &Path) -> Result<Vec<Self>, Error> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("read", root),
        };
        let mut meshes: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| MeshName::new(entry.file_name().to_str()?).ok())
            .map(|mesh| Self::new(root, mesh))
            .collect();
        meshes.sort_by(|a, b| a.mesh.cmp(&b.mesh));
        Ok(meshes)
    }
}

/// A file or its directory was not there.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Removes a directory and everything in it, if it is there.
pub(crate) fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", dir),
        _ => Ok(()),
    }
}

/// Writes a whole file under its name at once, or not at all.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing("remove", temporary);
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .doing("create", &temporary)?;
    file.write_all(bytes).doing("write", &temporary)?;
    fs::rename(&temporary, path).doing("write", path)
}

/// An advisory lock (`flock`) on a file; the kernel drops it with its process.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// `None` where another process holds it.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .doing("open", path)?;
        Ok(if lock(&file, path)? { Some(Self(file)) } else { None })
    }

    /// The file that is locked is the one that everybody else finds at its path.
    fn is_at(&self, path: &Path) -> bool {
        match (self.0.metadata(), fs::metadata(path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Another process holds it. The file is not created: it belongs to who takes the lock.
    pub(crate) fn is_held(path: &Path) -> Result<bool, Error> {
        match File::open(path) {
            Ok(file) => Ok(!lock(&file, path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).doing("open", path),
        }
    }
}

/// False where another process holds it.
fn lock(file: &File, path: &Path) -> Result<bool, Error> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(io::Error::from(error)).doing("lock", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path(), MeshName::new("m").unwrap());
        fs::create_dir(state.dir()).unwrap();
        (root, state)
    }

    #[test]
    fn a_secret_is_made_once_and_kept_to_its_owner() {
        let (_root, state) = state();
        assert!(state.secret().unwrap().is_none());
        let (secret, new) = state.create_secret().unwrap();
        assert!(new);
        assert_eq!(fs::metadata(state.secret_path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(state.create_secret().unwrap(), (secret, false));
    }

    #[test]
    fn a_broken_secret_is_an_error_and_stays() {
        let (_root, state) = state();
        fs::write(state.secret_path(), "nonsense").unwrap();
        assert!(state.create_secret().unwrap_err().to_string().contains("64 hexadecimal digits"));
        assert_eq!(fs::read_to_string(state.secret_path()).unwrap(), "nonsense");
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let (_root, state) = state();
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(Error::Busy(_))));
        assert!(Lock::is_held(&state.dir().join("apply.lock")).unwrap());
        drop(held);
        assert!(!Lock::is_held(&state.dir().join("apply.lock")).unwrap());
        assert!(!Lock::is_held(&state.dir().join("lock")).unwrap());
        assert!(!state.dir().join("lock").exists(), "asking does not make it");
        state.lock().unwrap();
    }

    #[test]
    fn a_lock_of_a_directory_that_was_purged_is_none() {
        let (root, state) = state();
        let path = state.lock_path();
        let old = state.lock().unwrap();
        assert!(old.is_at(&path));
        state.purge(&old).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing is left");
        assert!(!old.is_at(&path));
        assert!(state.lock_if_there().unwrap().is_none());
        // The next one has a lock of its own.
        let ((), new) = state.lock_made(|| fs::create_dir_all(state.dir()).doing("create", "it")).unwrap();
        assert!(new.is_at(&path) && !old.is_at(&path));
        assert!(matches!(state.lock_if_there(), Err(Error::Busy(_))));
    }

    #[test]
    fn what_a_killed_purge_left_is_removed_and_nothing_else() {
        let (root, state) = state();
        // No process has the greatest number.
        let (dead, alive) = (u32::MAX >> 1, std::process::id());
        let names = [
            (format!(".purge-m-{dead}-0"), false),
            (format!(".purge-m-{alive}-0"), true),
            (format!(".purge-m-2-{dead}-0"), true),
            (".purge-m-mine".to_owned(), true),
        ];
        for (name, _) in &names {
            fs::create_dir_all(root.path().join(name).join("pg")).unwrap();
        }
        assert_eq!(State::all(root.path()).unwrap(), std::slice::from_ref(&state));
        state.sweep().unwrap();
        for (name, stays) in &names {
            assert_eq!(root.path().join(name).exists(), *stays, "{name}");
        }
    }

    #[test]
    fn who_holds_the_lock_keeps_the_directory_while_others_purge_it() {
        const ROUNDS: usize = 200;
        let (_root, state) = &state();
        let again = |error: &Error| matches!(error, Error::Busy(_));
        let dir = state.dir();
        let parts = ["", "bin", "pg"].map(|part| dir.join(part));
        let make = || {
            parts.iter().try_for_each(|part| match fs::create_dir(part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made.doing("create", part),
            })
        };
        std::thread::scope(|scope| {
            // Gone also where an assertion fails.
            let making = std::sync::Arc::new(());
            for _ in 0..2 {
                let making = std::sync::Arc::downgrade(&making);
                scope.spawn(move || {
                    while making.strong_count() > 0 {
                        match state.lock_if_there() {
                            Ok(Some(lock)) => state.purge(&lock).unwrap(),
                            Ok(None) => std::thread::yield_now(),
                            Err(error) if again(&error) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            let mut rounds = 0;
            while rounds < ROUNDS {
                match state.lock_made(make) {
                    Ok(((), _lock)) => {
                        fs::write(dir.join("secret"), "x").unwrap();
                        assert!(parts.iter().all(|part| part.is_dir()));
                        fs::remove_file(dir.join("secret")).unwrap();
                        rounds += 1;
                    }
                    Err(error) if again(&error) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }

    #[test]
    fn finds_the_meshes_under_a_root() {
        let (root, _) = state();
        fs::create_dir(root.path().join(".cache")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let names: Vec<_> =
            State::all(root.path()).unwrap().iter().map(|state| state.mesh().to_string()).collect();
        assert_eq!(names, ["m"]);
    }
}

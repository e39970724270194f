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

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use hopcast_protocol::{MeshName, MeshSecret};
use rustix::fs::FlockOperation;

use crate::error::{Doing as _, Error};

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

    /// Excludes every other `up` and `down` of this mesh until dropped.
    pub fn lock(&self) -> Result<Lock, Error> {
        Lock::take(&self.dir().join("apply.lock"))?.ok_or_else(|| Error::Busy(self.mesh.clone()))
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
pub struct Lock(#[expect(dead_code, reason = "held for its Drop")] File);

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
        use std::os::unix::fs::PermissionsExt as _;
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
    fn finds_the_meshes_under_a_root() {
        let (root, _) = state();
        fs::create_dir(root.path().join(".cache")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let names: Vec<_> =
            State::all(root.path()).unwrap().iter().map(|state| state.mesh().to_string()).collect();
        assert_eq!(names, ["m"]);
    }
}

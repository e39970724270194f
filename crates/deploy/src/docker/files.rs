//! The nodes' files on this machine: `<state>/<mesh>/docker/`, which nobody but its owner enters.
//!
//! | path | what |
//! | --- | --- |
//! | `nodes/<node>/` | is [`FILES`](super::wanted::FILES) in the node's container, read-only |
//! | `pending/<node>` | the node has not been told to reread its files |
//! | `plan.json` | the plan that was applied last, for whoever has no topology file |
//!
//! The files are readable by everyone who gets there: inside a container that is the one user whom the image runs as, on
//! this machine nobody passes the directory above. A directory is bound, not a file, so that an atomic rename is seen.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use hopcast_topology::Plan;

use super::wanted::{Node, Wanted};
use crate::{Error, State, error::Doing as _, state::write_new};

/// How the files of a node differ from what it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// They differ, or the node has not reread them.
    Differ,
    /// The directory that its container has bound is gone: only a new container sees another one.
    Lost,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Of that mesh. Nothing is touched.
    pub fn new(state: &State) -> Self {
        Self { dir: state.dir().join("docker") }
    }

    /// The directory of all.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directories; an error where somebody else could write in them.
    pub fn prepare(&self, state: &State) -> Result<(), Error> {
        state.create_root().doing("create", state.root())?;
        make(&state.dir(), 0o700)?;
        make(&self.dir, 0o700)?;
        let meta = fs::symlink_metadata(&self.dir).doing("look at", &self.dir)?;
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
            return Err(Error::State(format!(
                "{} must be a directory that is yours alone (mode 0700), as keys of the mesh lie in it: remove it, or choose another state root with HOPCAST_STATE",
                self.dir.display()
            )));
        }
        make(&self.dir.join("nodes"), 0o700)?;
        make(&self.dir.join("pending"), 0o700)
    }

    /// What a container has bound.
    pub fn of(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    fn pending(&self, node: &str) -> PathBuf {
        self.dir.join("pending").join(node)
    }

    /// The nodes whose files are not what they should be.
    pub fn stale(&self, wanted: &Wanted) -> HashMap<String, Stale> {
        let look = |node: &Node| {
            let dir = self.of(&node.name);
            if !dir.exists() {
                return Some(Stale::Lost);
            }
            let same = |(name, bytes): (&&str, &Vec<u8>)| {
                fs::read(dir.join(name)).is_ok_and(|there| there == *bytes)
            };
            let fresh = !self.pending(&node.name).exists() && node.files.iter().all(same);
            (!fresh).then_some(Stale::Differ)
        };
        wanted.nodes.iter().filter_map(|node| Some((node.name.clone(), look(node)?))).collect()
    }

    /// Writes the files of a node, each at once or not at all. With `pending` it counts as stale until
    /// [`Files::reread`], whatever happens in between.
    pub fn write(&self, node: &Node, pending: bool) -> Result<(), Error> {
        let dir = self.of(&node.name);
        make(&dir, 0o755)?;
        if pending {
            let mark = self.pending(&node.name);
            fs::write(&mark, "").doing("write", mark)?;
        }
        node.files.iter().try_for_each(|(name, bytes)| self.write_file(&node.name, name, bytes))
    }

    /// Writes one file of a node, at once or not at all.
    pub fn write_file(&self, node: &str, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.of(node).join(name);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        write_new(&path, bytes, 0o444)?;
        // Whatever the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).doing("set the mode of", &path)
    }

    /// The node has reread its files, or begins with them.
    pub fn reread(&self, node: &str) -> Result<(), Error> {
        remove_file(&self.pending(node))
    }

    /// Removes what belongs to no node of the plan.
    pub fn sweep(&self, wanted: &Wanted) -> Result<(), Error> {
        let nodes = self.dir.join("nodes");
        for entry in fs::read_dir(&nodes).doing("read", &nodes)?.filter_map(Result::ok) {
            let name = entry.file_name();
            if !wanted.nodes.iter().any(|node| *node.name == *name) {
                fs::remove_dir_all(entry.path()).doing("remove", entry.path())?;
                if let Some(name) = name.to_str() {
                    self.reread(name)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the plan for whoever has no file.
    pub fn write_plan(&self, plan: &Plan) -> Result<(), Error> {
        let path = self.dir.join("plan.json");
        let bytes = serde_json::to_vec(plan)
            .map_err(|error| Error::State(format!("the plan has no JSON form: {error}")))?;
        write_new(&path, &bytes, 0o600)
    }

    /// The plan that was applied last; `None` where none is kept.
    pub fn plan(&self) -> Result<Option<Plan>, Error> {
        let path = self.dir.join("plan.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::State(format!("{} is of another version ({error}): run `hopcast up`", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("read", path),
        }
    }

    /// Removes everything.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", &self.dir),
            _ => Ok(()),
        }
    }
}

fn make(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing("set the mode of", path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).doing("create", path),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
        _ => Ok(()),
    }
}

//! The user that a mesh's processes run as. PostgreSQL refuses to run as root, so root picks an unprivileged one.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
};

use crate::error::{Doing as _, Error};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// `postgres`.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// This process runs as another user (root) and must change to it.
    pub other: bool,
}

impl Account {
    /// For root: who owns the mesh's directory already, unless that is root, else `postgres`, else `nobody`. For anyone
    /// else: themselves.
    pub(crate) fn choose(mesh_dir: &Path) -> Result<Self, Error> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let owner = fs::metadata(mesh_dir).ok().map(|meta| meta.uid());
        let passwd = fs::read_to_string("/etc/passwd").doing("read", "/etc/passwd")?;
        if !uid.is_root() {
            if let Some(owner) = owner.filter(|&owner| owner != uid.as_raw()) {
                return Err(Error::State(format!(
                    "{} belongs to {}: use that user, or another state root (HOPCAST_STATE), or another mesh name",
                    mesh_dir.display(),
                    name_of(&passwd, owner)
                )));
            }
            let name = name_of(&passwd, uid.as_raw());
            return Ok(Self { name, uid: uid.as_raw(), gid: gid.as_raw(), other: false });
        }
        let entries = || passwd.lines().filter_map(entry);
        let owned =
            owner.filter(|&owner| owner != 0).and_then(|owner| entries().find(|found| found.uid == owner));
        owned
            .or_else(|| entries().find(|found| found.name == "postgres" && found.uid != 0))
            .or_else(|| entries().find(|found| found.name == "nobody" && found.uid != 0))
            .ok_or_else(|| {
                Error::State(
                    "PostgreSQL does not run as root, and /etc/passwd has neither `postgres` nor `nobody`: add one, or run hopcast as another user".into(),
                )
            })
    }

    /// Makes a directory, where there is none, that belongs to this user.
    pub(crate) fn directory(&self, path: &Path, mode: u32) -> Result<(), Error> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        match fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).doing("create", path);
            }
            _ => {}
        }
        let meta = fs::symlink_metadata(path).doing("look at", path)?;
        if !meta.is_dir() {
            return Err(Error::State(format!("{} is not a directory: remove it", path.display())));
        }
        if self.other && meta.uid() != self.uid {
            chown(path, Some(self.uid), Some(self.gid)).doing("hand over", path)?;
        }
        if meta.mode() & 0o777 != mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing("set the mode of", path)?;
        }
        Ok(())
    }

    /// Fails where a directory above `path` keeps this user out.
    pub(crate) fn can_enter(&self, path: &Path) -> Result<(), Error> {
        if !self.other {
            return Ok(());
        }
        for above in path.ancestors().skip(1) {
            let meta = fs::metadata(above).doing("look at", above)?;
            let mode = meta.mode();
            let may = if meta.uid() == self.uid {
                mode & 0o100
            } else if meta.gid() == self.gid {
                mode & 0o010
            } else {
                mode & 0o001
            };
            if may == 0 {
                return Err(Error::State(format!(
                    "the mesh's processes run as {}, who may not enter {} (mode {:04o}): choose a state root elsewhere with HOPCAST_STATE, or `chmod o+x` it",
                    self.name,
                    above.display(),
                    mode & 0o7777
                )));
            }
        }
        Ok(())
    }
}

fn entry(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { name, uid, gid, other: true })
}

fn name_of(passwd: &str, uid: u32) -> String {
    passwd
        .lines()
        .filter_map(entry)
        .find(|found| found.uid == uid)
        .map_or_else(|| format!("user {uid}"), |found| found.name)
}

/// The name of a user id, for messages.
pub(crate) fn user_name(uid: u32) -> String {
    name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_passwd() {
        let found =
            entry("postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash").unwrap();
        assert_eq!((found.name.as_str(), found.uid, found.gid), ("postgres", 101, 104));
        assert_eq!(entry("broken:x:one"), None);
        assert_eq!(name_of("a:x:1:1::/:\n", 1), "a");
        assert_eq!(name_of("a:x:1:1::/:\n", 2), "user 2");
    }

    #[test]
    fn a_closed_directory_above_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let open = root.path().join("open");
        fs::create_dir(&open).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 4_000_000, gid: 4_000_000, other: true };
        let error = stranger.can_enter(&open.join("mesh")).unwrap_err().to_string();
        assert!(error.contains(&root.path().display().to_string()) && error.contains("stranger"), "{error}");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.can_enter(&open.join("mesh")).unwrap();
    }
}

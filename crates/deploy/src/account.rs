//! The user that a mesh's processes run as. PostgreSQL refuses to run as root, so root picks an unprivileged one.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
};

use rustix::fs::OFlags;

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
        if !fs::symlink_metadata(path).doing("look at", path)?.is_dir() {
            return Err(Error::State(format!("{} is not a directory: remove it", path.display())));
        }
        // Through a descriptor: the directory above may be the mesh's user's, who must not choose what root hands over.
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32)
            .open(path)
            .doing("open", path)?;
        let meta = directory.metadata().doing("look at", path)?;
        if meta.uid() != self.uid {
            self.hand_over(&directory).doing("hand over", path)?;
        }
        if meta.mode() & 0o777 != mode {
            directory.set_permissions(fs::Permissions::from_mode(mode)).doing("set the mode of", path)?;
        }
        Ok(())
    }

    /// Gives what is open to this user, where they are another one.
    pub(crate) fn hand_over(&self, file: &fs::File) -> io::Result<()> {
        if self.other { fchown(file, Some(self.uid), Some(self.gid)) } else { Ok(()) }
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
    fn no_symbolic_link_is_handed_over() {
        let root = tempfile::tempdir().unwrap();
        let (theirs, link) = (root.path().join("theirs"), root.path().join("link"));
        let me = Account {
            name: "me".into(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            other: false,
        };
        me.directory(&theirs, 0o755).unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        assert!(me.directory(&link, 0o700).unwrap_err().to_string().contains("not a directory"));
        assert_eq!(fs::metadata(&theirs).unwrap().mode() & 0o777, 0o755);
        me.directory(&theirs, 0o700).unwrap();
        assert_eq!(fs::metadata(&theirs).unwrap().mode() & 0o777, 0o700);
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

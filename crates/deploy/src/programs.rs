//! The mesh's own programs: where they are, and copies of them that the mesh's user may execute.
//!
//! The copies are named by content. So a rebuilt program changes a running mesh at the next `up` and not before, and the
//! build directory may be closed to the mesh's user.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::error::{Doing as _, Error};

/// The programs of a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `hopcast`: it has the keeper in it.
    pub hopcast: PathBuf,
    /// `hopcast-peer`.
    pub peer: PathBuf,
    /// `hopcast-signalling`.
    pub signalling: PathBuf,
}

impl Programs {
    /// Looks in `$HOPCAST_BIN_DIR`, then beside the running program, then in PATH.
    pub fn find() -> Result<Self, Error> {
        Ok(Self {
            hopcast: find("hopcast")?,
            peer: find("hopcast-peer")?,
            signalling: find("hopcast-signalling")?,
        })
    }

    /// Takes them from one directory.
    pub fn in_dir(dir: &Path) -> Result<Self, Error> {
        let find = |name: &str| {
            let path = dir.join(name);
            if is_executable(&path) {
                Ok(path)
            } else {
                Err(Error::Missing(format!("there is no program {}", path.display())))
            }
        };
        Ok(Self {
            hopcast: find("hopcast")?,
            peer: find("hopcast-peer")?,
            signalling: find("hopcast-signalling")?,
        })
    }
}

fn find(name: &str) -> Result<PathBuf, Error> {
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let set = env::var_os("HOPCAST_BIN_DIR").map(PathBuf::from);
    let path: Vec<_> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    set.into_iter()
        .chain(beside.clone())
        .chain(path)
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path))
        .ok_or_else(|| {
            let beside = beside.map_or_else(String::new, |dir| format!("beside the running program ({}), ", dir.display()));
            Error::Missing(format!("the program {name} is neither {beside}nor in HOPCAST_BIN_DIR or PATH: build it, or set HOPCAST_BIN_DIR"))
        })
}

pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Copies a program to `<dir>/<name>-<first 16 digits of its SHA-256>`, unless it is there.
pub(crate) fn stage(program: &Path, dir: &Path) -> Result<PathBuf, Error> {
    let mut file = fs::File::open(program).doing("open", program)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).doing("read", program)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    let hash = hash.finalize();
    let (number, _) = hash.split_first_chunk().expect("SHA-256 has 32 bytes");
    let digits = format!("{:016x}", u64::from_be_bytes(*number));
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let staged = dir.join(format!("{name}-{digits}"));
    if !staged.exists() {
        let temporary = dir.join(format!(".{name}-{digits}.{}", std::process::id()));
        // Left by a process that was killed and had this one's id.
        let _ = fs::remove_file(&temporary);
        // Never over what is there: the directory is the mesh's user's, and this may be root.
        let mut copy =
            OpenOptions::new().write(true).create_new(true).open(&temporary).doing("create", &temporary)?;
        file.rewind().doing("read", program)?;
        io::copy(&mut file, &mut copy).doing("copy a program to", &temporary)?;
        copy.set_permissions(fs::Permissions::from_mode(0o755)).doing("set the mode of", &temporary)?;
        fs::rename(&temporary, &staged).doing("write", &staged)?;
    }
    Ok(staged)
}

/// Removes staged programs that nothing of the mesh uses any more. A failure harms nobody: the next call tries again.
pub(crate) fn sweep(dir: &Path, used: &[PathBuf]) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if !used.contains(&path) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_program_is_named_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let (source, bin) = (dir.path().join("prog"), dir.path().join("bin"));
        fs::create_dir(&bin).unwrap();
        fs::write(&source, "#!/bin/sh\n").unwrap();
        let first = stage(&source, &bin).unwrap();
        assert_eq!(stage(&source, &bin).unwrap(), first);
        assert!(is_executable(&first));
        fs::write(&source, "#!/bin/sh\ntrue\n").unwrap();
        let second = stage(&source, &bin).unwrap();
        assert_ne!(first, second);
        sweep(&bin, std::slice::from_ref(&second));
        assert!(!first.exists() && second.exists());
    }
}

//! The files of an image, and the tar of them: the same bytes for the same files, whoever made it, when and where.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use crate::error::{Doing as _, Error};

/// Whose a file is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

/// The super user of the image.
pub(crate) const ROOT: Owner = Owner(0);

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    /// A file of this machine.
    Copy(PathBuf),
    /// A file that is nowhere else.
    Bytes(Vec<u8>),
    /// Where the link leads.
    Link(String),
}

#[derive(Debug, Clone)]
struct Entry {
    kind: Kind,
    mode: u32,
    owner: Owner,
}

/// Files by their path in the image, without the first slash. Parents come by themselves: root's, 0755.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// A directory. It may be there already: the last word holds.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: Owner) {
        self.put(path, Entry { kind: Kind::Directory, mode, owner });
    }

    /// A file of this machine, root's: 0755 if it may be executed, else 0644.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<(), Error> {
        let executable = fs::metadata(from).doing("look at", from)?.permissions().mode() & 0o111 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        self.put(path, Entry { kind: Kind::Copy(from.to_owned()), mode, owner: ROOT });
        Ok(())
    }

    /// A file of root's with this text.
    pub(crate) fn text(&mut self, path: &str, text: &str, mode: u32) {
        self.put(path, Entry { kind: Kind::Bytes(text.into()), mode, owner: ROOT });
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.put(path, Entry { kind: Kind::Link(target.to_owned()), mode: 0o777, owner: ROOT });
    }

    /// Whether there is something at this path.
    #[cfg(test)]
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path.trim_start_matches('/'))
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Entry {
                kind: Kind::Directory,
                mode: 0o755,
                owner: ROOT,
            });
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Writes the tar. A file is read whole before its header is written, so one that changes meanwhile harms nothing.
    pub(crate) fn write(&self, out: impl io::Write) -> Result<(), Error> {
        let mut tar = Builder::new(out);
        for (path, entry) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0.into());
            header.set_gid(entry.owner.0.into());
            // One second after the epoch, as in Nix's images: some tools take 0 for "unknown".
            header.set_mtime(1);
            header.set_size(0);
            let read;
            let bytes: &[u8] = match &entry.kind {
                Kind::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    &[]
                }
                Kind::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, path, target).doing("pack a link at", path)?;
                    continue;
                }
                Kind::Bytes(bytes) => bytes,
                Kind::Copy(from) => {
                    read = fs::read(from).doing("read", from)?;
                    &read
                }
            };
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes).doing("pack", path)?;
        }
        tar.finish().doing("end the archive of", "an image's files")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn tar(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&first, "text").unwrap();
        fs::write(&second, "text").unwrap();
        fs::File::options().append(true).open(&second).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let tree = |from: &Path, order: bool| {
            let mut tree = Tree::default();
            if order {
                tree.link("bin", "usr/bin");
            }
            tree.copy("/opt/deep/file", from).unwrap();
            tree.directory("run/postgresql", 0o2775, Owner(999));
            if !order {
                tree.link("bin", "usr/bin");
            }
            tree
        };
        assert_eq!(tar(&tree(&first, true)), tar(&tree(&second, false)));
    }

    #[test]
    fn parents_come_by_themselves_and_long_names_stay_whole() {
        let mut tree = Tree::default();
        let long = format!("{}/x", "directory-with-a-long-name/".repeat(8).trim_end_matches('/'));
        tree.text(&long, "1", 0o600);
        tree.directory("run", 0o700, Owner(7));
        let bytes = tar(&tree);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push((path, header.mode().unwrap(), header.uid().unwrap(), text));
        }
        assert_eq!(seen.len(), 10, "{seen:?}");
        assert_eq!(seen[8], (long, 0o600, 0, "1".into()));
        assert_eq!(seen[9].1, 0o700);
        assert_eq!(seen[9].2, 7);
        assert_eq!(seen[0].1, 0o755);
    }
}

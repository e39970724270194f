//! Which process holds which socket: `/proc/<pid>/fd`, and who started whom.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
};

/// Why a process can't be looked at.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It is gone.
    Gone,
    /// It is there, but we may not look.
    Denied(String),
}

fn unreadable(path: &str, error: &io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Gone,
        // ESRCH: it ended while we looked.
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Unreadable::Gone,
        _ => Unreadable::Denied(format!("{path}: {error}; run verify as root or as the mesh's user")),
    }
}

/// The inodes of a process's sockets.
pub(crate) fn sockets(pid: u32) -> Result<Vec<u64>, Unreadable> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
    let mut inodes = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
        match fs::read_link(&path) {
            Ok(link) => inodes.extend(inode(&link)),
            // That descriptor was closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path.to_string_lossy(), &error)),
        }
    }
    Ok(inodes)
}

/// `socket:[511201]`.
fn inode(link: &std::path::Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The process's network namespace; processes of one namespace share one socket table.
pub(crate) fn namespace(pid: u32) -> Result<PathBuf, Unreadable> {
    let path = format!("/proc/{pid}/ns/net");
    fs::read_link(&path).map_err(|error| unreadable(&path, &error))
}

/// The TCP tables of a process's network namespace.
pub(crate) fn tables(pid: u32) -> Result<[String; 2], Unreadable> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/net/{name}");
        match fs::read_to_string(&path) {
            Ok(table) => Ok(table),
            // A kernel without IPv6.
            Err(error) if name == "tcp6" && error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(unreadable(&path, &error)),
        }
    };
    Ok([read("tcp")?, read("tcp6")?])
}

/// The parent from `/proc/<pid>/stat`. The command in parentheses may contain anything, also parentheses.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Every process with its parent.
fn parents() -> io::Result<Vec<(u32, u32)>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent)
        {
            parents.push((pid, parent));
        }
    }
    Ok(parents)
}

/// Adds to each root the processes that it started, and that they started, unless they are roots themselves.
pub(crate) fn families(roots: &HashSet<u32>) -> io::Result<HashMap<u32, u32>> {
    Ok(descend(roots, &parents()?))
}

/// Process to root.
fn descend(roots: &HashSet<u32>, parents: &[(u32, u32)]) -> HashMap<u32, u32> {
    let mut root_of: HashMap<u32, u32> = roots.iter().map(|&root| (root, root)).collect();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for &(pid, parent) in parents {
        children.entry(parent).or_default().push(pid);
    }
    let mut queue: Vec<u32> = roots.iter().copied().collect();
    while let Some(pid) = queue.pop() {
        let root = root_of[&pid];
        for &child in children.get(&pid).into_iter().flatten() {
            if let std::collections::hash_map::Entry::Vacant(new) = root_of.entry(child) {
                new.insert(root);
                queue.push(child);
            }
        }
    }
    root_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_command() {
        assert_eq!(parent("4242 (hopcast-peer) S 17 4242 17 0 -1 4194304"), Some(17));
        assert_eq!(parent("4242 (a) b (c) R 18 1 1"), Some(18));
        assert_eq!(parent("nonsense"), None);
    }

    #[test]
    fn a_process_belongs_to_the_nearest_root_above_it() {
        let roots = HashSet::from([10, 20]);
        let found = descend(&roots, &[(10, 1), (11, 10), (12, 11), (20, 10), (21, 20), (30, 1)]);
        let expected = HashMap::from([(10, 10), (11, 10), (12, 10), (20, 20), (21, 20)]);
        assert_eq!(found, expected);
    }

    #[test]
    fn our_own_socket_is_found_and_a_missing_process_is_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = std::process::id();
        let table = tables(pid).unwrap();
        let local = listener.local_addr().unwrap();
        let line =
            super::super::sockets::parse(&table[0]).unwrap().into_iter().find(|s| s.local == local).unwrap();
        assert!(sockets(pid).unwrap().contains(&line.inode));
        assert!(matches!(sockets(u32::MAX - 1), Err(Unreadable::Gone)));
    }
}

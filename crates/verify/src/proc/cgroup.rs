//! What the kernel counts and allows for a control group as a whole: `docker stats` shows these figures.
//!
//! Both hierarchies are read: in version 1 the memory controller has a tree of its own below `/sys/fs/cgroup/memory`, in
//! version 2 all controllers share one (cgroups(7)). Version 1 counts TCP buffers apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Counted, without file pages that the kernel would give up first.
    pub(crate) used: u64,
    /// Most that it may take; [`UNLIMITED`]: as much as there is.
    pub(crate) limit: u64,
}

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// The names of a version's files.
struct Layout {
    tree: &'static str,
    used: &'static str,
    limit: &'static str,
    inactive: &'static str,
}

const V1: Layout = Layout {
    tree: "memory",
    used: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    inactive: "total_inactive_file",
};
const V2: Layout =
    Layout { tree: "", used: "memory.current", limit: "memory.max", inactive: "inactive_file" };

/// Finds a process's group in `/proc/<pid>/cgroup`: `7:memory:/docker/<id>` in version 1, `0::/docker/<id>` in version 2. A
/// machine may have both; the one with the memory controller counts.
fn find(table: &str) -> Option<(Layout, &str)> {
    let mut unified = None;
    for line in table.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.split(',').any(|name| name == "memory") {
            return Some((V1, path));
        }
        if controllers.is_empty() {
            unified = Some(path);
        }
    }
    Some((V2, unified?))
}

/// `max`, or the largest number of whole pages, is no limit.
fn limit(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(UNLIMITED),
        number => number.parse().ok().map(|bytes| if bytes < 1 << 60 { bytes } else { UNLIMITED }),
    }
}

fn stat(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read_in(root: &Path, table: &str) -> Result<Group, String> {
    let (layout, path) = find(table).ok_or("it is in no control group that counts memory")?;
    let folder: PathBuf = root.join(layout.tree).join(path.trim_start_matches('/'));
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
    };
    let broken = |name: &str| format!("{} has another form", folder.join(name).display());
    let used: u64 = read(layout.used)?.trim().parse().map_err(|_| broken(layout.used))?;
    let inactive = stat(&read("memory.stat")?, layout.inactive).ok_or_else(|| broken("memory.stat"))?;
    let limit = limit(&read(layout.limit)?).ok_or_else(|| broken(layout.limit))?;
    Ok(Group { used: used.saturating_sub(inactive), limit })
}

/// The group of a process.
pub(crate) fn read(pid: u32) -> Result<Group, String> {
    let path = format!("/proc/{pid}/cgroup");
    let table = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    read_in(Path::new(ROOT), &table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        folder
    }

    #[test]
    fn both_versions_are_read() {
        let v1 = group(&[
            ("memory/docker/abc/memory.usage_in_bytes", "2097152\n"),
            ("memory/docker/abc/memory.limit_in_bytes", "15728640\n"),
            ("memory/docker/abc/memory.stat", "cache 9\ninactive_file 1\ntotal_inactive_file 97152\n"),
        ]);
        let table = "12:cpu,cpuacct:/docker/abc\n7:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/x\n";
        let expected = Group { used: 2_000_000, limit: 15 << 20 };
        assert_eq!(read_in(v1.path(), table), Ok(expected));

        let v2 = group(&[
            ("docker/abc/memory.current", "2097152\n"),
            ("docker/abc/memory.max", "15728640\n"),
            ("docker/abc/memory.stat", "anon 9\ninactive_file 97152\n"),
        ]);
        assert_eq!(read_in(v2.path(), "0::/docker/abc\n"), Ok(expected));
        fs::write(v2.path().join("docker/abc/memory.max"), "max\n").unwrap();
        assert_eq!(read_in(v2.path(), "0::/docker/abc\n").unwrap().limit, UNLIMITED);
    }

    #[test]
    fn what_is_not_there_is_no_zero() {
        let empty = group(&[]);
        assert!(read_in(empty.path(), "0::/docker/abc\n").unwrap_err().contains("memory.current"));
        assert!(read_in(empty.path(), "3:pids:/docker/abc\n").is_err());
        assert_eq!(limit("9223372036854771712\n"), Some(UNLIMITED));
        assert_eq!(limit("what"), None);
    }
}

//! What the kernel says about processes (`/proc`, see proc(5)). Read only.
//!
//! A process that is gone, or that this user may not look at, simply has no answer.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// The environment variable that marks a mesh's processes; its value is the mesh's state directory.
pub(crate) const MARK: &str = "HOPCAST_MESH";

/// Every process id.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State letter and parent (fields 3 and 4 of `/proc/<pid>/stat`).
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself contain some.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// It is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// It was stopped by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// The processes that it started and that live.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    all().filter(|&pid| stat(pid).is_some_and(|(_, found)| found == parent)).collect()
}

/// Resident memory, in KiB.
pub(crate) fn rss_kb(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The value of a variable of the environment that it was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<PathBuf> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes
        .split(|&byte| byte == 0)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(|value| PathBuf::from(OsStr::from_bytes(value)))
}

/// Every live process that carries this mesh's mark.
pub(crate) fn marked(mesh_dir: &Path) -> Vec<u32> {
    all().filter(|&pid| variable(pid, MARK).is_some_and(|dir| dir == mesh_dir) && is_alive(pid)).collect()
}

/// Its working directory.
pub(crate) fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Some live process has this working directory.
pub(crate) fn works_in(dir: &Path) -> bool {
    fs::canonicalize(dir)
        .is_ok_and(|dir| all().any(|pid| cwd(pid).is_some_and(|cwd| cwd == dir) && is_alive(pid)))
}

/// Its command line with spaces between, at most 80 characters of it.
pub(crate) fn command(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned();
    if text.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        return Some(name.trim().to_owned());
    }
    Some(if text.chars().count() > 80 { text.chars().take(77).chain("...".chars()).collect() } else { text })
}

/// The process of a cluster's `postmaster.pid`, if it lives and really works in that directory.
pub(crate) fn postmaster(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    let data = fs::canonicalize(data).ok()?;
    (is_alive(pid) && cwd(pid)? == data).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_itself_and_its_children() {
        let me = std::process::id();
        assert!(is_alive(me) && !is_stopped(me));
        assert!(rss_kb(me).unwrap() > 100);
        let mut child =
            std::process::Command::new("sleep").arg("60").env(MARK, "/a mesh of tests").spawn().unwrap();
        assert!(children(me).contains(&child.id()));
        // The environment is the parent's until the child has executed its program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while marked(Path::new("/a mesh of tests")) != [child.id()] {
            assert!(std::time::Instant::now() < deadline, "the mark was not found");
            std::thread::yield_now();
        }
        assert_eq!(command(child.id()).unwrap(), "sleep 60");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
        assert!(marked(Path::new("/a mesh of tests")).is_empty());
    }

    #[test]
    fn who_works_in_a_directory_is_seen_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!works_in(dir.path()));
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
        assert!(works_in(dir.path()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!works_in(dir.path()));
    }

    #[test]
    fn a_stale_postmaster_file_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(postmaster(dir.path()), None);
        std::fs::write(dir.path().join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(postmaster(dir.path()), None, "this process does not work there");
    }
}

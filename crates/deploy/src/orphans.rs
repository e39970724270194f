//! Ends what an earlier keeper has left behind: processes that carry the mesh's mark, and postmasters of its clusters.
//!
//! Needed where a keeper was killed with SIGKILL. Who calls it holds the mesh's lock, so nobody starts anything meanwhile.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::proc;

/// How long they may take to end in order.
const POLITE: Duration = Duration::from_secs(5);
/// How long the kernel may take to remove them after that.
const FORCED: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Sends a signal to a process only if it still is what `is_it` says: its id may have gone to another one meanwhile.
fn signal(pid: u32, signal: Signal, is_it: impl Fn(u32) -> bool) {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // A descriptor of the process pins its identity between the look and the signal.
    if let Ok(descriptor) = pidfd_open(raw, PidfdFlags::empty())
        && is_it(pid)
    {
        let _ = pidfd_send_signal(&descriptor, signal);
    }
}

/// Ends every process of the mesh but `except`, and returns who was there. Blocks up to ten seconds.
pub(crate) fn end(mesh_dir: &Path, except: &[u32]) -> Vec<u32> {
    let is_marked = |pid: u32| proc::variable(pid, proc::MARK).is_some_and(|dir| dir == mesh_dir);
    let marked = || proc::marked(mesh_dir).into_iter().filter(|pid| !except.contains(pid));
    let clusters: Vec<_> = fs::read_dir(mesh_dir.join("pg"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    let postmasters = || clusters.iter().filter_map(|data| Some((data, proc::postmaster(data)?)));

    let mut found = Vec::new();
    // SIGINT is PostgreSQL's fast shutdown; a server in it disconnects its clients first.
    for (data, pid) in postmasters() {
        found.push(pid);
        signal(pid, Signal::INT, |pid| proc::postmaster(data) == Some(pid));
        signal(pid, Signal::CONT, |pid| proc::postmaster(data) == Some(pid));
    }
    for pid in marked().filter(|pid| !found.contains(pid)).collect::<Vec<_>>() {
        found.push(pid);
        signal(pid, Signal::TERM, is_marked);
        signal(pid, Signal::CONT, is_marked);
    }
    let gone = |limit: Duration| {
        let deadline = Instant::now() + limit;
        while found.iter().any(|&pid| proc::is_alive(pid)) {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    };
    if !gone(POLITE) {
        for (data, pid) in postmasters() {
            // Its children see that it is gone and follow.
            signal(pid, Signal::KILL, |pid| proc::postmaster(data) == Some(pid));
        }
        for pid in marked() {
            signal(pid, Signal::KILL, is_marked);
        }
        gone(FORCED);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn ends_marked_processes_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let run = |mark: &Path| {
            // It ignores SIGTERM only by being stopped; SIGCONT must follow.
            let child = Command::new("sleep").arg("600").env(proc::MARK, mark).spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            while !proc::marked(mark).contains(&child.id()) {
                assert!(Instant::now() < deadline);
                thread::yield_now();
            }
            child
        };
        let mut ours = run(dir.path());
        let mut spared = run(dir.path());
        let mut other = run(&dir.path().join("other"));
        rustix::process::kill_process(Pid::from_child(&ours), Signal::STOP).unwrap();
        assert_eq!(end(dir.path(), &[spared.id()]), [ours.id()]);
        assert!(!ours.wait().unwrap().success());
        for child in [&mut spared, &mut other] {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

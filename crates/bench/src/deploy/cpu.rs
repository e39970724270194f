//! Who spends the processor's time while containers are started: `/proc/<pid>/stat` of the engine's processes, before and
//! after. Only what ran on this machine meanwhile on the engine's account is told apart; the whole machine's time is there
//! to see what is missing, and how much others disturbed.

use std::{collections::HashMap, fs};

use serde::Serialize;

/// Processor time, in milliseconds for each container.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Spent {
    /// dockerd itself.
    pub dockerd: f64,
    /// What dockerd ran and waited for: iptables, mounts.
    pub dockerd_children: f64,
    /// containerd itself.
    pub containerd: f64,
    /// What it ran and waited for: the first process of each shim.
    pub containerd_children: f64,
    /// The shims themselves.
    pub shims: f64,
    /// What they ran and waited for: runc, and dockerd's part of it that enters the network namespace.
    pub shims_children: f64,
    /// The processes of the storage driver fuse-overlayfs.
    pub storage: f64,
    /// The whole machine, whoever it was.
    pub machine: f64,
}

/// User and system time of a process and of the children that it waited for, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ticks {
    own: u64,
    children: u64,
}

/// The processes of a moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    processes: HashMap<u32, (String, Ticks)>,
    busy: u64,
}

impl Snapshot {
    pub(super) fn take() -> Self {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let processes = pids
            .filter_map(|pid| Some((pid, parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
            .collect();
        let busy = fs::read_to_string("/proc/stat").ok().and_then(|text| busy(&text)).unwrap_or_default();
        Self { processes, busy }
    }

    /// What was spent since then, for each of so many containers.
    pub(super) fn since(&self, before: &Self, containers: usize) -> Spent {
        let of = |name: &str| {
            let mut sum = Ticks::default();
            for (pid, (_, now)) in self.processes.iter().filter(|(_, (found, _))| found == name) {
                let then = match before.processes.get(pid) {
                    Some((found, then)) if found == name => *then,
                    _ => Ticks::default(),
                };
                sum.own += now.own.saturating_sub(then.own);
                sum.children += now.children.saturating_sub(then.children);
            }
            sum
        };
        let ticks_a_second = rustix::param::clock_ticks_per_second() as f64;
        let each = |ticks: u64| ticks as f64 * 1e3 / ticks_a_second / containers.max(1) as f64;
        let (dockerd, containerd, shims) = (of("dockerd"), of("containerd"), of(SHIM));
        let storage = of("fuse-overlayfs");
        Spent {
            dockerd: each(dockerd.own),
            dockerd_children: each(dockerd.children),
            containerd: each(containerd.own),
            containerd_children: each(containerd.children),
            shims: each(shims.own),
            shims_children: each(shims.children),
            storage: each(storage.own + storage.children),
            machine: each(self.busy.saturating_sub(before.busy)),
        }
    }

    /// One shim's proportional and resident set size, in KiB: means of all there are; 0 where none can be looked at.
    pub(super) fn shim_memory(&self) -> (u64, u64) {
        let shims = self.processes.iter().filter(|(_, (name, _))| name == SHIM);
        let sizes: Vec<_> = shims
            .filter_map(|(pid, _)| {
                let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
                let field = |name: &str| -> Option<u64> {
                    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                    line.trim().strip_suffix("kB")?.trim().parse().ok()
                };
                Some((field("Pss:")?, field("Rss:")?))
            })
            .collect();
        let count = sizes.len().max(1) as u64;
        (
            sizes.iter().map(|size| size.0).sum::<u64>() / count,
            sizes.iter().map(|size| size.1).sum::<u64>() / count,
        )
    }
}

/// `containerd-shim-runc-v2`, as the kernel shortens it.
const SHIM: &str = "containerd-shim";

/// Name and times of `/proc/<pid>/stat` (proc(5): utime, stime, cutime, cstime are the fields 14 to 17).
fn parse(stat: &str) -> Option<(String, Ticks)> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(begin + 1..end)?.to_owned();
    // The field after the name is the third.
    let fields: Vec<_> = stat.get(end + 1..)?.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((name, Ticks { own: field(14)? + field(15)?, children: field(16)? + field(17)? }))
}

/// Ticks of all processors that were not idle, of `/proc/stat`.
fn busy(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    Some(
        fields
            .iter()
            .take(8)
            .enumerate()
            .filter(|(at, _)| !matches!(at, 3 | 4))
            .map(|(_, ticks)| ticks)
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_processes_count_whole_and_old_ones_from_then_on() {
        let stat = |name: &str, own: u64, children: u64| {
            format!("7 ({name}) S 1 7 7 0 -1 4194560 9 9 9 9 {own} 0 {children} 0 20 0 12 0 99 1 1")
        };
        let snapshot = |processes: &[(u32, String)], busy| Snapshot {
            processes: processes.iter().map(|(pid, text)| (*pid, parse(text).unwrap())).collect(),
            busy,
        };
        let before = snapshot(&[(1, stat("dockerd", 100, 10)), (2, stat("a (b) c", 5, 5))], 0);
        let after = snapshot(
            &[
                (1, stat("dockerd", 300, 10)),
                (2, stat("containerd-shim", 20, 40)),
                (3, stat("containerd-shim", 0, 60)),
            ],
            1000,
        );
        let spent = after.since(&before, 2);
        let tick = 1e3 / rustix::param::clock_ticks_per_second() as f64 / 2.0;
        assert_eq!((spent.dockerd, spent.dockerd_children), (200.0 * tick, 0.0));
        assert_eq!((spent.shims, spent.shims_children), (20.0 * tick, 100.0 * tick));
        assert_eq!((spent.machine, spent.storage), (1000.0 * tick, 0.0));
        assert_eq!(busy("cpu  1 2 3 400 500 6 7 8 9 10\ncpu0 1\n"), Some(27));
    }
}

//! What the machine has: memory, processors, descriptors, threads, disk.

use std::fs;

use hopcast_topology::Plan;

use super::{engine::Facts, memory::Memory};
use crate::{Finding, Verdict, proc};

/// Descriptors that dockerd has for each running container: two pipes for its output, its log, and what they are read with
/// (measured: 8), and those of its own.
const DESCRIPTORS: u64 = 8;
const DESCRIPTORS_ALONE: u64 = 64;
/// Threads of a container with its shim (measured: 12 and one or two of the node).
const THREADS: u64 = 14;
/// Processes of a PostgreSQL server without clients: its own, and those of the replication.
const SERVER: u64 = 12;
/// Processor time until a container runs, in seconds (measured: 0.21 to 0.27, nearly all of it the engine's).
const START: f64 = 0.25;
/// What one idle peer takes of a core, in per cent (measured).
const IDLE: f64 = 0.39 / 160.0;
/// What a database takes on disk, empty and with its write-ahead log.
const DATABASE_DISK: u64 = 256 << 20;
/// Images, and room for the engine's own.
const IMAGES_DISK: u64 = 256 << 20;
/// A node's log has one file of 1 MB at most.
const LOG_DISK: u64 = 1 << 20;

const MIB: u64 = 1 << 20;

/// `there`: the mesh runs, and has what it needs.
pub(super) fn look(plan: &Plan, facts: &Facts, memory: &Memory, there: bool) -> Vec<Finding> {
    let nodes = (plan.peers.len() + plan.edges.len() + 2) as u64;
    let mut findings = vec![
        of_memory(memory, if there { None } else { available() }, facts.memory, plan),
        of_cpu(plan, facts.cpus, nodes),
    ];
    findings.extend(of_descriptors(nodes));
    findings.extend(of_threads(if there { 0 } else { threads(plan, nodes) }));
    findings.extend(of_disk(&facts.root, plan, nodes));
    findings
}

/// `MemAvailable`, in bytes.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn of_memory(memory: &Memory, available: Option<u64>, whole: u64, plan: &Plan) -> Finding {
    let mib = |bytes: u64| bytes / MIB;
    let text = format!(
        "{} MiB in containers ({} peers {}, databases {}, signalling {}; {} when every cache is full), {} MiB of shims and {} of the engine's own",
        mib(memory.containers),
        plan.peers.len(),
        mib(memory.peers),
        mib(memory.databases),
        mib(memory.signalling),
        mib(memory.full),
        mib(memory.shims),
        mib(memory.engine)
    );
    let less = "take fewer peers (COUNT), a smaller peers.cache, or a machine with more memory";
    let verdict = match available {
        Some(free) if free < memory.total => Verdict::Missing,
        Some(free) if free < memory.full + memory.shims + memory.engine => Verdict::Warning,
        // It fits, or it is there already.
        _ => Verdict::Ok,
    };
    let has = match available {
        Some(free) => format!("{} of {} MiB are free", mib(free), mib(whole)),
        None => format!("{} MiB in all", mib(whole)),
    };
    let todo = if verdict == Verdict::Ok { String::new() } else { format!(": {less}") };
    Finding { what: "memory", verdict, detail: format!("{text}; {has}{todo}") }
}

fn of_cpu(plan: &Plan, cpus: u64, nodes: u64) -> Finding {
    let cap = plan.limits.cpus;
    if cpus > 0 && cap > cpus as f64 {
        return Finding::missing(
            "CPU",
            format!("peers.cpus is {cap}, the engine has {cpus} and refuses more: write at most {cpus}"),
        );
    }
    let peers = plan.peers.len() as f64;
    Finding::ok(
        "CPU",
        format!(
            "{cpus} processors; {} peers take about {:.1}% of one while idle and {:.1} at most (their caps); starting {nodes} containers takes about {:.0} s of processor time",
            plan.peers.len(),
            peers * IDLE,
            peers * cap,
            nodes as f64 * START
        ),
    )
}

/// The limits of the engine's own processes, as far as they can be seen from here.
fn of_descriptors(nodes: u64) -> Option<Finding> {
    let pid = proc::all().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
    })?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let most = open_files(&limits)?;
    let need = DESCRIPTORS_ALONE + DESCRIPTORS * nodes;
    Some(if need <= most {
        Finding::ok("descriptors", format!("dockerd may have {most} and needs about {need}"))
    } else {
        Finding::missing(
            "descriptors",
            format!(
                "dockerd may have {most} and needs about {need}: raise it (LimitNOFILE= in a drop-in of docker.service, or `ulimit -n` before dockerd), and restart the engine"
            ),
        )
    })
}

/// The soft limit of "Max open files" in `/proc/<pid>/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// How many threads the mesh adds: a gateway's connection is a process of its database's.
fn threads(plan: &Plan, nodes: u64) -> u64 {
    let gateways: u64 = plan.edges.iter().map(|edge| edge.peers.len() as u64).sum();
    THREADS * nodes + SERVER * (plan.edges.len() as u64 + 1) + gateways
}

fn of_threads(more: u64) -> Option<Finding> {
    let read = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
    };
    let most = read("pid_max")?.min(read("threads-max")?);
    // The fourth field is "runnable/all".
    let running = fs::read_to_string("/proc/loadavg").ok()?;
    let running: u64 = running.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let need = running + more;
    Some(if need <= most {
        Finding::ok("threads", format!("about {need} of {most} with those of every shim and database"))
    } else {
        Finding::missing(
            "threads",
            format!(
                "about {need} with those of every shim and database, {most} are allowed: `sysctl -w kernel.pid_max={0} kernel.threads-max={0}`",
                need.next_power_of_two() * 2
            ),
        )
    })
}

fn of_disk(root: &str, plan: &Plan, nodes: u64) -> Option<Finding> {
    let found = rustix::fs::statvfs(root).ok()?;
    let free = found.f_bavail * found.f_frsize;
    let need = IMAGES_DISK + (plan.edges.len() as u64 + 1) * DATABASE_DISK + nodes * LOG_DISK;
    let text =
        format!("{} MiB free in {root}, about {} needed at most besides the songs", free / MIB, need / MIB);
    Some(if free >= need {
        Finding::ok("disk", text)
    } else {
        Finding::warning("disk", format!("{text}: make room (`docker system df` shows what the engine has)"))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::memory::predict, *};
    use crate::fixture::plan;

    #[test]
    fn memory_is_judged_by_what_is_free() {
        let plan = plan();
        let memory = predict(&plan, "");
        let verdict = |free| of_memory(&memory, free, 8 << 30, &plan).verdict;
        assert_eq!(verdict(Some(memory.total - 1)), Verdict::Missing);
        assert_eq!(verdict(Some(memory.total)), Verdict::Warning, "until the caches are full");
        assert_eq!(verdict(Some(memory.full + memory.shims + memory.engine)), Verdict::Ok);
        assert_eq!(verdict(None), Verdict::Ok, "it runs");
    }

    #[test]
    fn an_engine_takes_no_share_above_its_processors() {
        let mut plan = plan();
        assert_eq!(of_cpu(&plan, 1, 7).verdict, Verdict::Ok);
        plan.limits.cpus = 1.5;
        assert_eq!(of_cpu(&plan, 1, 7).verdict, Verdict::Missing);
        assert_eq!(
            open_files("Max open files            20000                40000                files \n"),
            Some(20000)
        );
    }
}

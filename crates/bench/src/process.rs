//! What a process takes, as the kernel counts it, and processes that end with whoever started them.

use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::stop;

/// A process that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The one with that id.
    pub fn of(id: u32) -> Self {
        Self(id)
    }

    /// This one.
    pub fn this() -> Self {
        Self(std::process::id())
    }

    fn read(self, file: &str) -> Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
            .with_context(|| format!("process {} is gone", self.0))
    }

    fn field(self, name: &str) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(kib.with_context(|| format!("process {} has no {name}", self.0))? * 1024)
    }

    /// Bytes in memory, shared ones too.
    pub fn resident(self) -> Result<u64> {
        self.field("VmRSS")
    }

    /// From now on [`Process::most_resident`] begins anew (proc(5), clear_refs: 5).
    pub fn forget_most_resident(self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.0);
        fs::write(&path, "5").with_context(|| format!("cannot write to {path}"))
    }

    /// The most that `resident` ever was since the start, or since it was forgotten, as the kernel keeps it.
    pub fn most_resident(self) -> Result<u64> {
        self.field("VmHWM")
    }

    /// Bytes in memory that are no file's: its own data.
    pub fn private(self) -> Result<u64> {
        self.field("RssAnon")
    }

    /// Seconds that its threads have been on a processor (the first field of schedstat, in nanoseconds). Threads that have
    /// ended count no more: the programs that are measured keep theirs.
    pub fn cpu_seconds(self) -> Result<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0))
            .with_context(|| format!("process {} is gone", self.0))?;
        let mut nanoseconds = 0;
        for task in tasks {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds +=
                text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Sends it a signal; it may have ended just now.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.0).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it and everything that descends from it.
    fn kill_family(self) {
        // Programs that fork for each connection leave orphans otherwise, and nginx puts another process in the place of one
        // that is killed. What has stopped does neither, nor is its number another's by the time it is used.
        let mut stopped = Vec::new();
        loop {
            let mut more = self.family();
            more.retain(|process| !stopped.contains(process));
            if more.is_empty() {
                break;
            }
            for &process in &more {
                process.signal(Signal::STOP);
            }
            stopped.append(&mut more);
        }
        for process in stopped {
            process.signal(Signal::KILL);
        }
    }

    /// It and everything that descends from it.
    pub fn family(self) -> Vec<Self> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = Self(id).read("stat").unwrap_or_default();
            // After the name, which may have blanks and brackets: the state, then the parent.
            let parent = stat.rfind(')').and_then(|end| stat[end + 1..].split_ascii_whitespace().nth(1));
            if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
                children.entry(parent).or_default().push(id);
            }
        }
        let mut family = vec![self.0];
        let mut at = 0;
        while let Some(id) = family.get(at) {
            family.extend(children.remove(id).unwrap_or_default());
            at += 1;
        }
        family.into_iter().map(Self).collect()
    }
}

/// Those that were started and not waited for yet: nobody else can have their numbers. Locked while one is started or
/// signalled, so that none is missed.
static STARTED: Mutex<Vec<Process>> = Mutex::new(Vec::new());

fn started() -> MutexGuard<'static, Vec<Process>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends this program in the middle, where nothing is dropped any more: what it started goes before.
pub(crate) fn exit(code: u8) -> ! {
    // Held to the end: nothing more is started.
    let started = started();
    for process in started.iter() {
        process.kill_family();
    }
    std::process::exit(code.into())
}

/// A process that is killed when this is dropped, or when the whole bench is ended.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, without standard input. A Ctrl-C does not reach it: it ends when this is dropped.
    pub fn start(command: &mut Command) -> Result<Self> {
        stop::check()?;
        let mut started = started();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let running =
            Self(child.with_context(|| format!("failed to start {}", command.get_program().display()))?);
        started.push(running.process());
        Ok(running)
    }

    /// To be looked at.
    pub fn process(&self) -> Process {
        Process(self.0.id())
    }

    /// The code that it has ended with already, for a message; it should not have.
    pub fn ended(&mut self) -> Option<String> {
        let mut started = started();
        let status = self.0.try_wait().ok().flatten()?;
        // It was waited for: its number may be another's by now.
        let me = self.process();
        started.retain(|&process| process != me);
        Some(status.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let me = self.process();
        let mut started = started();
        me.kill_family();
        started.retain(|&process| process != me);
        drop(started);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_replaces_its_children_leaves_none() {
        // A mark of its own, by which the children are found.
        let seconds = format!("300.{}", std::process::id());
        let mut command = Command::new("sh");
        let one = format!("while :; do sleep {seconds}; done &");
        command.args(["-c", &format!("{} wait", one.repeat(50))]);
        let children = || -> Vec<Process> {
            let all = fs::read_dir("/proc").unwrap().flatten();
            let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Process::of);
            ids.filter(|process| {
                process.read("cmdline").is_ok_and(|line| line == format!("sleep\0{seconds}\0"))
            })
            .collect()
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let running = Running::start(&mut command).unwrap();
        while children().len() < 50 {
            assert!(std::time::Instant::now() < deadline);
        }
        drop(running);
        while children().iter().any(|child| child.resident().is_ok()) {
            assert!(std::time::Instant::now() < deadline, "one was put in the place of another");
        }
    }

    #[test]
    fn one_that_was_waited_for_is_signalled_no_more() {
        let mut running = Running::start(&mut Command::new("true")).unwrap();
        assert!(started().contains(&running.process()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while running.ended().is_none() {
            assert!(std::time::Instant::now() < deadline);
        }
        assert!(!started().contains(&running.process()));
        let running = Running::start(Command::new("sleep").arg("300")).unwrap();
        let process = running.process();
        drop(running);
        assert!(!started().contains(&process));
    }

    #[test]
    fn a_process_is_looked_at_and_ends_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 300 & wait"]);
        let running = Running::start(&mut command).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let family = loop {
            let family = running.process().family();
            if family.len() == 2 {
                break family;
            }
            assert!(std::time::Instant::now() < deadline, "{family:?}");
        };
        assert!(family[0].resident().unwrap() > 0 && family[0].cpu_seconds().unwrap() >= 0.0);
        family[0].forget_most_resident().unwrap();
        assert!(family[0].most_resident().unwrap() > 0);
        drop(running);
        // The grandchild is somebody else's to wait for: it may stay a while as a zombie, without memory.
        while family[1].resident().is_ok() {
            assert!(std::time::Instant::now() < deadline);
        }
    }
}

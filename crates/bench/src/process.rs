//! What a process takes, as the kernel counts it, and processes that end with whoever started them.

use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
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

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, without standard input. A Ctrl-C does not reach it: it ends when this is dropped.
    pub fn start(command: &mut Command) -> Result<Self> {
        stop::check()?;
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self(child.with_context(|| format!("failed to start {}", command.get_program().display()))?))
    }

    /// To be looked at.
    pub fn process(&self) -> Process {
        Process(self.0.id())
    }

    /// The code that it has ended with already, for a message; it should not have.
    pub fn ended(&mut self) -> Option<String> {
        self.0.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Programs that fork for each connection leave orphans otherwise, and nginx puts another process in the place of one
        // that is killed. What has stopped does neither, nor is its number another's by the time it is used.
        let mut stopped = Vec::new();
        loop {
            let mut more = self.process().family();
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
        drop(running);
        // The grandchild is somebody else's to wait for: it may stay a while as a zombie, without memory.
        while family[1].resident().is_ok() {
            assert!(std::time::Instant::now() < deadline);
        }
    }
}

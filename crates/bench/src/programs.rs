//! The programs that the benches start: hopcast's own, and PostgreSQL's.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::{process::Process, stop};

/// A program that a bench needs is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// One of hopcast's programs: in `HOPCAST_BIN_DIR`, else beside this one.
pub fn ours(name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name(name);
    let dir = std::env::var_os("HOPCAST_BIN_DIR").map(|dir| Path::new(&dir).join(name));
    let found = dir.into_iter().chain([beside]).find(|path| path.is_file());
    Ok(found.ok_or_else(|| {
        Missing(format!(
            "`{name}` is neither in HOPCAST_BIN_DIR nor beside this program: build it, or say where it is"
        ))
    })?)
}

/// One of the programs that hopcast is compared with, as Debian has them.
pub fn debian(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Some are for the administrator: not on everybody's PATH.
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    Ok(found.ok_or_else(|| {
        Missing(format!(
            "`{name}` is missing, which hopcast is compared with (Debian: apt-get install socat haproxy nginx-light iperf3 ffmpeg)"
        ))
    })?)
}

/// One of PostgreSQL's: the newest of Debian's, else what PATH has.
pub fn postgres(name: &str) -> Result<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = debian
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .pop()
        .map(|(_, path)| path)
        .or_else(|| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()))
        .with_context(|| format!("PostgreSQL's `{name}` is missing (Debian: apt-get install postgresql)"))
}

/// The user that PostgreSQL runs as: it refuses root. `None` where we are not root.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged(Option<(u32, u32)>);

impl Unprivileged {
    /// `postgres`, else `nobody`, where we are root.
    pub fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
        let ids = |wanted: &str| {
            let mut fields =
                users.lines().find(|line| line.split(':').next() == Some(wanted))?.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let found = ids("postgres").or_else(|| ids("nobody"));
        found
            .map(|ids| Self(Some(ids)))
            .context("root needs a user `postgres` or `nobody` to run PostgreSQL as")
    }

    /// A command that will run as that user.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a directory to that user.
    pub fn own(self, dir: &Path) -> Result<()> {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = self.0 {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// Runs a command to its end, at most for `limit`; its standard output, or an error with its standard error. A signal is
/// passed on to it.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    stop::check()?;
    run(command, limit, stop::check)
}

/// The same, signal or not: to put away what there is.
pub fn output_to_the_end(command: &mut Command, limit: Duration) -> Result<String> {
    run(command, limit, || Ok(()))
}

fn run(command: &mut Command, limit: Duration, check: impl Fn() -> Result<()>) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    // Files, not pipes: a daemon that the command leaves behind would hold a pipe open.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        // A Ctrl-C is ours alone to pass on.
        .process_group(0)
        .spawn()
        .with_context(|| format!("failed to start {what}"))?;
    let deadline = Instant::now() + limit;
    let mut interrupted = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if interrupted.is_none()
            && let Err(signal) = check()
        {
            interrupted = Some(signal);
            Process::of(child.id()).signal(Signal::TERM);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{what} did not end within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if let Some(signal) = interrupted {
        return Err(signal);
    }
    let read = |file: &mut fs::File| -> Result<String> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(16 << 20).read_to_string(&mut text)?;
        Ok(text)
    };
    if !status.success() {
        bail!("{what} failed ({status}): {}", read(&mut stderr)?.trim());
    }
    read(&mut stdout)
}

/// The last line of a program's standard output, as JSON.
pub fn last_json(text: &str) -> Result<serde_json::Value> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("its last line is not JSON: {line}"))
}

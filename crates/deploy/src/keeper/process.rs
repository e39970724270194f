//! Peers and the signalling server: their files, their start, their end.

use std::{
    fs::{File, OpenOptions},
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use hopcast_protocol::{PeerConfig, SignallingConfig, limits::EXIT_REPLACED};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::{Keeper, logs};
use crate::{
    NodeRole,
    error::{Doing as _, Error},
    state::write_new,
};

/// How long a process may take to end by itself.
const POLITE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end it.
const FORCED: Duration = Duration::from_secs(5);

/// A program and the file that it reads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) file: ConfigFile,
}

/// What a process reads at its start and at SIGHUP.
#[expect(clippy::large_enum_variant, reason = "all but one of them are peers'")]
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConfigFile {
    Peer(PeerConfig),
    Signalling(SignallingConfig),
}

impl ConfigFile {
    fn json(&self) -> Vec<u8> {
        match self {
            Self::Peer(config) => serde_json::to_vec_pretty(config),
            Self::Signalling(config) => serde_json::to_vec_pretty(config),
        }
        .expect("these types have string keys only")
    }

    /// A running process cannot take this change from a reread file: its own address, its identity, or keys that what
    /// it has in flight was made with.
    fn needs_restart(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Peer(old), Self::Peer(new)) => {
                (
                    old.version,
                    &old.mesh,
                    &old.name,
                    old.listen,
                    old.dial_from,
                    &old.signal_url,
                    old.public_key,
                ) != (
                    new.version,
                    &new.mesh,
                    &new.name,
                    new.listen,
                    new.dial_from,
                    &new.signal_url,
                    new.public_key,
                )
            }
            (Self::Signalling(old), Self::Signalling(new)) => {
                let door = |config: &SignallingConfig| config.door.as_ref().map(|door| door.listen);
                (old.version, &old.mesh, old.listen, &old.token_key, door(old))
                    != (new.version, &new.mesh, new.listen, &new.token_key, door(new))
            }
            _ => true,
        }
    }
}

/// What has to be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is as it should be.
    Keep,
    /// It only has to go on.
    Resume,
    /// It does not run.
    Start,
    /// It has to read its file again.
    Reload,
    /// It has to be another process.
    Restart,
}

/// Compares. `running`: what the process that runs last read, and whether it is paused.
pub(super) fn action(running: Option<(&Setup, bool)>, wanted: &Setup) -> Action {
    match running {
        None => Action::Start,
        Some((old, _)) if old.program != wanted.program || old.file.needs_restart(&wanted.file) => {
            Action::Restart
        }
        Some((old, _)) if old.file != wanted.file => Action::Reload,
        Some((_, true)) => Action::Resume,
        Some(_) => Action::Keep,
    }
}

/// Sends a signal; a process that has ended meanwhile does not mind.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

impl Keeper {
    fn config_path(&self, name: &str) -> PathBuf {
        self.dir.join("config").join(format!("{name}.json"))
    }

    /// Whether a node's file says what it should.
    pub(super) fn is_written(&self, name: &str, file: &ConfigFile) -> bool {
        std::fs::read(self.config_path(name)).is_ok_and(|found| found == file.json())
    }

    /// Writes a node's file, where it is not there already.
    pub(super) fn write_config(&self, name: &str, file: &ConfigFile) -> Result<(), Error> {
        if self.is_written(name, file) {
            return Ok(()); // as after `down`
        }
        write_new(&self.config_path(name), &file.json(), 0o400)
    }

    /// Starts a process and a task that waits for its end.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        role: NodeRole,
        setup: Arc<Setup>,
    ) -> Result<(), Error> {
        let address = match &setup.file {
            ConfigFile::Peer(config) => config.listen,
            ConfigFile::Signalling(config) => config.listen,
        };
        self.nodes.starting(name, role, Some(address));
        let started = self.write_config(name, &setup.file).and_then(|()| self.start(name, &setup.program));
        let (mut child, pid) = match started {
            Ok(started) => started,
            Err(error) => {
                self.nodes.failed(name, &error.to_string());
                return Err(error);
            }
        };
        self.nodes.running(name, pid, Some(setup));
        let (keeper, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let status = child.wait().await;
            let describe = || match status {
                Ok(status) => describe(status, logs::last_line(&keeper.dir, &name)),
                Err(error) => format!("failed to wait for it: {error}"),
            };
            keeper.nodes.ended(&name, pid, describe);
        });
        Ok(())
    }

    fn start(&self, name: &str, program: &Path) -> Result<(tokio::process::Child, u32), Error> {
        let log = open_log(&logs::path(&self.dir, name))?;
        let again = log.try_clone().doing("open", logs::path(&self.dir, name))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(self.config_path(name))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .doing("start", program)?;
        let pid = child.id().ok_or_else(|| Error::Keeper(format!("{name} ended at once")))?;
        Ok((child, pid))
    }

    /// Lets a process read its file again.
    pub(super) fn reload(&self, name: &str, setup: Arc<Setup>) -> Result<(), Error> {
        self.write_config(name, &setup.file)?;
        if let Some(node) = self.nodes.all().get_mut(name)
            && let Some(pid) = node.pid
        {
            node.setup = Some(setup);
            send(pid, Signal::HUP);
            send(pid, Signal::CONT);
        }
        Ok(())
    }

    /// Ends processes: SIGTERM, then, for those that do not care, SIGKILL. `ended` is told of each.
    pub(super) async fn end(&self, names: &[String], mut ended: impl FnMut()) {
        for name in names {
            self.nodes.ending(name);
            if let Some(pid) = self.nodes.pid(name) {
                send(pid, Signal::TERM);
                send(pid, Signal::CONT);
            }
        }
        let polite = tokio::time::Instant::now() + POLITE;
        for name in names {
            if tokio::time::timeout_at(polite, self.nodes.wait_ended(name)).await.is_err() {
                if let Some(pid) = self.nodes.pid(name) {
                    tracing::warn!(node = name, "does not end; killed");
                    send(pid, Signal::KILL);
                }
                let _ = tokio::time::timeout(FORCED, self.nodes.wait_ended(name)).await;
            }
            ended();
        }
    }
}

/// For writing at the end only, so that it can be shortened while it is open.
fn open_log(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).mode(0o644).open(path).doing("open", path)
}

fn describe(status: ExitStatus, last_line: Option<String>) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) if code == EXIT_REPLACED => {
            return "replaced by another connection under its name (exit code 75)".into();
        }
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => return format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    };
    match last_line {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopcast_protocol::{MeshName, MeshSecret, PeerLimits, PeerName};

    fn setup(change: impl FnOnce(&mut PeerConfig)) -> Setup {
        let mut config = PeerConfig {
            version: 1,
            mesh: MeshName::new("m").unwrap(),
            name: PeerName::new("peer-1").unwrap(),
            listen: "127.80.0.1:8080".parse().unwrap(),
            dial_from: None,
            signal_url: "ws://127.0.0.1:7080/ws".into(),
            rooms: Vec::new(),
            neighbors: Vec::new(),
            limits: PeerLimits::default(),
            databases: Vec::new(),
            public_key: Some(MeshSecret([1; 32]).manifest_key().public()),
            peer_addresses: None,
        };
        change(&mut config);
        Setup { program: "/bin/peer".into(), file: ConfigFile::Peer(config) }
    }

    #[test]
    fn changes_only_what_differs() {
        let wanted = setup(|_| {});
        let against = |old: &Setup, paused| action(Some((old, paused)), &wanted);
        assert_eq!(action(None, &wanted), Action::Start);
        assert_eq!(against(&wanted, false), Action::Keep);
        assert_eq!(against(&wanted, true), Action::Resume);
        assert_eq!(against(&setup(|config| config.limits.cache = 1), false), Action::Reload);
        let moved = setup(|config| config.listen = "127.80.0.2:8080".parse().unwrap());
        assert_eq!(against(&moved, false), Action::Restart);
        let other_secret =
            setup(|config| config.public_key = Some(MeshSecret([2; 32]).manifest_key().public()));
        assert_eq!(against(&other_secret, true), Action::Restart);
        let rebuilt = Setup { program: "/bin/peer-2".into(), ..wanted.clone() };
        assert_eq!(against(&rebuilt, false), Action::Restart);
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        assert_eq!(describe(ExitStatus::from_raw(9), Some("x".into())), "killed by signal 9");
        assert_eq!(
            describe(ExitStatus::from_raw(64 << 8), Some("bad file".into())),
            "ended with exit code 64: bad file"
        );
        assert!(describe(ExitStatus::from_raw(75 << 8), None).contains("replaced"));
    }
}

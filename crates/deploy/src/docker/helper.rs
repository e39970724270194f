//! Short-lived containers of the operator's: the program `hopcast` of the signalling image, inside the engine.
//!
//! A helper is tied to this process by its standard input. However this process ends (a Ctrl-C, SIGKILL), the engine sees
//! the connection go, ends the input, the program ends with it, and the engine removes the container. A caller that hangs
//! says nothing any more, and the helper ends by itself. One that was made and never started (this process was killed in
//! between) has the mesh's label, and the next `up` or `down` removes it.
//!
//! One task for each helper owns its input; it is ended when the [`Helper`] is dropped.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    path::PathBuf,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    container::{AttachContainerResults, LogOutput},
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
        HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    },
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
        StartContainerOptions, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use hopcast_protocol::MeshName;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::{
    engine::{self, Engine},
    labels::{self, Role},
    pipe,
};
use crate::Error;

/// Where the program is in the signalling image.
const PROGRAM: &str = "/hopcast";
/// What it may take.
const MEMORY: i64 = 256 << 20;
const PIDS: i64 = 64;
/// Longest line that it may say: a report about thousands of peers.
const LINE: usize = 16 << 20;
/// Words on its standard error that are kept for an error.
const LAST_WORDS: usize = 10;
/// How long its end may take once it was asked for.
const END: Duration = Duration::from_secs(20);

/// Where a helper is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Position {
    /// In one network, at an address; it sees nothing but itself.
    At {
        /// The network.
        network: String,
        /// Its address there.
        address: Ipv4Addr,
    },
    /// Where the engine is: it sees every process and reaches every network of every container, and may enter their
    /// namespaces. It changes nothing: its only rights beyond an ordinary user's are to look.
    Outside,
}

/// What a helper is to be.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// Its mesh.
    pub(crate) mesh: &'a MeshName,
    /// The signalling image.
    pub(crate) image: &'a str,
    /// The program's arguments.
    pub(crate) arguments: Vec<String>,
    /// Where it is.
    pub(crate) position: Position,
    /// A directory of this machine, and where it is inside.
    pub(crate) shared: Option<(PathBuf, &'static str)>,
    /// What stands first on its standard input.
    pub(crate) input: Vec<u8>,
}

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// A running helper.
pub(crate) struct Helper {
    name: String,
    /// In a lock that nobody waits for, so that what holds a helper can be shared.
    output: Mutex<Output>,
    lines: VecDeque<String>,
    partial: Vec<u8>,
    errors: Vec<u8>,
    end: Option<oneshot::Sender<()>>,
    tie: JoinHandle<()>,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Helper({})", self.name)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.tie.abort();
    }
}

/// A name that no other helper has: another call, another moment or another process.
fn new_name(mesh: &MeshName) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{mesh}-helper-{:x}-{:x}", std::process::id(), now.as_micros())
}

fn body(spec: &Spec<'_>, name: &str) -> ContainerCreateBody {
    let mut host = HostConfig {
        auto_remove: Some(true),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        memory: Some(MEMORY),
        memory_swap: Some(MEMORY),
        pids_limit: Some(PIDS),
        // What it says is read here, and a report is no log.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        ..HostConfig::default()
    };
    let mut mounts: Vec<Mount> = Vec::new();
    let mut bind = |from: String, to: &str, read_only: bool| {
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(from),
            target: Some(to.to_owned()),
            read_only: Some(read_only),
            ..Mount::default()
        });
    };
    if let Some((from, to)) = &spec.shared {
        bind(from.display().to_string(), to, false);
    }
    let mut networking = None;
    // What it shares with us must be its own: it runs as we do.
    let mut user = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match &spec.position {
        Position::At { network, address } => {
            host.network_mode = Some(network.clone());
            let endpoint = EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: Some(address.to_string()),
                    ..EndpointIpamConfig::default()
                }),
                ..EndpointSettings::default()
            };
            networking = Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.clone(), endpoint)])),
            });
        }
        Position::Outside => {
            user = "0:0".into();
            host.network_mode = Some("host".into());
            host.pid_mode = Some("host".into());
            host.userns_mode = Some("host".into());
            host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST);
            // SYS_PTRACE and DAC_READ_SEARCH: to see which sockets a process of another user holds. SYS_ADMIN: to enter a
            // network namespace (setns(2)).
            host.cap_add = Some(["SYS_PTRACE", "SYS_ADMIN", "DAC_READ_SEARCH"].map(str::to_owned).to_vec());
            // Docker's own profile forbids to look at processes of other profiles.
            host.security_opt.get_or_insert_default().push("apparmor=unconfined".into());
            bind("/sys/fs/cgroup".into(), "/sys/fs/cgroup", true);
        }
    }
    host.mounts = Some(mounts);
    ContainerCreateBody {
        image: Some(spec.image.to_owned()),
        entrypoint: Some(vec![PROGRAM.into()]),
        cmd: Some(spec.arguments.clone()),
        user: Some(user),
        labels: Some(labels::of(spec.mesh, Role::Helper, name)),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        host_config: Some(host),
        networking_config: networking,
        ..ContainerCreateBody::default()
    }
}

/// Creates, attaches, starts. What fails leaves nothing behind.
async fn launch(
    docker: bollard::Docker,
    name: String,
    body: ContainerCreateBody,
) -> Result<AttachContainerResults, bollard::errors::Error> {
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    docker.create_container(Some(options), body).await?;
    let started = async {
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true);
        // Before the start, so that no word is lost.
        let attached = docker.attach_container(&name, Some(options.build())).await?;
        docker.start_container(&name, None::<StartContainerOptions>).await?;
        Ok(attached)
    };
    let started = started.await;
    if started.is_err() {
        // A container that never ran is not removed by itself. The first error is the one to tell.
        let _ = remove(&docker, &name).await;
    }
    started
}

async fn remove(docker: &bollard::Docker, name: &str) -> Result<(), bollard::errors::Error> {
    docker.remove_container(name, Some(RemoveContainerOptionsBuilder::new().force(true).build())).await
}

/// Writes what stands first, then a byte now and then, until it is told to end the input or is itself ended.
async fn tie(mut input: Pin<Box<dyn AsyncWrite + Send>>, first: Vec<u8>, mut end: oneshot::Receiver<()>) {
    // A helper that has ended takes no input; its output says why.
    let mut ok = input.write_all(&first).await.is_ok();
    while ok {
        match timeout(pipe::SILENCE / 4, &mut end).await {
            Ok(_) => break,
            Err(_) => ok = input.write_all(b"\n").await.is_ok() && input.flush().await.is_ok(),
        }
    }
    let _ = input.shutdown().await;
}

impl Helper {
    /// Starts one. The whole start is one request for [`Engine::settle`]: a caller that is dropped in the middle leaves
    /// nothing half-made.
    pub(crate) async fn start(engine: &Engine, spec: Spec<'_>) -> Result<Self, Error> {
        let name = new_name(spec.mesh);
        let body = body(&spec, &name);
        let what = format!("start the helper container {name}");
        let own = name.clone();
        let attached = engine
            .call(what, engine::CHANGE, |docker| async move { launch(docker, own, body).await })
            .await?;
        let (end, ended) = oneshot::channel();
        let tie = tokio::spawn(tie(attached.input, spec.input, ended));
        Ok(Self {
            name,
            output: Mutex::new(attached.output),
            lines: VecDeque::new(),
            partial: Vec::new(),
            errors: Vec::new(),
            end: Some(end),
            tie,
        })
    }

    /// The next line of its standard output; `None` at its end.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            match self.output.get_mut().unwrap_or_else(PoisonError::into_inner).next().await {
                Some(Ok(LogOutput::StdErr { message })) => {
                    self.errors.extend_from_slice(&message);
                    let excess = self.errors.len().saturating_sub(64 << 10);
                    self.errors.drain(..excess);
                }
                Some(Ok(LogOutput::StdOut { message })) => self.take(&message)?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.failed(&error.to_string())),
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                self.lines.push_back(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            }
            if self.partial.len() > LINE {
                return Err(self.failed("it says more than is read"));
            }
        }
        Ok(())
    }

    /// The end of what it said on its standard error, in one line.
    pub(crate) fn last_words(&self) -> String {
        let words = String::from_utf8_lossy(&self.errors);
        let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        words[words.len().saturating_sub(LAST_WORDS)..].join("; ")
    }

    /// An error with its last words.
    pub(crate) fn failed(&self, why: &str) -> Error {
        let last = self.last_words();
        let said = if last.is_empty() { String::new() } else { format!("; it said: {last}") };
        Error::Engine {
            what: format!("use the helper container {}", self.name),
            status: None,
            why: format!("{why}{said}"),
        }
    }

    /// Ends its input, and waits until it has ended. The engine removes it.
    pub(crate) async fn end(mut self, engine: &Engine) {
        if let Some(end) = self.end.take() {
            let _ = end.send(()); // its task may have ended already
        }
        let ended = async { while matches!(self.line().await, Ok(Some(_))) {} };
        let ended = timeout(END, ended).await;
        let name = self.name.clone();
        if ended.is_ok() {
            // The engine removes it; whoever looks after this must not find it.
            let gone = engine.call(format!("wait for the end of {name}"), END, |docker| async move {
                let options = WaitContainerOptionsBuilder::new().condition("removed").build();
                match docker.wait_container(&name, Some(options)).next().await {
                    Some(Err(error)) => Err(error),
                    Some(Ok(_)) | None => Ok(()),
                }
            });
            match gone.await {
                Err(error) if !error.has_status(404) => {
                    tracing::debug!(%error, "a helper container may be left");
                }
                _ => {}
            }
        } else {
            let what = format!("remove the helper container {name}");
            let removed =
                engine.call(what, engine::CHANGE, |docker| async move { remove(&docker, &name).await });
            if let Err(error) = removed.await {
                tracing::warn!(%error, "a helper container is left; the next `hopcast up` or `down` removes it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mesh: &MeshName, position: Position) -> Spec<'_> {
        let (image, arguments, input) = ("image", vec!["pipe".to_owned()], Vec::new());
        Spec { mesh, image, arguments, position, shared: None, input }
    }

    #[test]
    fn a_helper_has_no_rights_but_those_that_its_work_needs() {
        let mesh = MeshName::new("m").unwrap();
        let at = Position::At { network: "origin-net".into(), address: [10, 77, 128, 254].into() };
        let inside = body(&spec(&mesh, at), "x").host_config.unwrap();
        assert_eq!((inside.cap_add, inside.pid_mode), (None, None));
        assert_eq!(inside.network_mode.as_deref(), Some("origin-net"));
        let outside = body(&spec(&mesh, Position::Outside), "x").host_config.unwrap();
        assert_eq!(outside.cap_add.unwrap(), ["SYS_PTRACE", "SYS_ADMIN", "DAC_READ_SEARCH"]);
        for host in [inside.cap_drop, outside.cap_drop] {
            assert_eq!(host.unwrap(), ["ALL"]);
        }
        assert_eq!((inside.auto_remove, outside.auto_remove), (Some(true), Some(true)));
        assert!(outside.mounts.unwrap().iter().all(|mount| mount.read_only == Some(true)));
    }
}

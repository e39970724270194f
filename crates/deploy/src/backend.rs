//! What every engine can do with a mesh.

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin};

use hopcast_protocol::{DatabaseName, PeerName};
use hopcast_topology::{Plan, plan};
use serde::{Deserialize, Serialize};

use crate::{Access, Error, PlayerAddress, Progress, Status};

/// A backend's answer, when it is there.
pub type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Takes the lines of a log: the node's name, and the line without its end.
pub type LogSink<'a> = &'a mut (dyn FnMut(&str, &str) + Send);

/// An engine on which one mesh can run.
///
/// What runs is read from the engine itself. Every method may be called at any time, by several processes; `apply` and
/// `destroy` of one mesh exclude each other ([`Error::Busy`]).
pub trait Backend: Send + Sync {
    /// `local`, `docker`, ...
    fn name(&self) -> &'static str;

    /// Makes what runs equal to the plan and changes only what differs; ends when every peer is connected, every edge
    /// replicates and every song is stored, or with an error that names what is missing. Validates before it changes
    /// anything. Heals dead nodes and cut links.
    ///
    /// Dropping the future stops it: nothing more is begun. What is under way then, [`Backend::settle`] waits for.
    fn apply<'a>(
        &'a self,
        plan: &'a Plan,
        options: &'a ApplyOptions,
        progress: &'a dyn Progress,
    ) -> Job<'a, Applied>;

    /// After an `apply` or `destroy` that was dropped: waits until nothing that it began is under way any more.
    fn settle(&self) -> Job<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Something of this mesh is on this engine: running, stopped, or left behind.
    fn exists(&self) -> Job<'_, bool>;

    /// What runs now. A mesh that does not run is no error: its status has no nodes.
    fn status(&self) -> Job<'_, Status>;

    /// Stops and removes exactly what is this mesh's.
    fn destroy<'a>(&'a self, options: DestroyOptions, progress: &'a dyn Progress) -> Job<'a, Destroyed>;

    /// Breaks or mends something, on purpose.
    fn fault<'a>(&'a self, fault: &'a Fault) -> Job<'a, ()>;

    /// The plan that was applied last, from the engine; `None` where the mesh does not run.
    fn plan(&self) -> Job<'_, Option<Plan>>;

    /// How the operator reaches the parts of a running mesh.
    fn access(&self) -> Job<'_, Access>;

    /// The same, with the databases within reach as long as the answer lives.
    fn open(&self) -> Job<'_, Access> {
        self.access()
    }

    /// Runs the program `hopcast` with these arguments where it sees every process and network of the running mesh. `input`
    /// stands first on its standard input, which then stays open as long as this is not dropped; `line` takes what it says,
    /// line by line. The answer is the end of what it said on its standard error; `None` where this process sees all of it
    /// itself, and nothing was run.
    fn outside<'a>(
        &'a self,
        arguments: &'a [&'a str],
        input: Vec<u8>,
        line: &'a mut (dyn FnMut(&str) + Send),
    ) -> Job<'a, Option<String>> {
        let _ = (arguments, input, line);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Where a player on this machine reaches a peer.
    fn player(&self, plan: &Plan, peer: &plan::Peer) -> PlayerAddress;

    /// The logs of these nodes, line by line; all nodes where the list is empty. With `follow` it ends only when dropped.
    fn logs<'a>(&'a self, nodes: &'a [String], follow: bool, sink: LogSink<'a>) -> Job<'a, ()>;
}

/// How `apply` works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Only say what differs; nothing is changed and nothing waited for.
    pub dry_run: bool,
    /// Replace these nodes, whether they differ or not, and touch no others. Empty: everything that differs.
    pub only: Vec<String>,
}

/// What `destroy` takes besides what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestroyOptions {
    /// The mesh's data, and its secret: its whole state directory.
    pub purge: bool,
    /// Keep the databases' data also where the engine owns them (Docker's volumes).
    pub keep_data: bool,
}

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL. The node stays dead until the next `apply`.
    Kill(String),
    /// SIGSTOP.
    Pause(String),
    /// SIGCONT.
    Resume(String),
    /// Takes a link from both ends' files and from the seed links.
    CutLink(PeerName, PeerName),
    /// Gives it back.
    RestoreLink(PeerName, PeerName),
    /// Stops a database in order; its data stay.
    StopDatabase(DatabaseName),
    /// Starts it again.
    StartDatabase(DatabaseName),
}

/// What `apply` did.
#[derive(Debug)]
pub struct Applied {
    /// What differed.
    pub changes: Changes,
    /// Present where the mesh ends with its caller (`local`, started by this call).
    pub session: Option<Session>,
    /// Requests to the engine (`docker`).
    pub requests: Option<u64>,
}

/// The names of the nodes that `apply` changed. All empty: nothing differed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Were not there, or were dead.
    pub started: Vec<String>,
    /// Had to be started anew.
    pub restarted: Vec<String>,
    /// Reread their files.
    pub reloaded: Vec<String>,
    /// Are no longer in the plan.
    pub stopped: Vec<String>,
    /// Songs that were stored or stored anew.
    pub songs: Vec<String>,
    /// The secret was made anew.
    pub new_secret: bool,
    /// Networks and volumes that were made, or are no longer in the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// What differed, by node, where the backend can tell: `memory`, `image`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub why: BTreeMap<String, String>,
}

impl Changes {
    /// Nothing differed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What `destroy` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    /// Nodes that ran and do not any more.
    pub stopped: Vec<String>,
    /// Processes that an earlier keeper had left behind.
    pub orphans: Vec<u32>,
    /// Networks and volumes that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Networks that the engine does not remove, because it counts endpoints in them that it does not have any more: a fault
    /// of Docker 20.10 that its restart mends. They are empty, and the next `up` uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<String>,
    /// What is still on disk: data and secret; on Docker the secret alone. With `purge`, what the mesh of that name on the
    /// other backend needs.
    pub kept: Option<PathBuf>,
    /// Volumes with data that were kept, as asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// The tie between a mesh and the process that started it. Dropping it, or the end of this process in whatever way, ends
/// the mesh; [`Session::detach`] unties it.
#[derive(Debug)]
pub struct Session {
    keeper: tokio::process::Child,
    tie: Option<tokio::process::ChildStdin>,
}

impl Session {
    /// Takes the keeper's standard input as the tie.
    pub(crate) fn new(mut keeper: tokio::process::Child) -> Self {
        // `Child::wait` closes a standard input that it still holds.
        let tie = keeper.stdin.take();
        Self { keeper, tie }
    }

    /// The mesh stays when this process ends.
    pub async fn detach(mut self) -> Result<(), Error> {
        use tokio::io::AsyncWriteExt as _;
        let told = match self.tie.as_mut() {
            Some(tie) => tie.write_all(b"detach\n").await,
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        told.map_err(|error| {
            Error::Keeper(format!("the keeper has ended ({error}); see its log with `hopcast logs keeper`"))
        })
    }

    /// Waits until the mesh has ended, whoever ended it.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let status = self
            .keeper
            .wait()
            .await
            .map_err(|error| Error::Keeper(format!("failed to wait for the keeper: {error}")))?;
        if status.success() { Ok(()) } else { Err(Error::Keeper(format!("the keeper ended with {status}"))) }
    }

    /// Ends the mesh in order and waits for it.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.tie = None;
        self.ended().await
    }
}

//! The local backend: every node a process of this machine, with the keeper above them.
//!
//! `apply` here decides what should run and hands it to the keeper; then it speaks to the databases and the signalling
//! server itself until the mesh is ready. The keeper knows processes only, never SQL schemas or songs.

mod apply;
mod client;
mod clusters;
mod destroy;
mod launch;
mod logs;
mod preflight;
mod settled;
mod status;

use std::sync::Arc;

use hopcast_protocol::DatabaseAccess;
use hopcast_topology::{Plan, plan};

use crate::{
    Access, Applied, ApplyOptions, Backend, DestroyOptions, Destroyed, Error, Fault, Job, LogSink,
    PlayerAddress, Progress, State, Status, postgres::Postgres, programs::Programs, render::reachable,
    wire::Desired,
};

/// Processes on this machine.
#[derive(Debug, Clone)]
pub struct Local {
    state: State,
    programs: Option<Programs>,
}

impl Local {
    /// The mesh of that state directory. Nothing is touched.
    pub fn new(state: State) -> Self {
        Self { state, programs: None }
    }

    /// Uses these programs instead of looking for them.
    #[must_use]
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// The mesh's state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The PostgreSQL that [`Backend::apply`] takes: that of the databases which are there already, else the newest.
    pub async fn postgres(&self, plan: &Plan) -> Result<Postgres, Error> {
        apply::find_postgres(&self.state, plan).await
    }

    /// How many open files one process of the plan's mesh needs; an error where fewer are allowed.
    pub fn open_files(plan: &Plan) -> Result<u64, Error> {
        preflight::files(plan)
    }

    /// What the keeper was told last; `None` where the mesh does not run.
    async fn desired(&self) -> Result<Option<Desired>, Error> {
        match client::Client::connect(&self.state).await? {
            Some(client) => client.unless_gone(client.desired().await).await.map(Option::flatten),
            None => Ok(None),
        }
    }
}

/// How the operator reaches a mesh that runs like this.
fn access(state: &State, desired: &Desired) -> Result<Access, Error> {
    let secret = state.secret()?.ok_or_else(|| {
        Error::State(format!(
            "the secret of mesh {} is gone: run `hopcast up`, which makes a new one and replaces every peer",
            state.mesh()
        ))
    })?;
    let plan = &desired.plan;
    let mut databases = desired.databases.iter().map(|spec| DatabaseAccess {
        name: spec.name.clone(),
        host: spec.listen.ip().to_string(),
        port: spec.listen.port(),
        database: plan.postgres.database.clone(),
        user: spec.user.clone(),
        password: desired.superuser_password.clone(),
    });
    let origin = databases.next().ok_or_else(|| Error::Keeper("the keeper knows no origin".into()))?;
    Ok(Access {
        secret,
        origin,
        edges: databases.collect(),
        signalling: reachable(plan.signalling.local),
        door: Some(reachable(plan.local.door)),
        way: None,
    })
}

impl Backend for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn apply<'a>(
        &'a self,
        plan: &'a Plan,
        options: &'a ApplyOptions,
        progress: &'a dyn Progress,
    ) -> Job<'a, Applied> {
        Box::pin(async move {
            if *options != ApplyOptions::default() {
                return Err(Error::State(
                    "the local backend cannot tell or choose what `up` changes: leave out --dry-run and --only, or use --backend docker".into(),
                ));
            }
            apply::run(self, plan, progress).await
        })
    }

    fn exists(&self) -> Job<'_, bool> {
        Box::pin(async move { Ok(client::Client::connect(&self.state).await?.is_some()) })
    }

    fn status(&self) -> Job<'_, Status> {
        Box::pin(status::run(self))
    }

    fn destroy<'a>(&'a self, options: DestroyOptions, progress: &'a dyn Progress) -> Job<'a, Destroyed> {
        Box::pin(destroy::run(&self.state, options.purge, progress))
    }

    fn fault<'a>(&'a self, fault: &'a Fault) -> Job<'a, ()> {
        Box::pin(async move {
            let client = client::Client::connect(&self.state).await?;
            client.ok_or_else(|| Error::NotRunning(self.state.mesh().clone()))?.fault(fault).await
        })
    }

    fn plan(&self) -> Job<'_, Option<Plan>> {
        Box::pin(async move { Ok(self.desired().await?.map(|desired| desired.plan)) })
    }

    fn access(&self) -> Job<'_, Access> {
        Box::pin(async move {
            let desired = self.desired().await?;
            let desired = Arc::new(desired.ok_or_else(|| Error::NotRunning(self.state.mesh().clone()))?);
            access(&self.state, &desired)
        })
    }

    fn player(&self, _plan: &Plan, peer: &plan::Peer) -> PlayerAddress {
        PlayerAddress { to: peer.local, prefix: String::new() }
    }

    fn logs<'a>(&'a self, nodes: &'a [String], follow: bool, sink: LogSink<'a>) -> Job<'a, ()> {
        Box::pin(logs::run(&self.state, nodes, follow, sink))
    }
}

//! The Docker backend: every node a container, through the Engine API of a local engine.
//!
//! What should be there ([`wanted`]) is compared with what is ([`present`]) and only the difference ([`diff`]) is touched.
//! The engine's labels say what runs; the state directory holds the secret, the nodes' files and the plan.
//!
//! | module | what |
//! | --- | --- |
//! | [`engine`] | the one way to the engine: bounded, counted, with a deadline on every request |
//! | [`labels`] | how everything that is ours is found again |
//! | [`place`] | where everything is: the plan's fixed addresses |
//! | [`wanted`], [`present`], [`diff`], [`checks`] | what should be, what is, what differs, what is in the way |
//! | [`body`], [`nodes`], [`files`] | an object in the engine's words, requests for one object, files that nodes read |
//! | `password` | a new password for a database that has kept its data |
//! | [`image`] | the three images, without a registry |
//! | [`tunnel`] | SQL from this machine to databases that only their own networks reach |
//! | [`pipe`] | its inner end, in a helper container |
//! | [`doctor`] | what an engine and this machine lack for a plan |

mod apply;
pub mod body;
pub mod checks;
mod destroy;
pub mod diff;
pub mod doctor;
pub mod engine;
mod faults;
pub mod files;
mod helper;
pub mod image;
mod inside;
pub mod labels;
mod logs;
pub mod nodes;
mod password;
pub mod pipe;
pub mod place;
pub mod present;
mod status;
pub mod tunnel;
pub mod wanted;

use std::sync::Arc;

use hopcast_protocol::MeshSecret;
use hopcast_topology::{Plan, plan};
use tokio::sync::OnceCell;

pub use self::engine::Engine;
use self::{files::Files, present::Present};
use crate::{
    Access, Applied, ApplyOptions, Backend, DestroyOptions, Destroyed, Error, Fault, Job, LogSink,
    PlayerAddress, Progress, State, Status, databases, programs::Programs,
};

/// Containers of this machine's engine.
#[derive(Debug, Clone)]
pub struct Docker {
    state: State,
    engine: Arc<OnceCell<Engine>>,
    programs: Option<Programs>,
}

impl Docker {
    /// The mesh of that state directory. Nothing is touched, nobody is asked.
    pub fn new(state: State) -> Self {
        Self { state, engine: Arc::default(), programs: None }
    }

    /// Uses this engine instead of the one that `DOCKER_HOST` names.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = Arc::new(OnceCell::new_with(Some(engine)));
        self
    }

    /// Makes images from these programs instead of those that [`Programs::find`] finds.
    #[must_use]
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// What images are made from.
    fn programs(&self) -> Result<Programs, Error> {
        self.programs.clone().map_or_else(Programs::find, Ok)
    }

    /// The mesh's state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The engine; an error at once where there is none.
    pub async fn engine(&self) -> Result<&Engine, Error> {
        self.engine.get_or_try_init(Engine::connect).await
    }

    /// The state directory says that this mesh has been on an engine.
    pub fn left_files(&self) -> bool {
        Files::new(&self.state).dir().exists()
    }

    /// How the operator reaches the mesh of this plan. The databases' addresses are those in the origin's network: nobody
    /// outside of it gets there without [`Docker::open_to`].
    fn access_to(plan: &Plan, secret: &MeshSecret) -> Result<Access, Error> {
        let password = databases::superuser_password(plan, secret)?;
        let database = |name: &hopcast_protocol::DatabaseName, host: std::net::IpAddr| {
            hopcast_protocol::DatabaseAccess {
                name: name.clone(),
                host: host.to_string(),
                port: plan.postgres.port,
                database: plan.postgres.database.clone(),
                user: plan.postgres.user.clone(),
                password: password.clone(),
            }
        };
        Ok(Access {
            secret: secret.clone(),
            origin: database(&plan.origin.name, plan.origin.docker.address.ip()),
            edges: plan.edges.iter().map(|edge| database(&edge.name, edge.docker_origin.into())).collect(),
            signalling: place::published(plan.signalling.local),
            door: Some(place::published(plan.local.door)),
            way: None,
        })
    }

    /// The secret of the state directory.
    fn secret(&self) -> Result<MeshSecret, Error> {
        self.state.secret()?.ok_or_else(|| {
            Error::State(format!(
                "the secret of mesh {} is gone: run `hopcast up`, which makes a new one and replaces every node",
                self.state.mesh()
            ))
        })
    }

    /// The same, with the secret of the state directory.
    fn access_of(&self, plan: &Plan) -> Result<Access, Error> {
        let secret = self.secret()?;
        Self::access_to(plan, &secret)
    }
}

impl Backend for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn apply<'a>(
        &'a self,
        plan: &'a Plan,
        options: &'a ApplyOptions,
        progress: &'a dyn Progress,
    ) -> Job<'a, Applied> {
        Box::pin(apply::run(self, plan, options, progress))
    }

    fn settle(&self) -> Job<'_, ()> {
        Box::pin(async move {
            if let Some(engine) = self.engine.get() {
                engine.settle().await;
            }
            Ok(())
        })
    }

    fn exists(&self) -> Job<'_, bool> {
        Box::pin(async move { Ok(Present::read(self.engine().await?).await?.has(self.state.mesh())) })
    }

    fn status(&self) -> Job<'_, Status> {
        Box::pin(status::run(self))
    }

    fn destroy<'a>(&'a self, options: DestroyOptions, progress: &'a dyn Progress) -> Job<'a, Destroyed> {
        Box::pin(destroy::run(self, options, progress))
    }

    fn fault<'a>(&'a self, fault: &'a Fault) -> Job<'a, ()> {
        Box::pin(faults::run(self, fault))
    }

    fn plan(&self) -> Job<'_, Option<Plan>> {
        Box::pin(async move {
            let engine = self.engine().await?;
            let there = present::containers(engine, labels::filter(self.state.mesh())).await?;
            if there.iter().all(|container| container.label.role == Some(labels::Role::Helper)) {
                return Ok(None);
            }
            match Files::new(&self.state).plan()? {
                Some(plan) => Ok(Some(plan)),
                None => Err(Error::State(format!(
                    "mesh {} is on the engine, but its plan is not in {}: `hopcast up` writes it anew, `hopcast down` removes the mesh",
                    self.state.mesh(),
                    self.state.dir().display()
                ))),
            }
        })
    }

    fn access(&self) -> Job<'_, Access> {
        Box::pin(async move {
            let plan = self.plan().await?.ok_or_else(|| Error::NotRunning(self.state.mesh().clone()))?;
            self.access_of(&plan)
        })
    }

    fn open(&self) -> Job<'_, Access> {
        Box::pin(async move {
            let plan = self.plan().await?.ok_or_else(|| Error::NotRunning(self.state.mesh().clone()))?;
            let secret = self.secret()?;
            self.open_to(&plan, &secret).await
        })
    }

    fn outside<'a>(
        &'a self,
        arguments: &'a [&'a str],
        input: Vec<u8>,
        line: &'a mut (dyn FnMut(&str) + Send),
    ) -> Job<'a, Option<String>> {
        Box::pin(async move {
            let plan = self.plan().await?.ok_or_else(|| Error::NotRunning(self.state.mesh().clone()))?;
            self.run_outside(&plan, arguments, input, line).await.map(Some)
        })
    }

    fn player(&self, plan: &Plan, peer: &plan::Peer) -> PlayerAddress {
        // Not its address in the engine's network: where the engine has a machine of its own, only published ports lead in.
        PlayerAddress { to: place::published(plan.local.door), prefix: format!("/p/{}", peer.name) }
    }

    fn logs<'a>(&'a self, nodes: &'a [String], follow: bool, sink: LogSink<'a>) -> Job<'a, ()> {
        Box::pin(logs::run(self, nodes, follow, sink))
    }
}

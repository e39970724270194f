//! What of Docker's backend needs a helper container: SQL to the databases, and a look at all processes and networks.

use std::sync::Arc;

use hopcast_protocol::MeshSecret;
use hopcast_topology::Plan;

use super::{
    Docker,
    helper::{Helper, Position, Spec},
    tunnel::Tunnel,
};
use crate::{Access, Error};

impl Docker {
    /// How the operator reaches the mesh of this plan, with an open way to the databases from inside their network.
    pub(super) async fn open_to(&self, plan: &Plan, secret: &MeshSecret) -> Result<Access, Error> {
        let mut access = Self::access_to(plan, secret)?;
        let engine = self.engine().await?;
        let tunnel = Tunnel::open(engine, self.state(), plan, &plan.docker.signalling_image).await?;
        for database in std::iter::once(&mut access.origin).chain(&mut access.edges) {
            database.host = tunnel.host(&database.name);
        }
        Ok(Access { way: Some(Arc::new(tunnel)), ..access })
    }

    /// Runs `hopcast` with these arguments where it sees every process and network of the mesh; `input` stands first on its
    /// standard input, and `line` takes each line that it says. The answer is the end of what it said on its standard error.
    pub(super) async fn run_outside(
        &self,
        plan: &Plan,
        arguments: &[&str],
        input: Vec<u8>,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<String, Error> {
        let engine = self.engine().await?;
        let spec = Spec {
            mesh: &plan.mesh,
            image: &plan.docker.signalling_image,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            position: Position::Outside,
            shared: None,
            input,
        };
        let mut helper = Helper::start(engine, spec).await?;
        while let Some(said) = helper.line().await? {
            line(&said);
        }
        let words = helper.last_words();
        helper.end(engine).await;
        Ok(words)
    }
}

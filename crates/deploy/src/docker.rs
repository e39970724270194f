//! The Docker backend: every node a container, through the Engine API of a local engine.
//!
//! | module | what |
//! | --- | --- |
//! | [`engine`] | the one way to the engine: bounded, counted, with a deadline on every request |
//! | [`labels`] | how everything that is ours is found again |
//! | [`place`] | where everything is: the plan's fixed addresses |
//! | [`image`] | the three images, without a registry |
//! | [`tunnel`] | SQL from this machine to databases that only their own networks reach |
//! | [`doctor`] | what the engine and this machine lack for a plan |

pub mod doctor;
pub mod engine;
pub mod image;
pub mod labels;
pub mod place;
pub mod tunnel;

use std::sync::Arc;

use tokio::sync::OnceCell;

pub use self::engine::Engine;
use crate::{Error, State};

/// Containers of this machine's engine.
#[derive(Debug, Clone)]
pub struct Docker {
    state: State,
    engine: Arc<OnceCell<Engine>>,
}

impl Docker {
    /// The mesh of that state directory. Nothing is touched, nobody is asked.
    pub fn new(state: State) -> Self {
        Self { state, engine: Arc::default() }
    }

    /// Uses this engine instead of the one that `DOCKER_HOST` names.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = Arc::new(OnceCell::new_with(Some(engine)));
        self
    }

    /// The mesh's state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The engine; an error at once where there is none.
    pub async fn engine(&self) -> Result<&Engine, Error> {
        self.engine.get_or_try_init(Engine::connect).await
    }
}

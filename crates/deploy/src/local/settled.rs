//! What runs, once nothing is on its way down: a keeper whose `up` has just been killed or interrupted, and the warden of a
//! killed keeper, are waited for, so that the next `up` begins from a mesh that runs or from none.

use std::time::Duration;

use super::client::Client;
use crate::{Error, NodeStatus, State, state::Lock};

/// How long a keeper that ends may take: its databases write their last checkpoint.
const ENDING: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(20);

/// The nodes of the keeper that runs; none where there is no keeper. Whoever calls it holds the mesh's `apply.lock`.
pub(super) async fn nodes(state: &State) -> Result<Vec<NodeStatus>, Error> {
    let deadline = tokio::time::Instant::now() + ENDING;
    loop {
        let seen = match Client::connect(state).await? {
            Some(client) => match client.report().await {
                Ok(report) if !report.stopping => return Ok(report.nodes),
                Ok(_) => Error::Keeper(format!(
                    "mesh {} is being stopped, and that does not end: `hopcast down` ends it",
                    state.mesh()
                )),
                // In the middle of an answer it may have ended.
                Err(error) => Error::Keeper(format!("{error}; if it hangs, `hopcast down` ends it")),
            },
            None if !Lock::is_held(&state.dir().join("lock"))? => return Ok(Vec::new()),
            None => Error::Keeper(format!(
                "what ran of mesh {} does not end: `hopcast down` ends it",
                state.mesh()
            )),
        };
        if tokio::time::Instant::now() > deadline {
            return Err(seen);
        }
        tokio::time::sleep(LOOK).await;
    }
}

//! The databases of hosts that run: schema, roles, replication, songs. From the operator's host, over the network.

use std::time::Duration;

use hopcast_protocol::{DatabaseAccess, DatabaseName, MeshSecret};
use hopcast_topology::Plan;

use super::Hosts;
use crate::{Access, Error, Progress, databases};

/// How long a database's host may take to come up.
const CONNECT: Duration = Duration::from_secs(120);

/// The operator's keys and addresses.
fn access(plan: &Plan, hosts: &Hosts, secret: &MeshSecret, password: &str) -> Access {
    let database = |name: &DatabaseName| {
        let at = hosts.database(plan, name);
        DatabaseAccess {
            name: name.clone(),
            host: at.ip().to_string(),
            port: at.port(),
            database: plan.postgres.database.clone(),
            user: plan.postgres.user.clone(),
            password: password.to_owned(),
        }
    };
    Access {
        secret: secret.clone(),
        origin: database(&plan.origin.name),
        edges: plan.edges.iter().map(|edge| database(&edge.name)).collect(),
        signalling: hosts.server(plan),
        door: None,
        way: None,
    }
}

/// Makes the databases what the plan says, stores its songs and waits until every edge has them; the names of the songs that
/// were not there, or not like this. Changes only what differs.
pub async fn populate(
    plan: &Plan,
    hosts: &Hosts,
    secret: &MeshSecret,
    password: &str,
    progress: &dyn Progress,
) -> Result<Vec<String>, Error> {
    let access = access(plan, hosts, secret, password);
    let origin = hosts.database(plan, &plan.origin.name);
    let mut databases = databases::set_up(plan, &access, origin, CONNECT).await?;
    let songs = databases.ingest(plan, secret, progress).await?;
    databases.replicate(plan, progress).await?;
    Ok(songs)
}

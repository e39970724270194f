//! `status`: the keeper's processes, the signalling server's rooms, the databases' replication.

use std::collections::HashMap;

use super::{Local, access, client::Client};
use crate::{Error, NodeState, Replication, Status, databases, graph, ready, wire::Desired};

pub(super) async fn run(local: &Local) -> Result<Status, Error> {
    let mut status = Status {
        mesh: local.state.mesh().clone(),
        backend: "local".into(),
        ready: false,
        detached: false,
        nodes: Vec::new(),
        rooms: Vec::new(),
        replication: Vec::new(),
        cut: Vec::new(),
    };
    let Some(client) = Client::connect(&local.state).await? else { return Ok(status) };
    let Some(report) = client.unless_gone(client.report().await).await? else { return Ok(status) };
    status.detached = report.detached;
    status.nodes = report.nodes;
    status.cut = report.cut;
    let Some(desired) = client.desired().await? else { return Ok(status) };
    order(&mut status, &desired);
    let (connected, replication) =
        tokio::join!(graph::connected(desired.plan.signalling.local), replication(local, &desired));
    if let Ok(connected) = connected {
        status.rooms = ready::rooms(&desired.plan, connected);
    }
    status.replication = replication;
    status.ready = status.nodes.iter().all(|node| node.state == NodeState::Running)
        && ready::all_connected(&desired.plan, &status.rooms)
        && status.replication.iter().all(|edge| edge.replicating);
    Ok(status)
}

/// Keeper, signalling server, databases, peers: each in the plan's order.
fn order(status: &mut Status, desired: &Desired) {
    let fixed = ["keeper", "signalling"].map(str::to_owned);
    let databases = desired.databases.iter().map(|spec| spec.name.to_string());
    let peers = desired.peers.iter().map(|peer| peer.name.to_string());
    let place: HashMap<String, usize> =
        fixed.into_iter().chain(databases).chain(peers).enumerate().map(|(at, name)| (name, at)).collect();
    status.nodes.sort_by_key(|node| place.get(&node.name).copied().unwrap_or(usize::MAX));
}

async fn replication(local: &Local, desired: &Desired) -> Vec<Replication> {
    match access(&local.state, desired) {
        Ok(access) => databases::replication(&desired.plan, &access).await,
        Err(error) => databases::no_replication(&desired.plan, &error.to_string()),
    }
}

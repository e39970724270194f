//! `status`: the keeper's processes, the signalling server's rooms, the databases' replication.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::future::join_all;
use hopcast_store::Admin;

use super::{Local, access, client::Client};
use crate::{Error, NodeState, Replication, RoomStatus, Status, graph, wire::Desired};

/// How long the databases may take to answer.
const DATABASES: Duration = Duration::from_secs(3);

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
    if let Ok(mut connected) = connected {
        status.rooms = desired
            .plan
            .rooms
            .iter()
            .map(|room| RoomStatus {
                name: room.name.clone(),
                peers: room.peers.len(),
                connected: connected.remove(&room.name).unwrap_or_default(),
            })
            .collect();
    }
    status.replication = replication;
    status.ready = status.nodes.iter().all(|node| node.state == NodeState::Running)
        && status.rooms.len() == desired.plan.rooms.len()
        && desired.plan.rooms.iter().zip(&status.rooms).all(|(room, now)| {
            let here: HashSet<_> = now.connected.iter().collect();
            room.peers.iter().all(|peer| here.contains(peer))
        })
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
    let failed = |detail: String| -> Vec<Replication> {
        let edge = |edge: &hopcast_topology::plan::Edge| Replication {
            edge: edge.name.clone(),
            replicating: false,
            detail: detail.clone(),
        };
        desired.plan.edges.iter().map(edge).collect()
    };
    let access = match access(&local.state, desired) {
        Ok(access) => access,
        Err(error) => return failed(error.to_string()),
    };
    let late = || format!("no answer within {} s", DATABASES.as_secs());
    let origin = match tokio::time::timeout(DATABASES, Admin::connect(&access.origin)).await {
        Ok(Ok(origin)) => origin,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(_) => return failed(format!("{}: {}", access.origin.name, late())),
    };
    let (origin, mesh) = (&origin, &desired.plan.mesh);
    join_all(access.edges.iter().map(|at| async move {
        let look = async {
            let edge = Admin::connect(at).await?;
            edge.replication_state(origin, mesh, &at.name).await
        };
        let (replicating, detail) = match tokio::time::timeout(DATABASES, look).await {
            Ok(Ok(state)) => (state.is_replicating(), state.to_string()),
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, late()),
        };
        Replication { edge: at.name.clone(), replicating, detail }
    }))
    .await
}

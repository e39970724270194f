//! `status`: containers and what they take, from the engine; rooms from the signalling server; replication from the
//! databases.

use std::collections::HashMap;

use bollard::{
    models::{ContainerInspectResponse, ContainerStatsResponse},
    query_parameters::{InspectContainerOptions, StatsOptionsBuilder},
};
use futures_util::{StreamExt as _, future::join_all};
use hopcast_topology::Plan;

use super::{
    Docker, Engine,
    engine::LOOK,
    faults,
    files::Files,
    labels::{self, Role},
    place,
    present::{self, Container, Life},
};
use crate::{Error, NodeRole, NodeState, NodeStatus, Status, databases, graph, ready};

pub(super) async fn run(docker: &Docker) -> Result<Status, Error> {
    let mesh = docker.state().mesh().clone();
    let mut status = Status {
        mesh: mesh.clone(),
        backend: "docker".into(),
        ready: false,
        // Nothing of it ends with a program of ours.
        detached: true,
        nodes: Vec::new(),
        rooms: Vec::new(),
        replication: Vec::new(),
        cut: Vec::new(),
    };
    let engine = docker.engine().await?;
    let mut there = present::containers(engine, labels::filter(&mesh)).await?;
    there.retain(|container| role(container).is_some());
    if there.is_empty() {
        return Ok(status);
    }
    let files = Files::new(docker.state());
    let plan = files.plan()?;
    status.nodes = join_all(there.iter().map(|container| node(engine, container, plan.as_ref()))).await;
    let Some(plan) = plan else {
        status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(status);
    };
    order(&mut status.nodes, &plan);
    status.cut = faults::cut(&files, &plan);
    let (connected, replication) =
        tokio::join!(graph::connected(place::published(plan.signalling.local)), replication(docker, &plan));
    if let Ok(connected) = connected {
        status.rooms = ready::rooms(&plan, connected);
    }
    status.replication = replication;
    status.ready = status.nodes.len() == plan.peers.len() + plan.edges.len() + 2
        && status.nodes.iter().all(|node| node.state == NodeState::Running)
        && ready::all_connected(&plan, &status.rooms)
        && status.replication.iter().all(|edge| edge.replicating);
    Ok(status)
}

async fn replication(docker: &Docker, plan: &Plan) -> Vec<crate::Replication> {
    let open = async {
        let secret = docker.secret()?;
        docker.open_to(plan, &secret).await
    };
    match open.await {
        Ok(access) => {
            let replication = databases::replication(plan, &access).await;
            access.close().await;
            replication
        }
        Err(error) => databases::no_replication(plan, &error.to_string()),
    }
}

fn role(container: &Container) -> Option<NodeRole> {
    match container.label.role? {
        Role::Peer => Some(NodeRole::Peer),
        Role::Database => Some(NodeRole::Database),
        Role::Signalling => Some(NodeRole::Signalling),
        Role::Helper | Role::Network | Role::Volume => None,
    }
}

/// Databases, signalling server, peers: each in the plan's order.
fn order(nodes: &mut [NodeStatus], plan: &Plan) {
    let databases = std::iter::once(&plan.origin.name).chain(plan.edges.iter().map(|edge| &edge.name));
    let all = std::iter::once(plan.docker.signalling_name.to_string())
        .chain(databases.map(ToString::to_string))
        .chain(plan.peers.iter().map(|peer| peer.name.to_string()));
    let place: HashMap<String, usize> = all.enumerate().map(|(at, name)| (name, at)).collect();
    nodes.sort_by_key(|node| place.get(&node.name).copied().unwrap_or(usize::MAX));
}

/// One container. What the engine does not tell in time is left out.
async fn node(engine: &Engine, container: &Container, plan: Option<&Plan>) -> NodeStatus {
    let alive = matches!(container.life, Life::Running | Life::Paused);
    let inspect = async {
        let id = container.id.clone();
        let ask = |docker: bollard::Docker| async move {
            docker.inspect_container(&id, None::<InspectContainerOptions>).await
        };
        engine.call(format!("look at {}", container.name), LOOK, ask).await.unwrap_or_default()
    };
    let usage = async {
        if !alive {
            return None;
        }
        let id = container.id.clone();
        let ask = |docker: bollard::Docker| async move {
            let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
            match docker.stats(&id, Some(options)).next().await {
                Some(stats) => stats.map(Some),
                None => Ok(None),
            }
        };
        engine.call(format!("ask what {} takes", container.name), LOOK, ask).await.ok().flatten()
    };
    let (inspected, usage) = tokio::join!(inspect, usage);
    of(container, &inspected, usage.as_ref(), plan)
}

/// What the engine says, in our words.
fn of(
    container: &Container,
    inspected: &ContainerInspectResponse,
    usage: Option<&ContainerStatsResponse>,
    plan: Option<&Plan>,
) -> NodeStatus {
    let state = inspected.state.as_ref();
    let code = state.and_then(|state| state.exit_code).unwrap_or_default();
    let killed = state.and_then(|state| state.oom_killed).unwrap_or_default();
    let detail = match container.life {
        Life::Running | Life::Paused => None,
        Life::Created => Some("never started".to_owned()),
        _ if killed => Some("killed: it wanted more memory than its cap".to_owned()),
        Life::Restarting => Some(format!("ended with {code}, is started again")),
        _ => Some(format!("ended with {code}")),
    };
    let health = state
        .and_then(|state| state.health.as_ref()?.status)
        .map(|health| health.to_string())
        .filter(|health| !health.is_empty() && health != "none");
    let time = |text: Option<&String>| text.and_then(|text| present::unix_seconds(text)).filter(|&at| at > 0);
    let since = match container.life {
        Life::Exited => time(state.and_then(|state| state.finished_at.as_ref())),
        _ => time(state.and_then(|state| state.started_at.as_ref())),
    };
    NodeStatus {
        name: container.name.clone(),
        role: role(container).unwrap_or(NodeRole::Peer),
        state: match container.life {
            Life::Created => NodeState::Starting,
            Life::Running => NodeState::Running,
            Life::Paused => NodeState::Paused,
            Life::Exited if code == 0 => NodeState::Stopped,
            Life::Exited | Life::Restarting | Life::Gone => NodeState::Dead,
        },
        pid: state.and_then(|state| state.pid).filter(|&pid| pid > 0).map(|pid| pid as u32),
        address: plan.and_then(|plan| address(plan, &container.name)),
        restarts: inspected.restart_count.unwrap_or_default().max(0) as u32,
        since: since.unwrap_or(container.created),
        rss_kb: usage.and_then(memory).map(|bytes| bytes / 1024),
        cpu_ms: usage
            .and_then(|usage| usage.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage)
            .map(|ns| ns / 1_000_000),
        health,
        detail,
    }
}

/// As `docker stats` counts it: without the page cache that nobody has touched lately.
fn memory(usage: &ContainerStatsResponse) -> Option<u64> {
    let memory = usage.memory_stats.as_ref()?;
    let stats = memory.stats.as_ref();
    let inactive = |name| stats.and_then(|stats| stats.get(name)).copied();
    // cgroup v1, and v2.
    let cache = inactive("total_inactive_file").or_else(|| inactive("inactive_file")).unwrap_or_default();
    Some(memory.usage?.saturating_sub(cache))
}

fn address(plan: &Plan, name: &str) -> Option<std::net::SocketAddr> {
    if plan.docker.signalling_name.as_str() == name {
        return Some(plan.signalling.docker);
    }
    if plan.origin.name.as_str() == name {
        return Some(plan.origin.docker.address);
    }
    let edge = plan.edges.iter().find(|edge| edge.name.as_str() == name).map(|edge| edge.docker.address);
    edge.or_else(|| plan.peer(name).map(|peer| peer.docker))
}

//! Breaking things on purpose, and mending them.

use std::collections::BTreeMap;

use hopcast_protocol::{PeerConfig, PeerName, SignallingConfig};
use hopcast_topology::Plan;

use super::{
    Docker, Engine,
    files::Files,
    labels::{self, Role},
    nodes,
    place::{self, Containers},
    present::{self, Container, Life},
    wanted::CONFIG_FILE,
};
use crate::{Error, Fault, error::Doing as _, graph, render};

/// Seconds that a database has to stop in order.
const STOP: i32 = 30;

pub(super) async fn run(docker: &Docker, fault: &Fault) -> Result<(), Error> {
    let engine = docker.engine().await?;
    let mesh = docker.state().mesh();
    let there = present::containers(engine, labels::filter(mesh)).await?;
    if there.is_empty() {
        return Err(Error::NotRunning(mesh.clone()));
    }
    let find = |name: &str, lives: &[Life]| {
        there
            .iter()
            .find(|container| container.name == name && lives.contains(&container.life))
            .ok_or_else(|| unknown("running node", name))
    };
    match fault {
        Fault::Kill(name) => {
            let node = find(name, &[Life::Running, Life::Paused, Life::Restarting])?;
            nodes::signal(engine, name, &node.id, "KILL").await
        }
        Fault::Pause(name) => nodes::pause(engine, name, &find(name, &[Life::Running])?.id).await,
        Fault::Resume(name) => nodes::resume(engine, name, &find(name, &[Life::Paused])?.id).await,
        Fault::StopDatabase(name) => {
            let node = database(&there, name.as_str())?;
            nodes::stop(engine, name.as_str(), &node.id, STOP).await
        }
        Fault::StartDatabase(name) => {
            let node = database(&there, name.as_str())?;
            nodes::start_id(engine, name.as_str(), &node.id).await
        }
        Fault::CutLink(a, b) => set_link(docker, engine, &there, a, b, true).await,
        Fault::RestoreLink(a, b) => set_link(docker, engine, &there, a, b, false).await,
    }
}

fn unknown(what: &str, name: &str) -> Error {
    Error::Unknown(format!("there is no {what} {name}: `hopcast status` lists them"))
}

fn database<'a>(there: &'a [Container], name: &str) -> Result<&'a Container, Error> {
    there
        .iter()
        .find(|container| container.name == name && container.label.role == Some(Role::Database))
        .ok_or_else(|| unknown("database", name))
}

/// The links that are in the plan and not in its ends' files.
pub(super) fn cut(files: &Files, plan: &Plan) -> Vec<(PeerName, PeerName)> {
    let known: BTreeMap<&PeerName, Option<PeerConfig>> =
        plan.peers.iter().map(|peer| (&peer.name, read(files, peer.name.as_str()))).collect();
    let knows = |a: &PeerName, b: &PeerName| match known.get(a) {
        Some(Some(config)) => config.neighbors.iter().any(|neighbor| neighbor.name == *b),
        // A file that cannot be read says nothing about links.
        _ => true,
    };
    plan.links
        .iter()
        .filter(|link| !knows(&link.a, &link.b) || !knows(&link.b, &link.a))
        .map(|link| (link.a.clone(), link.b.clone()))
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(files: &Files, node: &str) -> Option<T> {
    let bytes = std::fs::read(files.of(node).join(CONFIG_FILE)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Takes a link from both ends' files and from the server's seed links, or gives it back; whoever runs rereads.
async fn set_link(
    docker: &Docker,
    engine: &Engine,
    there: &[Container],
    a: &PeerName,
    b: &PeerName,
    is_cut: bool,
) -> Result<(), Error> {
    let state = docker.state();
    let _lock = state.lock()?;
    let files = Files::new(state);
    let plan = files.plan()?.ok_or_else(|| Error::NotRunning(state.mesh().clone()))?;
    let secret = docker.secret()?;
    let same = |x: &PeerName, y: &PeerName| (x == a && y == b) || (x == b && y == a);
    if !plan.links.iter().any(|link| same(&link.a, &link.b)) {
        return Err(Error::Unknown(format!("{a} and {b} have no link")));
    }
    let mut cut = cut(&files, &plan);
    cut.retain(|(x, y)| !same(x, y));
    if is_cut {
        cut.push((a.clone(), b.clone()));
    }
    let gone = |x: &PeerName, y: &PeerName| cut.iter().any(|(a, b)| (a == x && b == y) || (a == y && b == x));

    let server: SignallingConfig =
        render::cut_signalling(render::signalling(&plan, &secret, &Containers), gone);
    // The server first: it must know a link before its ends announce it.
    reread(engine, &files, there, plan.docker.signalling_name.as_str(), &server).await?;
    graph::wait_for_links(place::published(plan.signalling.local), &server).await;
    for config in render::peers(&plan, &secret, &Containers) {
        if config.name == *a || config.name == *b {
            let name = config.name.clone();
            reread(engine, &files, there, name.as_str(), &render::cut_peer(config, gone)).await?;
        }
    }
    Ok(())
}

async fn reread(
    engine: &Engine,
    files: &Files,
    there: &[Container],
    node: &str,
    config: &impl serde::Serialize,
) -> Result<(), Error> {
    let path = files.of(node).join(CONFIG_FILE);
    let bytes = serde_json::to_vec(config).map_err(std::io::Error::other).doing("write", path)?;
    files.write_file(node, CONFIG_FILE, &bytes)?;
    match there.iter().find(|container| container.name == node && container.life == Life::Running) {
        Some(container) => nodes::signal(engine, node, &container.id, "HUP").await,
        None => Ok(()),
    }
}

//! A topology file as settings: its rooms and links are the only ones, its peers need no token.

use std::{io::Read as _, path::Path, sync::Arc};

use hopcast_protocol::config::RoomConfig;
use hopcast_topology::{Env, Plan, Source};
use tracing::warn;

use crate::{
    config::{Settings, seeds},
    error::ConfigError,
};

/// Reads a file, with the original's environment variables on top.
pub(crate) fn settings(path: &Path, env: &Env) -> Result<Settings, ConfigError> {
    let unreadable = |error| ConfigError::one(path, format!("cannot be read: {error}"));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let name = path.display().to_string();
    let directory = path.parent().unwrap_or(Path::new(""));
    let read_graph = |graph: &str, most: usize| read_bounded(&directory.join(graph), most);
    let loaded = hopcast_topology::load(Source::new(&name, &text).with_graphs(&read_graph), env)
        .map_err(|report| ConfigError::one(path, format!("is not usable:\n{report}")))?;
    if !loaded.warnings.is_empty() {
        warn!("{name}:\n{}", loaded.warnings);
    }
    from_plan(&loaded.plan).map_err(|problems| ConfigError::new(path, problems))
}

fn from_plan(plan: &Plan) -> Result<Settings, Vec<String>> {
    let rooms = plan.rooms.iter().map(|room| RoomConfig {
        name: room.name.clone(),
        peers: room.peers.clone(),
        links: plan.room_links(&room.name).map(|link| (link.a.clone(), link.b.clone())).collect(),
    });
    let in_a_room = plan.gateways().filter(|peer| !peer.rooms.is_empty());
    let mut problems = Vec::new();
    let seeds = seeds(rooms.collect(), in_a_room.map(|peer| peer.name.clone()).collect(), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Settings {
        mesh: Some(plan.mesh.clone()),
        seeds: Some(Arc::new(seeds)),
        ..Settings::open(plan.signalling.local.into())
    })
}

fn read_bounded(path: &Path, most: usize) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(most as u64 + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() > most {
        return Err(format!("it is longer than {most} bytes"));
    }
    Ok(text)
}

//! Building and tearing down one large room, in a process of its own, so that its memory can be told apart.

use std::{collections::HashMap, time::Instant};

use anyhow::{Context as _, Result, bail};
use hopcast_protocol::PeerName;
use hopcast_routing::{Changes, Room, Rules};
use petgraph::{graph::NodeIndex, stable_graph::StableUnGraph};
use serde::{Deserialize, Serialize};

use super::{
    shape::{Shape, neighbors},
    sides::names,
};
use crate::process::Process;

/// What one side took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Taken {
    /// Until every peer has entered and announced its neighbours.
    pub build_seconds: f64,
    /// What the process grew by.
    pub bytes: f64,
    /// Until every peer has left again.
    pub leave_seconds: f64,
    /// Links when all were there: both sides must agree.
    pub links: usize,
}

/// Builds a room of so many peers on the side `ours` or `petgraph`, and takes it down.
pub fn measure(side: &str, peers: usize) -> Result<Taken> {
    let (peers, links) = Shape::Random.links(peers);
    let lists = neighbors(peers, &links);
    drop(links);
    let names = names(peers)?;
    // Each announces all its neighbours by name, as the protocol has it.
    let announced = |peer: usize| lists[peer].iter().map(|&next| &names[next as usize]);
    let this = Process::this();
    let before = this.resident()?;
    let begin = Instant::now();
    let (build_seconds, bytes, links, leaving);
    match side {
        "ours" => {
            let mut room: Room<PeerName> = Room::new(Rules::default());
            let mut changes = Changes::new();
            for (peer, name) in names.iter().enumerate() {
                let id = room.join(name, &mut changes);
                room.announce(id, announced(peer), &mut changes)?;
                changes.clear();
            }
            build_seconds = begin.elapsed().as_secs_f64();
            bytes = this.resident()?.saturating_sub(before) as f64;
            links = room.link_count();
            leaving = Instant::now();
            for name in &names {
                let id = room.id(name).context("a peer is not in its room")?;
                room.leave(id, &mut changes);
                changes.clear();
            }
        }
        "petgraph" => {
            let mut graph: StableUnGraph<PeerName, ()> = StableUnGraph::default();
            // Names are hashed as our room does it, and copied only where they are new.
            let mut ids: HashMap<PeerName, NodeIndex, ahash::RandomState> = HashMap::default();
            let mut find = |graph: &mut StableUnGraph<PeerName, ()>, name: &PeerName| match ids.get(name) {
                Some(&id) => id,
                None => *ids.entry(name.clone()).or_insert(graph.add_node(name.clone())),
            };
            for (peer, name) in names.iter().enumerate() {
                let id = find(&mut graph, name);
                for next in announced(peer) {
                    let next = find(&mut graph, next);
                    // The other end may have announced it already.
                    graph.update_edge(id, next, ());
                }
            }
            build_seconds = begin.elapsed().as_secs_f64();
            bytes = this.resident()?.saturating_sub(before) as f64;
            links = graph.edge_count();
            leaving = Instant::now();
            for name in &names {
                graph.remove_node(ids.remove(name).context("a peer is not in its graph")?);
            }
        }
        other => bail!("`{other}` is no side: `ours` or `petgraph`"),
    }
    Ok(Taken { build_seconds, bytes, leave_seconds: leaving.elapsed().as_secs_f64(), links })
}

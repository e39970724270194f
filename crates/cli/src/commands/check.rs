//! `hopcast check`: everything that is wrong with the file; with `--analyse`, what a single failure would cut off.

use std::path::PathBuf;

use clap::Args;
use hopcast_protocol::{PeerName, RoomName};
use hopcast_topology::{Entry, Plan};
use serde::Serialize;

use super::plan::headline;
use crate::{
    context::Context,
    output::{Output, count},
    ways::{self, RoomWays},
};

/// Most weaknesses of a room that are printed for people; --json has them all.
const SHOWN: usize = 20;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tell each room's diameter, its longest way to an edge, and what a single failure would cut off
    #[arg(long, visible_alias = "analyze")]
    analyse: bool,
}

#[derive(Serialize)]
struct Answer {
    ok: bool,
    file: PathBuf,
    mesh: String,
    peers: usize,
    links: usize,
    rooms: usize,
    edges: usize,
    songs: usize,
    warnings: Vec<Entry>,
    /// What is wrong with the files that the file names; `up` would fail.
    unreadable: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis: Option<Vec<RoomAnalysis>>,
}

/// What a room is like.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct RoomAnalysis {
    pub room: RoomName,
    pub peers: usize,
    pub links: usize,
    /// The longest of all shortest paths, in hops.
    pub diameter: u32,
    /// Two peers that are that far apart.
    pub ends: Option<(PeerName, PeerName)>,
    /// The longest way to the nearest gateway, in hops, and who has it.
    pub farthest: Option<(PeerName, u32)>,
    /// Single failures that cut peers off from every edge.
    pub weaknesses: Vec<Weakness>,
}

/// One failure that cuts somebody off.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Weakness {
    /// `peer` or `link`.
    pub kind: &'static str,
    /// The peer, or the two ends of the link.
    pub failure: Vec<PeerName>,
    /// Who can no longer reach a gateway.
    pub cut_off: Vec<PeerName>,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = context.load()?;
    context.tell(&loaded.warnings);
    let plan = &loaded.plan;
    let analysis = arguments
        .analyse
        .then(|| plan.rooms.iter().map(|room| RoomWays::new(plan, room).analyse(plan)).collect());
    context.out.line(format_args!("{}: ok", loaded.path.display()));
    context.out.line(headline(plan));
    for room in analysis.iter().flatten() {
        print(&context.out, plan, room);
    }
    let unreadable: Vec<_> = hopcast_deploy::unreadable(plan).map(|error| error.to_string()).collect();
    for problem in &unreadable {
        context.out.note(format_args!("warning: `hopcast up` will fail: {problem}"));
    }
    context.out.result(&Answer {
        ok: true,
        file: loaded.path,
        mesh: plan.mesh.to_string(),
        peers: plan.peers.len(),
        links: plan.links.len(),
        rooms: plan.rooms.len(),
        edges: plan.edges.len(),
        songs: plan.songs.len(),
        warnings: loaded.warnings.entries().collect(),
        unreadable,
        analysis,
    })
}

fn print(out: &Output, plan: &Plan, room: &RoomAnalysis) {
    let (peers, links) = (count(room.peers, "peer"), count(room.links, "link"));
    out.line(format_args!("\nroom {}: {peers}, {links}", room.room));
    if let Some((a, b)) = &room.ends {
        out.line(format_args!("  diameter: {}, {a} to {b}", count(room.diameter as usize, "hop")));
    }
    if let Some((peer, hops)) = &room.farthest {
        out.line(format_args!("  farthest from an edge: {peer}, {}", count(*hops as usize, "hop")));
    }
    if room.weaknesses.is_empty() {
        out.line("  no single peer or link cuts anybody off from the edges");
    }
    for weakness in room.weaknesses.iter().take(SHOWN) {
        let failure: Vec<_> = weakness.failure.iter().map(ToString::to_string).collect();
        out.line(format_args!(
            "  without {} {}: {} cut off from every edge ({})",
            weakness.kind,
            failure.join(" - "),
            count(weakness.cut_off.len(), "peer"),
            ways::ranges(plan, &weakness.cut_off)
        ));
    }
    if room.weaknesses.len() > SHOWN {
        out.line(format_args!("  and {} more", room.weaknesses.len() - SHOWN));
    }
}

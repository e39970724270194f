//! `hopcast graph`: the plan, or the running mesh over it, as DOT, SVG or PNG.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use hopcast_protocol::{PeerName, RoomName};
use serde::Deserialize;

use super::path;
use crate::{
    context::{Context, Which},
    exit::{self, Failure},
    graph::{Format as Painted, Overlay, dot, render},
    http,
    output::bytes,
};

/// Longest answer of `/api/graph` that is read, in bytes: thousands of peers.
const GRAPH: usize = 64 << 20;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to write it; the form follows from .dot, .svg or .png [default: DOT on stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The form, whatever the file is called
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Draw the plan alone, even if the mesh runs
    #[arg(long)]
    plan: bool,
    /// Show the way from one peer to another
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    path: Option<Vec<PeerName>>,
    /// The room of --path [default: the room of the shortest way]
    #[arg(long, value_name = "ROOM", requires = "path")]
    room: Option<RoomName>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// Graphviz's own language; needs no program
    Dot,
    /// Scalable
    Svg,
    /// Pixels
    Png,
}

/// `/api/graph`, as far as it is drawn.
#[derive(Deserialize)]
struct Graph {
    rooms: Vec<Room>,
}

#[derive(Deserialize)]
struct Room {
    peers: Vec<Peer>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Peer {
    name: PeerName,
    connected: bool,
}

#[derive(Deserialize)]
struct Link {
    a: PeerName,
    b: PeerName,
    up: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let format = format(arguments)?;
    let (plan, server) = if arguments.plan {
        (context.plan()?, None)
    } else {
        context.running_or_plan(&arguments.which).await?
    };
    let mut overlay = match server {
        Some(server) => overlay(server).await?,
        None => Overlay::default(),
    };
    if let Some([from, to]) = arguments.path.as_deref() {
        let ways = path::ways(&plan, server, from, to, arguments.room.as_ref()).await?;
        let Some(shortest) = ways.into_iter().filter_map(|way| way.path).min_by_key(Vec::len) else {
            let message =
                format!("there is no path from {from} to {to}; `hopcast path {from} {to}` tells why");
            return Err(Failure::new(exit::FAILED, message).into());
        };
        overlay.path = shortest;
    }

    let text = dot(&plan, &overlay);
    let picture = match format {
        Format::Dot => text.into_bytes(),
        Format::Svg => render(&text, Painted::Svg)?,
        Format::Png => render(&text, Painted::Png)?,
    };
    match &arguments.output {
        Some(file) => {
            std::fs::write(file, &picture).map_err(|error| exit::cannot_write(file, &error))?;
            let source = if server.is_some() { "the running mesh" } else { "the plan" };
            let size = bytes(picture.len() as u64);
            context.out.line(format_args!("wrote {} ({source}, {size})", file.display()));
        }
        None if context.out.is_json() => {}
        None => context.out.bytes(&picture),
    }
    let dead = overlay.connected.as_ref().map(|connected| {
        plan.peers.iter().map(|peer| &peer.name).filter(|name| !connected.contains(*name)).collect::<Vec<_>>()
    });
    context.out.result(&serde_json::json!({
        "mesh": plan.mesh,
        "live": server.is_some(),
        "format": format!("{format:?}").to_lowercase(),
        "file": arguments.output,
        "bytes": picture.len(),
        "peers": plan.peers.len(),
        "links": plan.links.len(),
        "dead": dead,
        "path": overlay.path,
    }))
}

fn format(arguments: &Arguments) -> anyhow::Result<Format> {
    if let Some(format) = arguments.format {
        return Ok(format);
    }
    let Some(file) = &arguments.output else { return Ok(Format::Dot) };
    Ok(match file.extension().and_then(|extension| extension.to_str()) {
        Some("dot" | "gv") => Format::Dot,
        Some("svg") => Format::Svg,
        Some("png") => Format::Png,
        _ => {
            let message = format!("{} ends neither in .dot nor .svg nor .png; say --format", file.display());
            return Err(Failure::new(exit::USAGE, message).into());
        }
    })
}

/// What the signalling server sees now.
async fn overlay(server: SocketAddr) -> anyhow::Result<Overlay> {
    let answer = http::from_server(server, "/api/graph", GRAPH, Duration::from_secs(10)).await?;
    if !answer.status.is_success() {
        bail!("http://{server}/api/graph: {} {}", answer.status, answer.sentence());
    }
    let graph: Graph = serde_json::from_slice(&answer.body)
        .with_context(|| format!("http://{server}/api/graph gave no graph"))?;
    let rooms = || graph.rooms.iter();
    let connected: HashSet<_> = rooms()
        .flat_map(|room| &room.peers)
        .filter(|peer| peer.connected)
        .map(|peer| peer.name.clone())
        .collect();
    // A link is down if a report says so, in any room; one with a peer that is away is drawn by the peer.
    let down = rooms()
        .flat_map(|room| &room.links)
        .filter(|link| !link.up && connected.contains(&link.a) && connected.contains(&link.b))
        .map(|link| (link.a.clone(), link.b.clone()))
        .collect();
    Ok(Overlay { connected: Some(connected), down, path: Vec::new() })
}

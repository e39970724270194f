//! `hopcast path A B`: the way between two peers in each room, or why there is none.
//!
//! Of a running mesh it is what the signalling server answers now; otherwise what the plan gives with every peer present
//! and every link up.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use hopcast_protocol::{PeerName, RoomName};
use hopcast_routing::Search;
use hopcast_topology::{Plan, plan::Room};
use serde::{Deserialize, Serialize};

use crate::{
    context::{Context, Which},
    exit::{self, Failure},
    http,
    output::count,
    ways::RoomWays,
};

/// Arguments of `path`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The peer that asks
    from: PeerName,
    /// The peer that is asked for
    to: PeerName,
    /// Only in this room
    #[arg(long, value_name = "ROOM")]
    room: Option<RoomName>,
    #[command(flatten)]
    which: Which,
}

/// The answer in one room.
#[derive(Debug, Serialize)]
pub(crate) struct Way {
    room: RoomName,
    /// Requester first, target last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Vec<PeerName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hops: Option<usize>,
    /// Why there is no path.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    from: PeerName,
    to: PeerName,
    /// True: from the running mesh.
    live: bool,
    rooms: Vec<Way>,
}

/// `/api/path`, both forms.
#[derive(Deserialize)]
struct Live {
    #[serde(default)]
    path: Vec<PeerName>,
    #[serde(default)]
    message: String,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let (plan, server) = context.running_or_plan(&arguments.which).await?;
    let ways = ways(&plan, server, &arguments.from, &arguments.to, arguments.room.as_ref()).await?;
    let answer = Answer {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        live: server.is_some(),
        rooms: ways,
    };
    if !context.out.is_json() {
        print(context, &answer);
    }
    context.out.result(&answer)?;
    let found = answer.rooms.iter().any(|way| way.path.is_some());
    Ok(if found { exit::OK } else { exit::FAILED })
}

/// The way in each room, or in one.
pub(crate) async fn ways(
    plan: &Plan,
    server: Option<SocketAddr>,
    from: &PeerName,
    to: &PeerName,
    room: Option<&RoomName>,
) -> anyhow::Result<Vec<Way>> {
    for peer in [from, to] {
        if plan.peer(peer.as_str()).is_none() {
            return Err(Failure::new(exit::USAGE, unknown_peer(plan, peer)).into());
        }
    }
    let rooms: Vec<&Room> = match room {
        None => plan.rooms.iter().collect(),
        Some(name) => vec![plan.room(name.as_str()).ok_or_else(|| {
            let names: Vec<_> = plan.rooms.iter().map(|room| room.name.to_string()).collect();
            let names = names.join(", ");
            let message = format!("`{name}` is not a room of mesh {}; its rooms are {names}", plan.mesh);
            Failure::new(exit::USAGE, message)
        })?],
    };

    let mut ways = Vec::with_capacity(rooms.len());
    for room in rooms {
        ways.push(way(plan, room, server, from, to).await?);
    }
    Ok(ways)
}

async fn way(
    plan: &Plan,
    room: &Room,
    server: Option<SocketAddr>,
    from: &PeerName,
    to: &PeerName,
) -> anyhow::Result<Way> {
    let mut way = Way { room: room.name.clone(), path: None, hops: None, reason: None };
    let outside: Vec<_> = [from, to].into_iter().filter(|peer| !room.peers.contains(peer)).collect();
    match outside[..] {
        [] => {}
        [one] => way.reason = Some(format!("{one} is not in this room")),
        _ => way.reason = Some("neither is in this room".to_owned()),
    }
    if way.reason.is_some() {
        return Ok(way);
    }
    if let Some(server) = server {
        // Names need no escaping: that is what they are restricted for.
        let target = format!("/api/path?room={}&from={from}&to={to}", room.name);
        let answer = http::from_server(server, &target, 1 << 20, Duration::from_secs(5)).await?;
        let live: Live = serde_json::from_slice(&answer.body).with_context(|| {
            format!("http://{server}{target} answered {} {}", answer.status, answer.sentence())
        })?;
        if answer.status.is_success() && !live.path.is_empty() {
            way.path = Some(live.path);
        } else {
            way.reason = Some(live.message);
        }
    } else {
        way.path = RoomWays::new(plan, room).path(&mut Search::new(), from, to);
        if way.path.is_none() {
            way.reason = Some("no chain of links inside this room leads from one to the other".to_owned());
        }
    }
    way.hops = way.path.as_ref().map(|path| path.len() - 1);
    Ok(way)
}

fn print(context: &Context, answer: &Answer) {
    let source = if answer.live { "from the running mesh" } else { "from the plan; the mesh is not running" };
    context.out.line(format_args!("{} to {} ({source})", answer.from, answer.to));
    let width = answer.rooms.iter().map(|way| way.room.as_str().len()).max().unwrap_or_default();
    for way in &answer.rooms {
        let text = match (&way.path, &way.reason) {
            (Some(path), _) => {
                let names: Vec<_> = path.iter().map(ToString::to_string).collect();
                format!("{}: {}", count(path.len() - 1, "hop"), names.join(" - "))
            }
            (None, Some(reason)) => format!("no path: {reason}"),
            (None, None) => "no path".to_owned(),
        };
        context.out.line(format_args!("  {:width$}  {text}", way.room));
    }
}

/// What to say where a name is not a peer of the plan.
pub(crate) fn unknown_peer(plan: &Plan, name: &PeerName) -> String {
    let (first, last) = (plan.peers.first(), plan.peers.last());
    let range = match (first, last) {
        (Some(first), Some(last)) => format!("; its peers are {}..{}", first.name, last.name),
        _ => String::new(),
    };
    format!("`{name}` is not a peer of mesh {}{range}", plan.mesh)
}

//! What the signalling server says about rooms and links.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use hopcast_protocol::{PeerName, RoomName, SignallingConfig};
use serde::Deserialize;

use crate::{http, render::reachable};

/// How long a server may take to reread its file.
const REREAD: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct Rooms {
    rooms: Vec<Room>,
}

#[derive(Deserialize)]
struct Room {
    name: RoomName,
    connected: Vec<PeerName>,
}

#[derive(Deserialize)]
struct Graph {
    rooms: Vec<GraphRoom>,
}

#[derive(Deserialize)]
struct GraphRoom {
    name: RoomName,
    links: Vec<GraphLink>,
}

#[derive(Deserialize)]
struct GraphLink {
    a: PeerName,
    b: PeerName,
}

/// Who is connected, room by room.
pub(crate) async fn connected(server: SocketAddr) -> Result<HashMap<RoomName, Vec<PeerName>>, String> {
    let (status, body) = http::get(reachable(server), "/api/rooms").await?;
    if !status.is_success() {
        return Err(format!("/api/rooms answered {status}"));
    }
    let rooms: Rooms = serde_json::from_slice(&body).map_err(|error| format!("/api/rooms: {error}"))?;
    Ok(rooms.rooms.into_iter().map(|room| (room.name, room.connected)).collect())
}

type Links = BTreeSet<(RoomName, PeerName, PeerName)>;

fn sorted(room: &RoomName, a: &PeerName, b: &PeerName) -> (RoomName, PeerName, PeerName) {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    (room.clone(), low.clone(), high.clone())
}

async fn links(server: SocketAddr) -> Result<Links, String> {
    let (status, body) = http::get(reachable(server), "/api/graph").await?;
    if !status.is_success() {
        return Err(format!("/api/graph answered {status}"));
    }
    let graph: Graph = serde_json::from_slice(&body).map_err(|error| format!("/api/graph: {error}"))?;
    Ok(graph
        .rooms
        .iter()
        .flat_map(|room| room.links.iter().map(|link| sorted(&room.name, &link.a, &link.b)))
        .collect())
}

/// Waits until the server knows exactly the links of its file. Where it does not in time, whoever announces a link too
/// early is told so and announces it again with its next connection.
pub(crate) async fn wait_for_links(server: SocketAddr, config: &SignallingConfig) {
    let wanted: Links = config
        .rooms
        .iter()
        .flat_map(|room| room.links.iter().map(|(a, b)| sorted(&room.name, a, b)))
        .collect();
    let deadline = tokio::time::Instant::now() + REREAD;
    loop {
        match links(server).await {
            Ok(found) if found == wanted => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(error, "asking for the links"),
        }
        if tokio::time::Instant::now() > deadline {
            tracing::warn!("the signalling server has not taken its new links in time");
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

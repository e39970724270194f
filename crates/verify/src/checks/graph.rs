//! The live graph equals the plan's: the same rooms, the same links, every link up. Links of dead peers are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use hopcast_protocol::PeerName;
use tokio::time::Instant;

use crate::{
    api::Graph,
    context::{ANSWER, Context},
    http::Client,
    report::{Tally, count},
};

/// The check's name.
pub(crate) const NAME: &str = "graph";
pub(crate) const CLAIM: &str = "the live graph equals the plan's, room by room, with every link up";

/// Asks the server for its graph.
pub(crate) async fn fetch(signalling: SocketAddr) -> Result<Graph, String> {
    let answer =
        Client::new(signalling).get("/api/graph", ANSWER).await.map_err(|error| error.to_string())?;
    let answer = answer.ok().map_err(|why| format!("/api/graph {why}"))?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| format!("/api/graph is not what it should be: {error}"))
}

type Pair<'a> = (&'a str, &'a str);

fn pair<'a>(a: &'a str, b: &'a str) -> Pair<'a> {
    if a <= b { (a, b) } else { (b, a) }
}

/// What the dead peers leave unchecked; `None` where all live.
fn left_out(context: &Context<'_>) -> Option<String> {
    if context.dead.is_empty() {
        return None;
    }
    let plan = &context.target.plan;
    let dead = |peer: &PeerName| context.dead.contains(peer);
    let links = plan
        .rooms
        .iter()
        .map(|room| plan.room_links(&room.name).filter(|l| dead(&l.a) || dead(&l.b)).count());
    let links = count(links.sum::<usize>() as u64, "link");
    let peers = count(context.dead.len() as u64, "dead peer");
    Some(format!("among the peers that are up; {links} of {peers} left out"))
}

/// Every difference, in a stable order, and how many links were compared.
pub(crate) fn differences(context: &Context<'_>, graph: &Graph) -> (u64, Vec<String>) {
    let plan = &context.target.plan;
    let dead = |peer: &str| context.dead.contains(peer);
    let mut live: BTreeMap<&str, BTreeMap<Pair<'_>, bool>> = BTreeMap::new();
    for room in &graph.rooms {
        let links = live.entry(room.name.as_str()).or_default();
        for link in room.links.iter().filter(|l| !dead(l.a.as_str()) && !dead(l.b.as_str())) {
            links.insert(pair(link.a.as_str(), link.b.as_str()), link.up);
        }
    }
    let (mut compared, mut found) = (0, Vec::new());
    for room in &plan.rooms {
        let name = room.name.as_str();
        let Some(mut links) = live.remove(name) else {
            found.push(format!("the server has no room {name}"));
            continue;
        };
        let members: BTreeSet<&str> = room.peers.iter().map(PeerName::as_str).collect();
        let there = graph.rooms.iter().filter(|r| r.name == room.name).flat_map(|r| &r.peers);
        for peer in there.filter(|peer| peer.connected && !members.contains(peer.name.as_str())) {
            found.push(format!("{} is in {name}, against the plan", peer.name));
        }
        for link in plan.room_links(&room.name).filter(|l| !dead(l.a.as_str()) && !dead(l.b.as_str())) {
            compared += 1;
            match links.remove(&pair(link.a.as_str(), link.b.as_str())) {
                Some(true) => {}
                Some(false) => found.push(format!("{} - {} is down in {name}", link.a, link.b)),
                None => found.push(format!("{} - {} is missing in {name}", link.a, link.b)),
            }
        }
        for (a, b) in links.into_keys() {
            found.push(format!("{a} - {b} is in {name}, against the plan"));
        }
    }
    for name in live.into_keys() {
        found.push(format!("the server has a room {name}, against the plan"));
    }
    (compared, found)
}

/// Compares until both agree or the mesh had its time to settle.
pub(crate) async fn check(context: &Context<'_>) -> Tally {
    if let Some(why) = &context.mute {
        let mut tally = Tally::default();
        tally.not_run(why);
        return tally;
    }
    let settled = Instant::now() + context.options.settle;
    loop {
        let late = Instant::now() >= settled;
        let result = fetch(context.target.signalling).await.map(|graph| differences(context, &graph));
        match result {
            Ok((compared, found)) if late || found.is_empty() => {
                let mut tally = Tally::default();
                tally.checked = compared;
                if let Some(scope) = left_out(context) {
                    tally.only(scope);
                }
                for difference in found {
                    tally.fail(difference);
                }
                return tally;
            }
            Err(why) if late => {
                let mut tally = Tally::default();
                tally.fail(why);
                return tally;
            }
            _ => context.pause().await,
        }
    }
}

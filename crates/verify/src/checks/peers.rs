//! Every peer of the plan runs, answers under its own name, has the plan's neighbours, and is connected in each of its
//! rooms. Who does not is dead for all later checks, so that one dead peer is one failure.

use std::collections::{HashMap, HashSet};

use hopcast_protocol::PeerName;
use tokio::time::Instant;

use crate::{
    api::Graph,
    checks::graph::fetch,
    context::{ANSWER, Clock, Context},
    http::Client,
    report::Tally,
    target::PeerTarget,
};

/// The check's name.
pub(crate) const NAME: &str = "peers";
pub(crate) const CLAIM: &str = "every peer answers and is connected in each of its rooms, before and after";

async fn text(client: &mut Client, path: &str) -> Result<String, String> {
    let answer = client.get(path, ANSWER).await.map_err(|error| error.to_string())?.ok();
    let answer = answer.map_err(|why| format!("{path} {why}"))?;
    Ok(String::from_utf8_lossy(&answer.body).trim().to_owned())
}

/// Asks one peer who it is and whom it is linked to.
async fn answers(context: &Context<'_>, peer: &PeerTarget) -> Result<(), String> {
    let mut client = context.player(peer);
    let health = text(&mut client, "/health").await?;
    if health != format!("{}: ok", peer.name) {
        return Err(format!("/health says `{health}`"));
    }
    let name = text(&mut client, "/name").await?;
    if name != peer.name.as_str() {
        return Err(format!("/name says `{name}`"));
    }
    let neighbors = text(&mut client, "/peers").await?;
    let mut found: Vec<&str> = neighbors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let plan = context.planned(peer.name.as_str());
    let mut wanted: Vec<&str> = plan.into_iter().flat_map(|p| &p.neighbors).map(PeerName::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        return Err(format!("has the neighbours {}, not {}", found.join(" "), wanted.join(" ")));
    }
    Ok(())
}

/// The rooms of the plan in which a peer is not connected.
fn missing(context: &Context<'_>, graph: &Graph) -> HashMap<PeerName, Vec<String>> {
    let connected: HashSet<(&str, &str)> = graph
        .rooms
        .iter()
        .flat_map(|room| {
            room.peers.iter().filter(|p| p.connected).map(|p| (p.name.as_str(), room.name.as_str()))
        })
        .collect();
    let mut missing: HashMap<PeerName, Vec<String>> = HashMap::new();
    for peer in &context.target.plan.peers {
        for room in &peer.rooms {
            if !connected.contains(&(peer.name.as_str(), room.as_str())) {
                missing.entry(peer.name.clone()).or_default().push(room.to_string());
            }
        }
    }
    missing
}

/// Asks every peer once, and the server until it knows all peers that answer or the mesh had its time to settle.
pub(crate) async fn before(context: &mut Context<'_>, clock: Clock) -> Tally {
    let mut tally = Tally::default();
    let mut dead: HashMap<PeerName, String> = HashMap::new();
    for peer in &context.target.plan.peers {
        let unknown = |running: &PeerTarget| context.sees_processes() && running.pid.is_none();
        if context.running(peer.name.as_str()).is_none_or(unknown) {
            let text = "dead: it has no process".to_owned();
            dead.insert(peer.name.clone(), text);
        }
    }
    let asked: Vec<_> = context.living().into_iter().filter(|peer| !dead.contains_key(&peer.name)).collect();
    let ask = async |peer: &PeerTarget| (peer.name.clone(), answers(context, peer).await);
    context
        .each(clock.name, &mut tally, asked, ask, |_, (name, answer)| {
            if let Err(why) = answer {
                dead.insert(name, format!("dead: {why}"));
            }
        })
        .await;
    let settled = Instant::now() + context.options.settle;
    let mut mute = None;
    loop {
        match fetch(context.target.signalling).await {
            Ok(graph) => {
                let missing = missing(context, &graph);
                let late: Vec<_> = missing.iter().filter(|(peer, _)| !dead.contains_key(*peer)).collect();
                if late.is_empty() || Instant::now() >= settled {
                    for (peer, rooms) in late {
                        dead.insert(peer.clone(), format!("not connected in {}", rooms.join(", ")));
                    }
                    break;
                }
            }
            Err(why) if Instant::now() >= settled => {
                tally.fail(format!("the signalling server does not answer: {why}"));
                mute = Some(why);
                break;
            }
            Err(_) => {}
        }
        context.pause().await;
    }
    for peer in &context.target.plan.peers {
        let result = match dead.get(&peer.name) {
            Some(why) => Err(format!("{} is {why}", peer.name)),
            None => Ok(()),
        };
        tally.outcome(result);
    }
    (context.dead, context.mute) = (dead.into_keys().collect(), mute);
    tally
}

/// Asks every peer that was alive again, when everything else is over: nothing that verify did may have ended one.
pub(crate) async fn after(context: &Context<'_>, clock: Clock, tally: &mut Tally) {
    let ask = async |peer: &PeerTarget| (peer.name.clone(), answers(context, peer).await);
    context
        .each(clock.name, tally, context.living(), ask, |tally, (name, answer)| {
            if let Err(why) = answer {
                tally.fail(format!("{name} lived before the checks and not after them: {why}"));
            }
        })
        .await;
}

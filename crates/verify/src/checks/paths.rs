//! The server's paths against an independent search: for every peer of every room, to and from a gateway and from a peer
//! chosen at random. A path must lead over links of the room and be as short as the search says.
//!
//! Linear in peers: the searches start at no more than [`SOURCES`] peers of a room, each path is one request.

use std::collections::HashMap;

use hopcast_protocol::PeerName;
use tokio::time::Instant;

use crate::{
    api::{Path, Refusal},
    context::{ANSWER, Context},
    graph::{RoomGraph, Sequence, show},
    http::Client,
    report::Tally,
};

/// The check's name.
pub(crate) const NAME: &str = "paths";
pub(crate) const CLAIM: &str =
    "the server's paths run over links of their room and are as short as an independent search";

/// Gateways and random peers of one room from which a search starts.
const SOURCES: usize = 32;

/// A question to the server, and the answer that is right.
#[derive(Debug, Clone)]
struct Question {
    room: usize,
    from: PeerName,
    to: PeerName,
    hops: Option<u32>,
}

fn questions(context: &Context<'_>, rooms: &[RoomGraph]) -> Vec<Question> {
    let mut random = Sequence(context.options.seed);
    let mut questions = Vec::new();
    for (at, room) in rooms.iter().enumerate() {
        if room.peers.is_empty() {
            continue;
        }
        let all: Vec<usize> =
            context.target.plan.gateways().filter_map(|gateway| room.index(gateway.name.as_str())).collect();
        let step = all.len().div_ceil(SOURCES).max(1);
        let gateways: Vec<usize> = all.into_iter().step_by(step).collect();
        let others: Vec<usize> =
            (0..SOURCES.min(room.peers.len())).map(|_| random.below(room.peers.len())).collect();
        let trees: HashMap<usize, Vec<Option<u32>>> =
            gateways.iter().chain(&others).map(|&source| (source, room.hops([source]))).collect();
        for (i, peer) in room.peers.iter().enumerate() {
            let mut ask = |source: usize, back: bool| {
                let (hops, source) = (trees[&source][i], room.peers[source].clone());
                let (from, to) = if back { (peer.clone(), source) } else { (source, peer.clone()) };
                questions.push(Question { room: at, from, to, hops });
            };
            if !gateways.is_empty() {
                ask(gateways[i % gateways.len()], false);
                ask(gateways[random.below(gateways.len())], true);
            }
            ask(others[i % others.len()], false);
        }
    }
    questions
}

/// Asks once.
async fn ask(client: &mut Client, room: &RoomGraph, question: &Question) -> Result<(), String> {
    let Question { from, to, hops, .. } = question;
    let path = format!("/api/path?room={}&from={from}&to={to}", room.name);
    let answer = client.get(&path, ANSWER).await.map_err(|error| error.to_string())?;
    let broken = |error| format!("{path}: not what it should be: {error}");
    match answer.status.as_u16() {
        200 => {
            let Path { path } = serde_json::from_slice(&answer.body).map_err(broken)?;
            room.check_path(&path, from, to).map_err(|why| format!("{}: {why}", room.name))?;
            let length = path.len() as u32 - 1; // check_path: it has a first peer
            match hops {
                Some(hops) if length == *hops => Ok(()),
                Some(hops) => {
                    Err(format!("{}: {} has {length} hops, {hops} would do", room.name, show(&path)))
                }
                None => Err(format!("{}: {} where no path should be", room.name, show(&path))),
            }
        }
        404 => {
            let Refusal { code } = serde_json::from_slice(&answer.body).map_err(broken)?;
            match hops {
                None if code == "no_path" => Ok(()),
                None => Err(format!("{path}: `{code}` instead of `no_path`")),
                Some(hops) => Err(format!("{path}: `{code}`, but there is a path of {hops} hops")),
            }
        }
        _ => Err(format!("{path} {}", answer.unexpected())),
    }
}

/// Asks everything; what differs is asked again until the mesh had its time to settle. Returns how many paths held.
pub(crate) async fn check(context: &Context<'_>) -> Tally {
    let rooms = context.rooms();
    let questions = questions(context, &rooms);
    let mut tally = Tally::default();
    if let Some(why) = &context.mute {
        tally.not_run(why);
        return tally;
    }
    let settled = Instant::now() + context.options.settle;
    // One kept connection for each share of the questions.
    let share = questions.len().div_ceil(context.options.concurrency.max(1)).max(1);
    let rooms = &rooms;
    let work = async |share: Vec<Question>| {
        let mut client = Client::new(context.target.signalling);
        let mut results = Vec::with_capacity(share.len());
        for question in share {
            let room = &rooms[question.room];
            let mut result = ask(&mut client, room, &question).await;
            while result.is_err() && Instant::now() < settled {
                context.pause().await;
                result = ask(&mut client, room, &question).await;
            }
            results.push(result);
        }
        results
    };
    let shares: Vec<_> = questions.chunks(share).map(<[Question]>::to_vec).collect();
    context
        .each(NAME, &mut tally, shares, work, |tally, results| {
            for result in results {
                tally.outcome(result);
            }
        })
        .await;
    tally
}

//! Peers that are no neighbours, each from its own place: neither a relay request nor a player's may be served.
//!
//! Tried when the socket audit is over, which would rightly find these connections. They are reset instead of closed, so that
//! none is left in TIME_WAIT for the next run to find.

use hopcast_protocol::{Manifest, PeerName, RelayAuth};

use super::{FROM, NAME, some};
use crate::{context::Context, graph::Sequence, http::Client, place::Place, playlist, report::Tally};

/// A hop waits this long at most for a broadcast that may be on its way (docs/protocol.md), and then answers.
const REFUSAL: std::time::Duration = std::time::Duration::from_secs(10);

/// One pair: who asks, from where, and who must refuse.
type Pair<'a> = (&'a PeerName, Place, &'a PeerName);

/// Some peers, each with a living one that is no neighbour of it.
fn pairs<'a>(context: &Context<'a>) -> Vec<Pair<'a>> {
    let living = context.living();
    let mut random = Sequence(context.options.seed);
    let some = some(context, FROM, |peer| !context.dead.contains(&peer.name));
    let pair = |(who, from): (&'a PeerName, Place)| {
        let others: Vec<_> = living
            .iter()
            .filter(|peer| peer.name != *who && !context.linked(who.as_str(), peer.name.as_str()))
            .collect();
        let other = others.get(random.below(others.len().max(1)))?;
        Some((who, from, &other.name))
    };
    some.into_iter().filter_map(pair).collect()
}

async fn ask(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Result<u16, String> {
    let answer = client.send("GET", path, headers, 1 << 20, REFUSAL).await;
    answer.map(|answer| answer.status.as_u16()).map_err(|error| error.to_string())
}

/// Everything that one stranger tries; one result each.
async fn pair(context: &Context<'_>, songs: &[Manifest], pair: Pair<'_>) -> Vec<Result<(), String>> {
    let (who, from, whom) = pair;
    let Some(to) = context.endpoint(whom.as_str()) else { return Vec::new() };
    let mut client = Client::from(to, from).resetting();
    let refused = |what: &str, wanted: u16, got: Result<u16, String>| match got {
        Ok(status) if status == wanted => Ok(()),
        Ok(status) => {
            Err(format!("{whom} answered {status} instead of {wanted} to {what} of {who}, no neighbour"))
        }
        Err(why) => Err(format!("{whom}: {what} of {who}, no neighbour: {why}")),
    };
    let mut results = Vec::new();
    if let Some(song) = songs.first() {
        // Where peers share an address with players, a player's request from there is none of a peer's.
        if context.sees_processes() {
            let got = ask(&mut client, &playlist::master(&song.song), &[]).await;
            results.push(refused("a player's request", 403, got));
        }
        let path = format!("/relay/never-broadcast-0/manifest/{}", song.song);
        let got = ask(&mut client, &path, &[]).await;
        results.push(refused("a relay request without a key", 403, got));
        // The best key that it has: of a link of its own.
        if let Some(own) = context.planned(who.as_str()).and_then(|planned| planned.neighbors.first()) {
            let key = context.target.secret.link_key(who, own);
            let signed = RelayAuth::sign(&key, "GET", &path, "", who, crate::checks::shortcuts::now());
            let got = ask(&mut client, &path, &[("authorization", &signed)]).await;
            results.push(refused("a relay request with the key of another link", 403, got));
        }
    }
    results
}

/// Tries some pairs; returns how much was refused. A mesh in which all are neighbours has none.
pub(super) async fn check(context: &Context<'_>, songs: &[Manifest], tally: &mut Tally) -> u64 {
    let mut refused = 0;
    context
        .each(
            NAME,
            tally,
            pairs(context),
            |stranger| pair(context, songs, stranger),
            |tally, results| {
                for result in results {
                    refused += u64::from(result.is_ok());
                    tally.outcome(result);
                }
            },
        )
        .await;
    refused
}

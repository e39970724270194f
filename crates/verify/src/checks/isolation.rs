//! The isolation of databases and peers, tried from where it must fail: with the right passwords, from the wrong places; as
//! a gateway that wants more than its function and the manifests; as a peer that is no neighbour.
//!
//! Refused by a database means: by its access rules, before any password (SQLSTATE 28000). A wrong password refused proves
//! nothing, and neither does a server that is down: each edge must let its own gateway in, and the origin must answer.
//! Where processes have networks of their own, strangers must not even reach it ([`networks`]).

mod access;
mod networks;
mod rights;
mod strangers;

use hopcast_protocol::{Manifest, PeerName};
use hopcast_topology::plan::Peer;
use tokio::time::timeout;

use crate::{
    context::Context,
    database,
    graph::Sequence,
    place::Place,
    report::Tally,
    target::{DatabaseRole, DatabaseTarget, Separation},
};

/// The check's name.
pub(crate) const NAME: &str = "isolation";
pub(crate) const CLAIM: &str = "databases refuse peers that are not their gateways, and their gateways everything but reading songs; peers refuse who is no neighbour";

/// Peers from whose places each database is tried.
const FROM: usize = 8;
/// Attempts at a time: a server of this mesh has few connections to give.
const AT_A_TIME: usize = 4;

/// Some peers out of those that fit, spread over all of them, with the places from which they dial.
fn some<'a>(context: &Context<'a>, most: usize, fits: impl Fn(&Peer) -> bool) -> Vec<(&'a PeerName, Place)> {
    let all: Vec<_> = context
        .target
        .plan
        .peers
        .iter()
        .filter(|peer| fits(peer))
        .filter_map(|peer| Some((&peer.name, context.place(context.running(peer.name.as_str())?)?)))
        .collect();
    if all.len() <= most {
        return all;
    }
    let offset = Sequence(context.options.seed).below(all.len());
    (0..most).map(|i| all[(offset + i * all.len() / most) % all.len()]).collect()
}

/// Some peers that have no business with a database.
fn outsiders<'a>(context: &Context<'a>, database: &DatabaseTarget) -> Vec<(&'a PeerName, Place)> {
    let edge = database.role == DatabaseRole::Edge;
    let mut outsiders = some(context, FROM, |peer| !edge || !peer.edges.contains(&database.name));
    if edge {
        // The gateways of other edges are the likeliest to be let in by mistake.
        let others = some(context, 2, |peer| !peer.edges.is_empty() && !peer.edges.contains(&database.name));
        outsiders.extend(others.into_iter().filter(|other| !outsiders.contains(other)).collect::<Vec<_>>());
    }
    outsiders
}

/// Tries everything; returns how much was refused.
pub(crate) async fn check(context: &Context<'_>, songs: &[Manifest]) -> (Tally, u64) {
    let (mut tally, mut refused) = (Tally::default(), 0);
    for role in [DatabaseRole::Origin, DatabaseRole::Edge] {
        if !context.target.databases.iter().any(|database| database.role == role) {
            tally.not_run(format!("the mesh has no {role:?} database"));
        }
    }
    let mut databases = Vec::new();
    for database in &context.target.databases {
        // One sentence for a server that is down, instead of one for each attempt. No refusal there proves anything.
        match timeout(database::DATABASE, Place::Here.dial(database.address)).await {
            Ok(Ok(_)) => databases.push(database),
            Ok(Err(error)) => {
                tally.not_run(format!("{}: no connection to {}: {error}", database.name, database.address));
            }
            Err(_) => tally.not_run(format!("{} does not answer at {}", database.name, database.address)),
        }
    }
    for edge in databases.iter().filter(|database| database.role == DatabaseRole::Edge) {
        refused += rights::check(context, edge, &mut tally).await;
    }
    if context.target.separation == Separation::Namespaces {
        refused += networks::check(context, &databases, &mut tally).await;
    }
    refused += strangers::check(context, songs, &mut tally).await;
    if !context.sees_processes() {
        tally.only("not tried: from other machines, and as a player on a peer's machine");
        return (tally, refused);
    }
    let attempts = access::attempts(context, &databases);
    context
        .each_of(
            AT_A_TIME,
            NAME,
            &mut tally,
            attempts,
            |attempt| access::try_in(context, attempt),
            |tally, result| {
                refused += u64::from(result.is_ok());
                tally.outcome(result);
            },
        )
        .await;
    (tally, refused)
}

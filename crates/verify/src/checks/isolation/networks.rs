//! Networks that keep strangers from even reaching a database: for processes that have networks of their own.
//!
//! Two looks, neither of which trusts the engine. The kernel's own tables say which addresses each peer and database has;
//! any that the plan does not give it is a foot in a network where it does not belong (every peer is looked at). And from
//! inside some peers every address of every database is dialled, which must lead nowhere.

use std::{collections::BTreeSet, io, net::IpAddr, net::SocketAddr, time::Duration};

use hopcast_topology::plan::Peer;
use tokio::time::timeout;

use super::NAME;
use crate::{
    context::Context,
    place::Place,
    proc::addresses,
    report::Tally,
    target::{DatabaseTarget, ProcessRole},
};

/// Longest wait for an answer that must not come. Where there is a listener its kernel answers at once, however busy its
/// process is.
const SILENCE: Duration = Duration::from_secs(3);
/// Attempts at a time: they wait for nothing.
const AT_A_TIME: usize = 64;

/// The addresses that the plan gives a peer: in the peers' network, and in that of each edge that it is a gateway of.
fn planned(context: &Context<'_>, peer: &Peer) -> BTreeSet<IpAddr> {
    let edges = context.target.plan.edges.iter().filter_map(|edge| {
        let at = edge.peers.iter().position(|name| *name == peer.name)?;
        edge.docker.peers.get(at).copied().map(IpAddr::from)
    });
    edges.chain([peer.docker.ip()]).collect()
}

/// The addresses that the plan gives a database: its own, and an edge's in the origin's network.
fn planned_for_database(context: &Context<'_>, database: &DatabaseTarget) -> BTreeSet<IpAddr> {
    let edge = context.target.plan.edges.iter().find(|edge| edge.name == database.name);
    edge.map(|edge| IpAddr::from(edge.docker_origin)).into_iter().chain([database.address.ip()]).collect()
}

/// Compares what a process has with what it should have.
fn compare(name: &str, found: &BTreeSet<IpAddr>, planned: &BTreeSet<IpAddr>, tally: &mut Tally) {
    tally.outcome(Ok(()));
    for address in found.difference(planned) {
        tally.fail(format!("{name} has the address {address}, which the plan does not give it"));
    }
    for address in planned.difference(found) {
        tally.fail(format!("{name} does not have the address {address}, which the plan gives it"));
    }
}

fn pid(context: &Context<'_>, database: &DatabaseTarget) -> Option<u32> {
    let mut processes = context.target.processes.iter();
    let own = processes
        .find(|process| process.role == ProcessRole::Database && process.name == database.name.as_str());
    own.map(|process| process.pid)
}

/// Dials a database from where it must not be reachable.
async fn shut(who: &str, from: Place, database: &str, at: SocketAddr) -> Result<bool, String> {
    // A place that can't be entered is no refusal.
    let socket = from.socket(at).await.map_err(|error| format!("{who}: {error}"))?;
    match timeout(SILENCE, socket.connect(at)).await {
        Ok(Ok(_)) => Ok(false),
        Ok(Err(error)) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Err(format!("{who}: {database} at {at} could not be dialled: {error}"))
        }
        // No route, refused on the way, or silence.
        Ok(Err(_)) | Err(_) => Ok(true),
    }
}

/// Tries everything; returns how much was refused.
pub(super) async fn check(context: &Context<'_>, databases: &[&DatabaseTarget], tally: &mut Tally) -> u64 {
    for peer in context.living() {
        let (Some(pid), Some(plan)) = (peer.pid, context.planned(peer.name.as_str())) else { continue };
        match addresses::read(pid) {
            Ok(found) => compare(peer.name.as_str(), &found, &planned(context, plan), tally),
            Err(why) => tally.not_run(format!("{}: {why}", peer.name)),
        }
    }
    let mut attempts = Vec::new();
    for &database in databases {
        let name = database.name.as_str();
        let mut at = BTreeSet::from([database.address.ip()]);
        match pid(context, database)
            .ok_or_else(|| "its process is not known".to_owned())
            .and_then(addresses::read)
        {
            Ok(found) => {
                compare(name, &found, &planned_for_database(context, database), tally);
                at.extend(found);
            }
            Err(why) => tally.not_run(format!("{name}: {why}")),
        }
        for (who, from) in super::outsiders(context, database) {
            let port = database.address.port();
            attempts.extend(at.iter().map(|ip| (who, from, name, SocketAddr::new(*ip, port))));
        }
    }
    let mut refused = 0;
    let dial = async |(who, from, name, at): (&hopcast_protocol::PeerName, Place, &str, SocketAddr)| {
        (
            format!("{who} is no gateway of {name} and reaches it at {at}"),
            shut(who.as_str(), from, name, at).await,
        )
    };
    context
        .each_of(AT_A_TIME, NAME, tally, attempts, dial, |tally, (sentence, result)| match result {
            Ok(true) => {
                refused += 1;
                tally.outcome(Ok(()));
            }
            Ok(false) => tally.outcome(Err(sentence)),
            Err(why) => tally.not_run(why),
        })
        .await;
    refused
}

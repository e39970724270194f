//! What is looked at before anything is started: names, other meshes, addresses.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hopcast_topology::Plan;
use rustix::process::{Resource, getrlimit};

use super::client::Client;
use crate::{
    Error, NodeStatus, State,
    holder::{Holder, Listeners},
    proc,
};

/// Every node of a plan with the addresses that it listens on.
pub(super) fn listeners(plan: &Plan) -> Vec<(String, SocketAddr)> {
    let mut all =
        vec![("signalling".to_owned(), plan.signalling.local), ("the door".to_owned(), plan.local.door)];
    all.push((plan.origin.name.to_string(), plan.origin.local));
    all.extend(plan.edges.iter().map(|edge| (edge.name.to_string(), edge.local)));
    all.extend(plan.peers.iter().map(|peer| (peer.name.to_string(), peer.local)));
    all
}

/// Two nodes of one name would share a log and a line of `status`.
pub(super) fn names(plan: &Plan) -> Result<(), Error> {
    let mut seen = HashSet::from(["keeper".to_owned(), "the door".to_owned()]);
    for (name, _) in listeners(plan).into_iter().filter(|(name, _)| name != "the door") {
        if !seen.insert(name.clone()) {
            return Err(Error::State(format!(
                "two nodes of mesh {} are called {name}: rename one in the topology file (`signalling` and `keeper` are taken)",
                plan.mesh
            )));
        }
    }
    Ok(())
}

/// How long a killed process may take to let go of its sockets.
const DYING: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);
/// Descriptors that a process needs besides those of its nodes or connections.
const OWN_FILES: u64 = 64;

/// How many descriptors the keeper (one for each process) and the signalling server (one for each connection) need.
fn needed_files(plan: &Plan) -> u64 {
    let connections: usize = plan.rooms.iter().map(|room| room.peers.len()).sum();
    listeners(plan).len().max(connections) as u64 + OWN_FILES
}

/// As many open files are allowed as one process of the mesh needs, which it gives; without them its parts would wait for
/// each other until a deadline.
pub(super) fn files(plan: &Plan) -> Result<u64, Error> {
    // The programs raise their own limits to this one.
    files_within(plan, getrlimit(Resource::Nofile).maximum)
}

fn files_within(plan: &Plan, limit: Option<u64>) -> Result<u64, Error> {
    let needed = needed_files(plan);
    match limit {
        Some(limit) if limit < needed => Err(Error::State(format!(
            "mesh {} needs {needed} open files in one process, {limit} are allowed here: raise the hard limit (`ulimit -Hn`, limits.conf, LimitNOFILE), or take fewer peers",
            plan.mesh
        ))),
        _ => Ok(needed),
    }
}

/// No running mesh of this state root uses what this one is about to use.
pub(super) async fn overlaps(state: &State, plan: &Plan) -> Result<(), Error> {
    for other in State::all(state.root())? {
        if other.mesh() == state.mesh() {
            continue;
        }
        // A mesh of somebody else, or one that hangs, is looked at through its listening sockets, below.
        let Ok(Some(client)) = Client::connect(&other).await else { continue };
        let Ok(Some(desired)) = client.desired().await else { continue };
        if let Some((what, setting)) = overlap(plan, &desired.plan) {
            return Err(Error::Overlap { other: other.mesh().clone(), what, setting });
        }
    }
    Ok(())
}

fn overlap(ours: &Plan, theirs: &Plan) -> Option<(String, &'static str)> {
    let range = |first: Ipv4Addr, prefix: u8| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let first = u32::from(first) & mask;
        (first, first | !mask)
    };
    let (a, b) = range(ours.local.network, ours.local.prefix);
    let (c, d) = range(theirs.local.network, theirs.local.prefix);
    if a <= d && c <= b {
        let what = format!("the network {}/{}", ours.local.network, ours.local.prefix);
        return Some((what, "local.network"));
    }
    let used = [theirs.signalling.local, theirs.local.door];
    let wants = [
        ("the address of the signalling server", ours.signalling.local, "signalling.listen"),
        ("the address of the door", ours.local.door, "local.door"),
    ];
    wants
        .into_iter()
        .find(|(_, address, _)| used.contains(address))
        .map(|(what, address, setting)| (format!("{what}, {address},"), setting))
}

/// Nobody else listens where a node that is to be started wants to. What this mesh itself runs, or left behind, does
/// not count: it ends before anything is started.
///
/// A socket that no process seems to hold is mostly that of one that is just dying, perhaps of ours: it gets a moment.
pub(super) async fn addresses(state: &State, plan: &Plan, running: &[NodeStatus]) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + DYING;
    loop {
        match taken(state, plan, running) {
            None => return Ok(()),
            Some((_, _, holder)) if holder.pid.is_none() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
            }
            Some((node, address, holder)) => return Err(Error::Taken { node, address, holder: holder.text }),
        }
    }
}

/// The first address that somebody else has.
fn taken(state: &State, plan: &Plan, running: &[NodeStatus]) -> Option<(String, SocketAddr, Holder)> {
    let there: HashMap<&str, Option<SocketAddr>> = running
        .iter()
        .filter(|node| node.pid.is_some())
        .map(|node| (node.name.as_str(), node.address))
        .collect();
    let wanted = listeners(plan)
        .into_iter()
        .filter(|(name, address)| there.get(name.as_str()) != Some(&Some(*address)));
    let dir = state.dir();
    let is_ours = |pid: u32| {
        proc::variable(pid, proc::MARK).is_some_and(|mark| mark == dir)
            || proc::cwd(pid).is_some_and(|cwd| cwd.starts_with(dir.join("pg")))
    };
    Listeners::read().holders(wanted).into_iter().find(|(_, _, holder)| !holder.pid.is_some_and(is_ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn overlaps_name_what_to_change() {
        let ours = plan();
        let setting = |change: &dyn Fn(&mut Plan)| {
            let mut theirs = plan();
            // Apart, unless the case puts it back.
            theirs.local.network = "127.80.241.0".parse().unwrap();
            theirs.signalling.local.set_port(1);
            theirs.local.door.set_port(2);
            change(&mut theirs);
            overlap(&ours, &theirs).map(|(_, setting)| setting)
        };
        assert_eq!(setting(&|_| {}), None);
        assert_eq!(
            setting(&|plan| plan.local.network = "127.80.240.128".parse().unwrap()),
            Some("local.network")
        );
        assert_eq!(setting(&|plan| plan.local.prefix = 15), Some("local.network"));
        assert_eq!(setting(&|plan| plan.signalling.local = ours.signalling.local), Some("signalling.listen"));
        assert_eq!(setting(&|plan| plan.signalling.local = ours.local.door), Some("local.door"));
    }

    #[test]
    fn files_for_every_process_and_every_connection() {
        let mut plan = plan();
        files(&plan).unwrap();
        let nodes = listeners(&plan).len() as u64;
        assert_eq!(needed_files(&plan), nodes + OWN_FILES);
        let room = plan.rooms[0].clone();
        let rooms = 10;
        plan.rooms = vec![room.clone(); rooms];
        assert_eq!(needed_files(&plan), (rooms * room.peers.len()) as u64 + OWN_FILES);
        let needed = needed_files(&plan);
        files_within(&plan, Some(needed)).unwrap();
        files_within(&plan, None).unwrap();
        assert!(files_within(&plan, Some(needed - 1)).unwrap_err().to_string().contains("ulimit"));
    }

    #[test]
    fn two_nodes_of_one_name_are_refused() {
        let mut plan = plan();
        names(&plan).unwrap();
        plan.origin.name = hopcast_protocol::DatabaseName::new("peer-2").unwrap();
        assert!(names(&plan).unwrap_err().to_string().contains("peer-2"));
        plan.origin.name = hopcast_protocol::DatabaseName::new("signalling").unwrap();
        assert!(names(&plan).is_err());
    }
}

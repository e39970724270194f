//! Waits until every peer is connected in every room of its own.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hopcast_protocol::{PeerName, RoomName};
use hopcast_topology::Plan;

use super::client::Client;
use crate::{Error, NodeState, Progress, Step, graph};

/// How long it may take, and how much longer for each peer.
const CONNECT: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_millis(100);
/// Between two looks at the rooms, and at the processes.
const LOOK: Duration = Duration::from_millis(40);
const LOOK_AT_NODES: u32 = 12;

/// How many (peer, room) pairs are connected, and the first that are not.
fn count(plan: &Plan, connected: &HashMap<RoomName, Vec<PeerName>>) -> (u64, u64, Vec<String>) {
    let (mut done, mut total, mut missing) = (0, 0, Vec::new());
    for room in &plan.rooms {
        let here: HashSet<&PeerName> = connected.get(&room.name).into_iter().flatten().collect();
        for peer in &room.peers {
            total += 1;
            if here.contains(peer) {
                done += 1;
            } else if missing.len() < 5 {
                missing.push(format!("{peer} in {}", room.name));
            }
        }
    }
    (done, total, missing)
}

pub(super) async fn wait(client: &Client<'_>, plan: &Plan, progress: &dyn Progress) -> Result<(), Error> {
    let after = CONNECT + EACH * plan.peers.len() as u32;
    let deadline = tokio::time::Instant::now() + after;
    let mut looks = 0;
    loop {
        let seen = match graph::connected(plan.signalling.local).await {
            Ok(connected) => {
                let (done, total, missing) = count(plan, &connected);
                progress.step(Step::Connected, done, total);
                if done == total {
                    return Ok(());
                }
                format!("{done} of {total} connected; not {}", missing.join(", "))
            }
            Err(error) => format!("the signalling server: {error}"),
        };
        if looks % LOOK_AT_NODES == 0 {
            dead(client).await?;
        }
        looks += 1;
        if tokio::time::Instant::now() > deadline {
            dead(client).await?;
            return Err(Error::Deadline { what: "connect every peer".into(), after, seen });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// An error that names the nodes that have ended meanwhile.
async fn dead(client: &Client<'_>) -> Result<(), Error> {
    let report = client.report().await?;
    let dead: Vec<_> = report.nodes.iter().filter(|node| node.state == NodeState::Dead).collect();
    let Some(first) = dead.first() else { return Ok(()) };
    let more =
        if dead.len() > 1 { format!(", and {} more nodes are dead", dead.len() - 1) } else { String::new() };
    Err(Error::Keeper(format!(
        "{} {}{more}; see `hopcast logs {}`",
        first.name,
        first.detail.as_deref().unwrap_or("ended"),
        first.name
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn counts_each_peer_in_each_of_its_rooms_and_names_who_is_missing() {
        let plan = plan();
        let (room, peers) = (&plan.rooms[0].name, &plan.rooms[0].peers);
        let stranger = PeerName::new("stranger").unwrap();
        let two = vec![peers[2].clone(), stranger, peers[0].clone()];
        let seen = count(&plan, &HashMap::from([(room.clone(), two)]));
        assert_eq!(seen, (2, 3, vec!["peer-2 in rock".to_owned()]));
        assert_eq!(count(&plan, &HashMap::new()).0, 0);
    }
}

//! Waits until every peer is connected in every room of its own, as the signalling server sees it.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    net::SocketAddr,
    time::Duration,
};

use hopcast_protocol::{PeerName, RoomName};
use hopcast_topology::Plan;

use crate::{Error, Progress, RoomStatus, Step, graph};

/// How long it may take, and how much longer for each peer.
const CONNECT: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_millis(100);
/// Between two looks at the rooms: at first, and at most. Most meshes are there after the first few.
const LOOK: Duration = Duration::from_millis(4);
const LOOK_LATER: Duration = Duration::from_millis(40);
/// At the processes it looks each so many looks.
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

/// The rooms of a plan, and who is connected in them.
pub(crate) fn rooms(plan: &Plan, mut connected: HashMap<RoomName, Vec<PeerName>>) -> Vec<RoomStatus> {
    let room = |room: &hopcast_topology::plan::Room| RoomStatus {
        name: room.name.clone(),
        peers: room.peers.len(),
        connected: connected.remove(&room.name).unwrap_or_default(),
    };
    plan.rooms.iter().map(room).collect()
}

/// Every peer is connected in every room of its own.
pub(crate) fn all_connected(plan: &Plan, rooms: &[RoomStatus]) -> bool {
    rooms.len() == plan.rooms.len()
        && plan.rooms.iter().zip(rooms).all(|(room, now)| {
            let here: HashSet<_> = now.connected.iter().collect();
            room.peers.iter().all(|peer| here.contains(peer))
        })
}

/// Looks until all are there. `dead` ends it early with an error, where a node that should run does not.
pub(crate) async fn wait<F>(
    plan: &Plan,
    server: SocketAddr,
    progress: &dyn Progress,
    dead: impl Fn() -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let after = CONNECT + EACH * plan.peers.len() as u32;
    let deadline = tokio::time::Instant::now() + after;
    let mut looks = 0;
    loop {
        let seen = match graph::connected(server).await {
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
        looks += 1;
        if looks % LOOK_AT_NODES == 0 {
            dead().await?;
        }
        if tokio::time::Instant::now() > deadline {
            dead().await?;
            return Err(Error::Deadline { what: "connect every peer".into(), after, seen });
        }
        tokio::time::sleep((LOOK * (looks / 4).max(1)).min(LOOK_LATER)).await;
    }
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

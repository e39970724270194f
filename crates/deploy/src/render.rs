//! A plan and a secret make every node's configuration. Pure.

use std::net::SocketAddr;

use hopcast_protocol::{
    DatabaseAccess, MeshSecret, NeighborConfig, PeerConfig, PeerLimits, PeerName, RoomMembership,
    SignallingConfig,
    config::{CONFIG_VERSION, DoorConfig, RoomConfig},
    limits::TRANSFERS,
};
use hopcast_topology::{
    Plan,
    plan::{Link, Peer},
};

/// The role that a gateway has at its edge.
pub use hopcast_store::roles::GATEWAY as GATEWAY_ROLE;

/// What depends on the backend.
pub trait Placement {
    /// Where a peer listens, as its neighbours dial it.
    fn listen(&self, peer: &Peer) -> SocketAddr;
    /// The source address of what it dials; `None`: the system's choice.
    fn dial_from(&self, peer: &Peer) -> Option<std::net::IpAddr>;
    /// The address from which its neighbours see it come.
    fn source(&self, peer: &Peer) -> Option<std::net::IpAddr> {
        self.dial_from(peer)
    }
    /// `host:port`, for its neighbours and for the door.
    fn endpoint(&self, peer: &Peer) -> String;
    /// Where the signalling server listens, and the URL under which peers reach it.
    fn signalling(&self, plan: &Plan) -> (SocketAddr, String);
    /// The door, where it is wanted.
    fn door(&self, plan: &Plan) -> Option<SocketAddr>;
    /// Host and port of an edge, as its gateways dial it.
    fn edge(&self, edge: &hopcast_topology::plan::Edge) -> (String, u16);
    /// The most memory that a peer gets, in bytes, what the kernel keeps for it included; `None`: nobody bounds it.
    fn memory(&self, plan: &Plan) -> Option<u64> {
        Some(plan.limits.memory)
    }
}

/// Processes on this machine, each on its own loopback address.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loopback;

impl Placement for Loopback {
    fn listen(&self, peer: &Peer) -> SocketAddr {
        peer.local
    }

    fn dial_from(&self, peer: &Peer) -> Option<std::net::IpAddr> {
        Some(peer.local.ip())
    }

    fn endpoint(&self, peer: &Peer) -> String {
        peer.local.to_string()
    }

    fn signalling(&self, plan: &Plan) -> (SocketAddr, String) {
        let listen = plan.signalling.local;
        (listen, format!("ws://{}/ws", reachable(listen)))
    }

    fn door(&self, plan: &Plan) -> Option<SocketAddr> {
        Some(plan.local.door)
    }

    fn edge(&self, edge: &hopcast_topology::plan::Edge) -> (String, u16) {
        (edge.local.ip().to_string(), edge.local.port())
    }

    fn memory(&self, _: &Plan) -> Option<u64> {
        None
    }
}

/// What a peer is without its cache and its sockets, with some room, in bytes.
const PEER: u64 = 3 << 20;
/// The least, and the most, that a socket buffer is set to, in bytes.
const BUFFERS: std::ops::RangeInclusive<u64> = 64 << 10..=512 << 10;

/// Socket buffers under a cap of memory, which counts what waits in them: stalled readers must never be the end of a peer.
///
/// What is sent stays small, since it may wait at every connection. What comes in has a share of what the cache leaves, for
/// each transfer and each fetch under way. Without a cap the kernel sizes them, which saves a relay a third of its processor
/// time: a whole segment may be under way, and it is woken for it a few times instead of once for each 40 KB.
fn socket_buffers(limits: PeerLimits, memory: Option<u64>) -> PeerLimits {
    let Some(memory) = memory else { return limits };
    let spare = memory.saturating_sub(limits.cache + PEER);
    // Half: the kernel doubles what it is told (socket(7)).
    let share = spare / (2 * TRANSFERS as u64) / 2;
    let receive = share.clamp(*BUFFERS.start(), *BUFFERS.end());
    PeerLimits { send_buffer: Some(*BUFFERS.start() as u32), receive_buffer: Some(receive as u32), ..limits }
}

/// An address under which this machine reaches a listener: a wildcard is answered on loopback.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
        }
        other => other,
    }
}

/// Every peer's file, in the plan's order.
pub fn peers(plan: &Plan, secret: &MeshSecret, place: &dyn Placement) -> Vec<PeerConfig> {
    let links = plan.links_by_peer();
    let tokens = secret.token_key();
    let public_key = secret.manifest_key().public();
    let limits = PeerLimits {
        cache: plan.limits.cache,
        max_segment: plan.limits.max_segment,
        patience_ms: plan.limits.patience_ms,
        ..PeerLimits::default()
    };
    let limits = socket_buffers(limits, place.memory(plan));
    let (_, signal_url) = place.signalling(plan);
    let by_name: std::collections::HashMap<&PeerName, &Peer> =
        plan.peers.iter().map(|peer| (&peer.name, peer)).collect();
    let addresses =
        plan.peers.iter().filter_map(|peer| place.source(peer)).fold(None, |range: Option<(_, _)>, ip| {
            Some(range.map_or((ip, ip), |(low, high)| (ip.min(low), ip.max(high))))
        });
    plan.peers
        .iter()
        .map(|peer| PeerConfig {
            version: CONFIG_VERSION,
            mesh: plan.mesh.clone(),
            name: peer.name.clone(),
            listen: place.listen(peer),
            dial_from: place.dial_from(peer),
            signal_url: signal_url.clone(),
            rooms: peer
                .rooms
                .iter()
                .map(|room| RoomMembership {
                    name: room.clone(),
                    token: Some(tokens.token(&peer.name, room)),
                })
                .collect(),
            neighbors: links
                .get(&peer.name)
                .into_iter()
                .flatten()
                .filter_map(|link| {
                    let name = other_end(link, &peer.name);
                    Some(NeighborConfig {
                        name: name.clone(),
                        endpoint: place.endpoint(by_name.get(name)?),
                        key: secret.link_key(&peer.name, name),
                        rooms: link.rooms.clone(),
                        emulation: link.emulation,
                    })
                })
                .collect(),
            limits: limits.clone(),
            databases: plan
                .edges
                .iter()
                .filter(|edge| peer.edges.contains(&edge.name))
                .map(|edge| {
                    let (host, port) = place.edge(edge);
                    DatabaseAccess {
                        name: edge.name.clone(),
                        host,
                        port,
                        database: plan.postgres.database.clone(),
                        user: GATEWAY_ROLE.into(),
                        password: secret.password(edge.name.as_str(), GATEWAY_ROLE),
                    }
                })
                .collect(),
            public_key: Some(public_key),
            peer_addresses: addresses,
        })
        .collect()
}

/// The signalling server's file.
pub fn signalling(plan: &Plan, secret: &MeshSecret, place: &dyn Placement) -> SignallingConfig {
    SignallingConfig {
        version: CONFIG_VERSION,
        mesh: plan.mesh.clone(),
        listen: place.signalling(plan).0,
        token_key: Some(secret.token_key()),
        rooms: plan
            .rooms
            .iter()
            .map(|room| RoomConfig {
                name: room.name.clone(),
                peers: room.peers.clone(),
                links: plan.room_links(&room.name).map(|link| (link.a.clone(), link.b.clone())).collect(),
            })
            .collect(),
        gateways: plan.gateways().map(|peer| peer.name.clone()).collect(),
        door: place.door(plan).map(|listen| DoorConfig {
            listen,
            peers: plan.peers.iter().map(|peer| (peer.name.clone(), place.endpoint(peer))).collect(),
        }),
    }
}

fn other_end<'a>(link: &'a Link, peer: &PeerName) -> &'a PeerName {
    if &link.a == peer { &link.b } else { &link.a }
}

/// The same file without the links that a fault has cut.
pub fn cut_peer(mut config: PeerConfig, is_cut: impl Fn(&PeerName, &PeerName) -> bool) -> PeerConfig {
    let name = config.name.clone();
    config.neighbors.retain(|neighbor| !is_cut(&name, &neighbor.name));
    config
}

/// The same seed links without those that a fault has cut.
pub fn cut_signalling(
    mut config: SignallingConfig,
    is_cut: impl Fn(&PeerName, &PeerName) -> bool,
) -> SignallingConfig {
    for room in &mut config.rooms {
        room.links.retain(|(a, b)| !is_cut(a, b));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;
    use hopcast_protocol::Token;

    fn secret() -> MeshSecret {
        MeshSecret([7; 32])
    }

    #[test]
    fn both_ends_of_a_link_get_its_key_and_each_others_address() {
        let peers = peers(&plan(), &secret(), &Loopback);
        let neighbor = |peer: usize, name: &str| {
            peers[peer].neighbors.iter().find(|neighbor| neighbor.name.as_str() == name).unwrap()
        };
        let (there, back) = (neighbor(0, "peer-2"), neighbor(1, "peer-1"));
        assert_eq!(there.key, back.key);
        assert_eq!(
            (there.endpoint.as_str(), back.endpoint.as_str()),
            ("127.80.240.2:8080", "127.80.240.1:8080")
        );
        assert_eq!(there.rooms, back.rooms);
        assert_ne!(there.key, neighbor(1, "peer-3").key);
        assert!(!peers[0].neighbors.iter().any(|neighbor| neighbor.name.as_str() == "peer-3"));
    }

    #[test]
    fn socket_buffers_fit_into_what_a_cap_leaves_and_are_the_kernels_without_one() {
        let buffers = |cap: Option<u64>, cache: u64| {
            let limits = socket_buffers(PeerLimits { cache, ..PeerLimits::default() }, cap);
            (limits.send_buffer, limits.receive_buffer)
        };
        assert_eq!(buffers(None, 4 << 20), (None, None));
        assert_eq!(buffers(Some(15 << 20), 4 << 20), (Some(64 << 10), Some(256 << 10)));
        assert_eq!(buffers(Some(6 << 20), 2 << 20), (Some(64 << 10), Some(64 << 10)));
        assert_eq!(buffers(Some(1 << 30), 4 << 20), (Some(64 << 10), Some(512 << 10)));
        assert_eq!(peers(&plan(), &secret(), &Loopback)[0].limits.send_buffer, None);
    }

    #[test]
    fn only_gateways_know_a_database_and_only_their_own() {
        let peers = peers(&plan(), &secret(), &Loopback);
        let databases =
            |peer: usize| peers[peer].databases.iter().map(|at| at.name.as_str()).collect::<Vec<_>>();
        assert_eq!(databases(0), ["edge-db-a"]);
        assert_eq!(databases(1), [""; 0]);
        assert_eq!(databases(2), ["edge-db-b"]);
        let access = &peers[0].databases[0];
        assert_eq!(
            (access.host.as_str(), access.port, access.user.as_str()),
            ("127.80.240.253", 5432, GATEWAY_ROLE)
        );
        assert_ne!(access.password, peers[2].databases[0].password);
    }

    #[test]
    fn the_servers_key_takes_every_peers_token() {
        let (plan, secret) = (plan(), secret());
        let config = signalling(&plan, &secret, &Loopback);
        let key = config.token_key.unwrap();
        for peer in peers(&plan, &secret, &Loopback) {
            assert_eq!(peer.signal_url, format!("ws://{}/ws", config.listen));
            assert_eq!(peer.dial_from, Some(peer.listen.ip()));
            assert_eq!(peer.peer_addresses.unwrap().0, plan.peers[0].local.ip());
            for room in peer.rooms {
                let wanted: Token = key.token(&peer.name, &room.name);
                assert!(wanted.matches(&room.token.unwrap().to_string()));
            }
        }
        assert_eq!(config.rooms[0].links.len(), 2);
        assert_eq!(config.gateways.len(), 2);
        assert_eq!(config.door.unwrap().peers.len(), 3);
    }

    #[test]
    fn a_cut_link_is_nowhere() {
        let (plan, secret) = (plan(), secret());
        let is_cut = |a: &PeerName, b: &PeerName| {
            [a.as_str(), b.as_str()] == ["peer-2", "peer-1"]
                || [a.as_str(), b.as_str()] == ["peer-1", "peer-2"]
        };
        let peer = peers(&plan, &secret, &Loopback).swap_remove(0);
        assert!(cut_peer(peer, is_cut).neighbors.is_empty());
        let server = cut_signalling(signalling(&plan, &secret, &Loopback), is_cut);
        assert_eq!(server.rooms[0].links.len(), 1);
    }

    #[test]
    fn a_wildcard_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:7080".parse().unwrap()), "127.0.0.1:7080".parse().unwrap());
        assert_eq!(reachable("[::]:7080".parse().unwrap()), "[::1]:7080".parse().unwrap());
        assert_eq!(reachable("127.0.0.5:7080".parse().unwrap()), "127.0.0.5:7080".parse().unwrap());
    }
}

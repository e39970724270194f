//! Where everything is in Docker: the plan's fixed addresses. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hopcast_topology::{
    Plan,
    plan::{DatabaseNetwork, Edge, Peer},
};

use crate::render::Placement;

/// Containers with fixed addresses. No name is looked up on the way: addresses come from the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Containers;

impl Placement for Containers {
    fn listen(&self, peer: &Peer) -> SocketAddr {
        // Not at the address that a gateway has in its edge's network: that one is for the database alone.
        peer.docker
    }

    fn dial_from(&self, _peer: &Peer) -> Option<IpAddr> {
        None
    }

    fn source(&self, peer: &Peer) -> Option<IpAddr> {
        Some(peer.docker.ip())
    }

    fn endpoint(&self, peer: &Peer) -> String {
        peer.docker.to_string()
    }

    fn signalling(&self, plan: &Plan) -> (SocketAddr, String) {
        let listen = (Ipv4Addr::UNSPECIFIED, plan.signalling.docker.port()).into();
        (listen, format!("ws://{}/ws", plan.signalling.docker))
    }

    fn door(&self, plan: &Plan) -> Option<SocketAddr> {
        Some(door(plan))
    }

    fn edge(&self, edge: &Edge) -> (String, u16) {
        (edge.docker.address.ip().to_string(), edge.docker.address.port())
    }
}

/// Where the door listens inside the signalling server's container.
pub fn door(plan: &Plan) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, plan.local.door.port()).into()
}

/// Where a port of the signalling server's container is published on this machine: nowhere but on loopback.
pub fn published(local: SocketAddr) -> SocketAddr {
    if local.ip().is_loopback() { local } else { (Ipv4Addr::LOCALHOST, local.port()).into() }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Subnet {
    first: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The block around an address.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self { first: Ipv4Addr::from(u32::from(address) & mask), prefix }
    }

    /// Reads `10.77.0.0/17`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Some(Self::new(address.parse().ok()?, prefix.parse().ok().filter(|&prefix| prefix <= 32)?))
    }

    /// The `n`th address.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first).saturating_add(n))
    }

    /// The last address of all.
    fn last(self) -> Ipv4Addr {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        Ipv4Addr::from(u32::from(self.first) | !mask)
    }

    /// The last address that a container can have.
    pub fn last_usable(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.last()).saturating_sub(1))
    }

    /// Some address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The peers' network.
pub fn peer_subnet(plan: &Plan) -> Subnet {
    Subnet::new(plan.docker.subnet, plan.docker.prefix)
}

/// A database's own network.
pub fn database_subnet(network: &DatabaseNetwork) -> Subnet {
    Subnet::new(network.subnet, network.prefix)
}

/// Where the operator's helper containers are in the origin's network, as the databases see them.
pub fn operator(plan: &Plan) -> Ipv4Addr {
    database_subnet(&plan.origin.docker).last_usable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::plan, render};
    use hopcast_protocol::MeshSecret;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn subnets_overlap_where_they_share_an_address() {
        assert!(subnet("10.77.0.0/16").overlaps(subnet("10.77.255.255/32")));
        assert!(subnet("10.77.3.0/24").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.77.0.0/17").overlaps(subnet("10.77.128.0/17")));
        assert!(subnet("0.0.0.0/0").overlaps(subnet("10.0.0.0/8")));
        assert_eq!(subnet("10.77.1.9/24").to_string(), "10.77.1.0/24");
        assert_eq!(subnet("10.77.1.0/24").last_usable(), Ipv4Addr::new(10, 77, 1, 254));
        assert_eq!(Subnet::parse("10.77.1.0/33"), None);
        assert_eq!(Subnet::parse("fe80::/64"), None);
    }

    #[test]
    fn nothing_is_published_off_loopback() {
        let published = |text: &str| published(text.parse().unwrap()).to_string();
        assert_eq!(published("0.0.0.0:7080"), "127.0.0.1:7080");
        assert_eq!(published("127.0.0.9:7080"), "127.0.0.9:7080");
        assert_eq!(published("192.0.2.1:7080"), "127.0.0.1:7080");
    }

    #[test]
    fn peers_know_each_other_by_their_addresses_in_the_peers_network_alone() {
        let plan = plan();
        let peers = render::peers(&plan, &MeshSecret([7; 32]), &Containers);
        assert_eq!(peers[0].listen, plan.peers[0].docker);
        assert_eq!(peers[0].dial_from, None, "its edge is reached from another address");
        assert_eq!(peers[0].neighbors[0].endpoint, plan.peers[1].docker.to_string());
        assert_eq!(
            peers[0].peer_addresses,
            Some((plan.peers[0].docker.ip(), plan.peers[2].docker.ip())),
            "so that a player's request from another peer is refused"
        );
        assert_eq!(peers[0].signal_url, format!("ws://{}/ws", plan.signalling.docker));
        assert_eq!(peers[0].databases[0].host, plan.edges[0].docker.address.ip().to_string());
    }
}

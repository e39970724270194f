//! The mesh on NixOS hosts: which hosts there are and what runs on each, every node's files without its secrets, and the
//! secrets for each host.
//!
//! Nothing here starts anything: systemd does, as the flake's modules tell it (`nix/modules`). What the modules know of the
//! plan they read from topology.toml by themselves; the rest lies in the files that [`configs`] writes, which everybody may
//! read, and in those of [`keys`], which belong to one host each. [`populate`] is the one step that needs the whole mesh's
//! secret: it sets the databases up and stores the songs.

mod files;
mod place;
mod populate;
mod text;

use hopcast_protocol::NetworkName;
use hopcast_topology::{Plan, plan::Peer};

pub use files::{File, Keys, configs, keys};
pub use place::{Addresses, Hosts};
pub use populate::populate;
pub use text::definitions;

use crate::Error;

/// The signalling server's host.
pub const SIGNALLING: &str = "signalling";
/// What a host of peers is called, before its number.
const PEERS: &str = "peers-";

/// What a host is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The signalling server.
    Signalling,
    /// The origin database. Whoever operates the mesh does it from here, so it is in the peers' network, too.
    Origin,
    /// An edge database.
    Edge,
    /// Peers.
    Peers,
}

/// One host.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    /// `signalling`, `peers-1`, or the database's name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Those that it is in: its own first.
    pub networks: Vec<&'a NetworkName>,
    /// Its peers.
    pub peers: Vec<&'a Peer>,
}

/// The hosts of a plan, in a fixed order. An error where two would have one name.
pub fn hosts(plan: &Plan) -> Result<Vec<Host<'_>>, Error> {
    let micro = &plan.docker.network;
    let host = |name: String, role, networks: Vec<_>| Host { name, role, networks, peers: Vec::new() };
    let origin = &plan.origin;
    let mut hosts = vec![
        host(SIGNALLING.into(), Role::Signalling, vec![micro]),
        host(origin.name.to_string(), Role::Origin, vec![&origin.network, micro]),
    ];
    for edge in &plan.edges {
        hosts.push(host(edge.name.to_string(), Role::Edge, vec![&edge.network, &origin.network]));
    }
    for number in 1..=plan.nixos.peer_hosts {
        let peers: Vec<_> = plan.peers.iter().filter(|peer| peer.nixos.host == number).collect();
        let edges = plan.edges.iter().filter(|edge| peers.iter().any(|peer| peer.edges.contains(&edge.name)));
        let networks = std::iter::once(micro).chain(edges.map(|edge| &edge.network)).collect();
        hosts.push(Host { name: format!("{PEERS}{number}"), role: Role::Peers, networks, peers });
    }
    for (at, host) in hosts.iter().enumerate() {
        if hosts[..at].iter().any(|other| other.name == host.name) {
            return Err(Error::State(format!(
                "two hosts would be called {}: give the database of this name another one",
                host.name
            )));
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn peers_share_hosts_and_only_a_gateways_host_is_in_its_edges_network() {
        let plan = plan();
        let hosts = hosts(&plan).unwrap();
        let seen: Vec<_> = hosts
            .iter()
            .map(|host| {
                let networks: Vec<_> = host.networks.iter().map(|network| network.as_str()).collect();
                (host.name.as_str(), networks.join(" "), host.peers.len())
            })
            .collect();
        let wanted = [
            ("signalling", "micro-net", 0),
            ("origin-db", "origin-net micro-net", 0),
            ("edge-db-a", "edge-a-net origin-net", 0),
            ("edge-db-b", "edge-b-net origin-net", 0),
            ("peers-1", "micro-net edge-a-net", 1),
            ("peers-2", "micro-net", 1),
            ("peers-3", "micro-net edge-b-net", 1),
        ];
        assert_eq!(seen, wanted.map(|(name, networks, peers)| (name, networks.to_owned(), peers)));
    }

    #[test]
    fn a_database_cannot_have_another_hosts_name() {
        let mut plan = plan();
        plan.edges[1].name = hopcast_protocol::DatabaseName::new("peers-2").unwrap();
        assert!(hosts(&plan).unwrap_err().to_string().contains("called peers-2"));
    }
}

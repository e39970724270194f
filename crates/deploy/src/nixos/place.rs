//! Where every host is, and so how nodes reach each other.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hopcast_protocol::{DatabaseName, NetworkName};
use hopcast_topology::{
    Plan,
    plan::{Edge, Peer},
};
use serde::{Deserialize, Serialize};

use super::{PEERS, SIGNALLING, hosts};
use crate::{Error, render::Placement};

/// Each host's address in each of its networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(pub BTreeMap<String, BTreeMap<NetworkName, IpAddr>>);

/// Addresses that are complete: every host of a plan has one in each of its networks.
#[derive(Debug, Clone)]
pub struct Hosts {
    addresses: Addresses,
    peers: NetworkName,
}

impl Hosts {
    /// Checks that no host of the plan lacks an address; all that do are told.
    pub fn new(plan: &Plan, addresses: Addresses) -> Result<Self, Error> {
        let mut problems = String::new();
        for host in hosts(plan)? {
            for network in &host.networks {
                if addresses.0.get(&host.name).is_none_or(|of| !of.contains_key(*network)) {
                    let _ = write!(problems, "\n  {} has no address in {network}", host.name);
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { addresses, peers: plan.docker.network.clone() })
        } else {
            Err(Error::State(format!(
                "the addresses are not complete (the form is {{\"host\": {{\"network\": \"address\"}}}}):{problems}"
            )))
        }
    }

    /// A host's address in a network of its own.
    fn at(&self, host: &str, network: &NetworkName) -> IpAddr {
        let of = self.addresses.0.get(host);
        // `new` has looked for every host in every network of its own; nobody asks for others.
        of.and_then(|of| of.get(network)).copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    fn host_of(peer: &Peer) -> String {
        format!("{PEERS}{}", peer.nixos.host)
    }

    /// Where a peer listens, for everybody.
    pub fn peer(&self, peer: &Peer) -> SocketAddr {
        (self.at(&Self::host_of(peer), &self.peers), peer.nixos.port).into()
    }

    /// Where the signalling server listens, for everybody.
    pub fn server(&self, plan: &Plan) -> SocketAddr {
        (self.at(SIGNALLING, &self.peers), plan.signalling.listen.port()).into()
    }

    /// A database in the origin's network: the origin itself, or an edge as the operator reaches it.
    pub fn database(&self, plan: &Plan, name: &DatabaseName) -> SocketAddr {
        (self.at(name.as_str(), &plan.origin.network), plan.postgres.port).into()
    }

    /// From where an edge's gateways come, each once.
    pub fn gateways(&self, plan: &Plan, edge: &Edge) -> Vec<IpAddr> {
        let peers = plan.peers.iter().filter(|peer| edge.peers.contains(&peer.name));
        let mut from: Vec<_> = peers.map(|peer| self.at(&Self::host_of(peer), &edge.network)).collect();
        from.sort();
        from.dedup();
        from
    }
}

/// As nodes see each other. Several peers have one address, so none can be told by it.
pub(super) struct Seen<'a> {
    pub(super) hosts: &'a Hosts,
    pub(super) port: u16,
}

impl Placement for Seen<'_> {
    fn listen(&self, peer: &Peer) -> SocketAddr {
        (Ipv4Addr::UNSPECIFIED, peer.nixos.port).into()
    }

    fn dial_from(&self, _: &Peer) -> Option<IpAddr> {
        None
    }

    fn endpoint(&self, peer: &Peer) -> String {
        self.hosts.peer(peer).to_string()
    }

    fn signalling(&self, plan: &Plan) -> (SocketAddr, String) {
        (plan.signalling.listen, format!("ws://{}/ws", self.hosts.server(plan)))
    }

    fn door(&self, plan: &Plan) -> Option<SocketAddr> {
        Some(plan.local.door)
    }

    fn edge(&self, edge: &Edge) -> (String, u16) {
        (self.hosts.at(edge.name.as_str(), &edge.network).to_string(), self.port)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fixture::plan;

    /// 10.<network>.0.<host>, in the order of the plan's hosts.
    pub(in crate::nixos) fn addresses(plan: &Plan) -> Addresses {
        let mut networks: Vec<&NetworkName> = Vec::new();
        let mut addresses = Addresses::default();
        for (host, number) in hosts(plan).unwrap().into_iter().zip(1..) {
            for network in host.networks {
                let at = networks.iter().position(|known| *known == network).unwrap_or_else(|| {
                    networks.push(network);
                    networks.len() - 1
                });
                let of = addresses.0.entry(host.name.clone()).or_default();
                of.insert(network.clone(), [10, at as u8, 0, number].into());
            }
        }
        addresses
    }

    #[test]
    fn every_address_that_is_missing_is_told() {
        let plan = plan();
        let mut addresses = addresses(&plan);
        Hosts::new(&plan, addresses.clone()).unwrap();
        addresses.0.remove("peers-2");
        addresses.0.get_mut("edge-db-a").unwrap().remove("origin-net");
        let text = Hosts::new(&plan, addresses).unwrap_err().to_string();
        assert!(text.contains("edge-db-a has no address in origin-net"), "{text}");
        assert!(text.contains("peers-2 has no address in micro-net"), "{text}");
        assert!(!text.contains("peers-1"), "{text}");
    }
}

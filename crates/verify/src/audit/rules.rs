//! Which connections the plan allows. Pure.
//!
//! A process of a peer may dial: its neighbours, the signalling server, the edges it is a gateway of, itself. It may be
//! dialled by its neighbours and by players. The address that a connection comes from proves nothing (a cheat need not bind to
//! its own), so a connection is judged by the process that holds it; only where no process of the mesh does (closed ones,
//! strangers) by its addresses. In a container's own namespace there are no strangers: everything there is the container's.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use hopcast_protocol::PeerName;

use crate::{
    proc::sockets::{Socket, State},
    target::Target,
};

/// Who holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A peer's process, or one that it started; the peer's place in the plan.
    Peer(usize),
    /// A database; it has no business with peers but to answer.
    Database(String),
    /// Players: this process, the door (a part of the signalling server), who asks peers how they are.
    Player,
}

/// The plan, arranged for questions about sockets.
#[derive(Debug)]
pub(crate) struct Rules {
    names: Vec<PeerName>,
    index: HashMap<PeerName, usize>,
    neighbors: Vec<HashSet<usize>>,
    endpoints: HashMap<SocketAddr, usize>,
    /// Only addresses that belong to one peer alone.
    addresses: HashMap<IpAddr, usize>,
    signalling: SocketAddr,
    door: Option<SocketAddr>,
    /// With the peers that may connect.
    databases: HashMap<SocketAddr, (String, HashSet<usize>)>,
}

impl Rules {
    pub(crate) fn new(target: &Target) -> Self {
        let plan = &target.plan;
        let names: Vec<PeerName> = plan.peers.iter().map(|peer| peer.name.clone()).collect();
        let index: HashMap<PeerName, usize> =
            names.iter().cloned().enumerate().map(|(i, name)| (name, i)).collect();
        let known = |peers: &[PeerName]| peers.iter().filter_map(|peer| index.get(peer).copied()).collect();
        let neighbors = plan.peers.iter().map(|peer| known(&peer.neighbors)).collect();
        let mut endpoints = HashMap::new();
        let mut by_address: HashMap<IpAddr, Vec<usize>> = HashMap::new();
        for peer in &target.peers {
            if let Some(&at) = index.get(&peer.name) {
                endpoints.insert(peer.endpoint, at);
                by_address.entry(peer.endpoint.ip()).or_default().push(at);
            }
        }
        let addresses = by_address
            .into_iter()
            .filter(|(_, peers)| peers.len() == 1)
            .map(|(ip, peers)| (ip, peers[0]))
            .collect();
        let databases = target.databases.iter().map(|database| {
            let edge = plan.edges.iter().find(|edge| edge.name == database.name);
            let gateways = edge.map_or_else(HashSet::new, |edge| known(&edge.peers));
            (database.address, (database.name.to_string(), gateways))
        });
        let databases = databases.collect();
        let (signalling, door) = (target.signalling, target.door);
        Self { names, index, neighbors, endpoints, addresses, signalling, door, databases }
    }

    /// The peer's place in the plan.
    pub(crate) fn peer(&self, name: &PeerName) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn strangers(&self, a: usize, b: usize) -> bool {
        a != b && !self.neighbors[a].contains(&b)
    }

    /// What is wrong with a socket, if anything is.
    pub(crate) fn judge(&self, socket: &Socket, owner: Option<&Owner>) -> Option<String> {
        match (socket.state, owner) {
            (State::Listen, _) | (State::Connection, Some(Owner::Player)) => None,
            // One that is closed has an owner only where a whole namespace has.
            (_, Some(Owner::Peer(peer))) => self.peers_own(socket, *peer),
            (_, Some(Owner::Database(name))) => {
                let to = self.endpoints.get(&socket.remote)?;
                Some(format!("the database {name} has dialled {}", self.names[*to]))
            }
            (_, _) => self.by_address(socket),
        }
    }

    /// A connection that a peer's process holds.
    fn peers_own(&self, socket: &Socket, peer: usize) -> Option<String> {
        let Socket { local, remote, .. } = socket;
        let name = &self.names[peer];
        if self.endpoints.get(local) == Some(&peer) {
            let from = *self.addresses.get(&remote.ip())?;
            let wrong = self.strangers(peer, from);
            return wrong
                .then(|| format!("{name} was dialled by {} ({remote}), no neighbour", self.names[from]));
        }
        if let Some(&to) = self.endpoints.get(remote) {
            let wrong = self.strangers(peer, to);
            return wrong.then(|| format!("{name} ({local}) has dialled {}, no neighbour", self.names[to]));
        }
        if let Some((database, gateways)) = self.databases.get(remote) {
            let wrong = !gateways.contains(&peer);
            return wrong
                .then(|| format!("{name} ({local}) has dialled {database}, and is no gateway of it"));
        }
        if *remote == self.signalling {
            return None;
        }
        if Some(*remote) == self.door {
            return Some(format!("{name} ({local}) has dialled the door"));
        }
        let at = self.addresses.get(&remote.ip()).copied();
        if at == Some(peer) {
            return None; // with itself
        }
        let whose = at.map(|at| format!(" ({})", self.names[at]));
        Some(format!(
            "{name} has a connection {local} - {remote}{}, which nothing in the plan is",
            whose.unwrap_or_default()
        ))
    }

    /// A connection that no process of the mesh holds (any more).
    fn by_address(&self, socket: &Socket) -> Option<String> {
        let Socket { local, remote, .. } = socket;
        let (a, b) = (*self.addresses.get(&local.ip())?, *self.addresses.get(&remote.ip())?);
        let state = if socket.state == State::TimeWait { "there was" } else { "there is" };
        let (a_name, b_name) = (&self.names[a], &self.names[b]);
        let wrong = self.strangers(a, b);
        wrong.then(|| {
            format!("{state} a connection {local} - {remote}, but {a_name} and {b_name} are no neighbours")
        })
    }

    /// True for a connection that counts as audited: one end is the mesh's.
    pub(crate) fn concerns(&self, socket: &Socket, owner: Option<&Owner>) -> bool {
        let ours = |address: &SocketAddr| self.addresses.contains_key(&address.ip());
        match socket.state {
            State::Listen => false,
            _ if matches!(owner, Some(Owner::Peer(_) | Owner::Database(_))) => true,
            State::Connection | State::TimeWait => ours(&socket.local) && ours(&socket.remote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// peer-1 .. peer-6 in a ring; peer-1 is the gateway of edge-db-a.
    fn rules() -> (Rules, impl Fn(usize) -> SocketAddr) {
        let target = testing::target(6);
        let peers: Vec<SocketAddr> = target.peers.iter().map(|peer| peer.endpoint).collect();
        (Rules::new(&target), move |number: usize| peers[number - 1])
    }

    fn socket(local: SocketAddr, remote: SocketAddr, state: State) -> Socket {
        Socket { local, remote, state, inode: 7 }
    }

    fn port(address: SocketAddr, port: u16) -> SocketAddr {
        SocketAddr::new(address.ip(), port)
    }

    #[test]
    fn a_peer_may_dial_neighbours_server_and_its_own_edge() {
        let (rules, at) = rules();
        let target = testing::target(6);
        let edge = target.databases.iter().find(|d| d.name.as_str() == "edge-db-a").unwrap().address;
        let origin = target.databases.iter().find(|d| d.name.as_str() == "origin-db").unwrap().address;
        let dialled = |peer: usize, to| {
            rules.judge(&socket(port(at(peer), 40_000), to, State::Connection), Some(&Owner::Peer(peer - 1)))
        };
        assert_eq!(dialled(1, at(2)), None);
        assert_eq!(dialled(1, at(6)), None);
        assert_eq!(dialled(1, target.signalling), None);
        assert_eq!(dialled(1, edge), None);
        assert_eq!(dialled(1, port(at(1), 9999)), None);
        assert!(dialled(2, edge).unwrap().contains("no gateway"));
        assert!(dialled(1, origin).unwrap().contains("no gateway"));
        assert!(dialled(1, at(3)).unwrap().contains("peer-3, no neighbour"));
        assert!(dialled(1, target.door.unwrap()).unwrap().contains("door"));
        assert!(dialled(1, port(at(3), 9999)).unwrap().contains("(peer-3)"));
        assert!(dialled(1, "192.0.2.1:80".parse().unwrap()).is_some());
    }

    #[test]
    fn an_unbound_source_address_hides_nothing() {
        let (rules, at) = rules();
        let unbound: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let to_stranger = socket(unbound, at(4), State::Connection);
        assert!(rules.judge(&to_stranger, Some(&Owner::Peer(0))).unwrap().contains("peer-4, no neighbour"));
        // The same two addresses are a player where a player holds them.
        assert_eq!(rules.judge(&to_stranger, Some(&Owner::Player)), None);
        assert_eq!(rules.judge(&to_stranger, None), None);
        let accepted = socket(at(4), unbound, State::Connection);
        assert_eq!(rules.judge(&accepted, Some(&Owner::Peer(3))), None);
    }

    #[test]
    fn accepting_from_a_strangers_address_is_wrong() {
        let (rules, at) = rules();
        let accepted = |from| socket(at(4), port(at(from), 40_000), State::Connection);
        assert_eq!(rules.judge(&accepted(3), Some(&Owner::Peer(3))), None);
        assert!(rules.judge(&accepted(1), Some(&Owner::Peer(3))).is_some());
    }

    #[test]
    fn closed_connections_are_judged_by_their_addresses() {
        let (rules, at) = rules();
        let closed = |from, to| socket(port(at(from), 40_000), at(to), State::TimeWait);
        assert_eq!(rules.judge(&closed(1, 2), None), None);
        assert!(rules.judge(&closed(1, 4), None).is_some());
        assert!(rules.judge(&socket(at(4), port(at(1), 40_000), State::TimeWait), None).is_some());
        let unbound = socket("127.0.0.1:40000".parse().unwrap(), at(4), State::TimeWait);
        assert_eq!(rules.judge(&unbound, None), None);
        // A stranger to the mesh that has taken a peer's address.
        let foreign = socket(port(at(1), 40_000), at(4), State::Connection);
        assert!(rules.judge(&foreign, None).is_some());
        assert_eq!(rules.judge(&foreign, Some(&Owner::Player)), None);
    }

    #[test]
    fn a_closed_connection_in_a_peers_own_namespace_is_the_peers() {
        let (rules, at) = rules();
        // To another address of peer-4's container, of which the addresses alone say nothing.
        let other: SocketAddr = "10.77.132.4:8080".parse().unwrap();
        let closed = socket(port(at(1), 40_000), other, State::TimeWait);
        assert_eq!(rules.judge(&closed, None), None);
        assert!(rules.judge(&closed, Some(&Owner::Peer(0))).unwrap().contains("nothing in the plan"));
        let with_neighbour = socket(port(at(1), 40_000), at(2), State::TimeWait);
        assert_eq!(rules.judge(&with_neighbour, Some(&Owner::Peer(0))), None);
        assert!(rules.concerns(&closed, Some(&Owner::Peer(0))));
    }

    #[test]
    fn a_database_may_answer_but_not_dial_peers() {
        let (rules, at) = rules();
        let owner = Owner::Database("edge-db-a".into());
        let dialled = socket("127.0.0.1:40000".parse().unwrap(), at(2), State::Connection);
        assert!(rules.judge(&dialled, Some(&owner)).is_some());
    }

    #[test]
    fn listeners_are_no_connections() {
        let (rules, at) = rules();
        let listening = socket(at(1), "0.0.0.0:0".parse().unwrap(), State::Listen);
        assert_eq!(rules.judge(&listening, Some(&Owner::Peer(0))), None);
        assert!(!rules.concerns(&listening, Some(&Owner::Peer(0))));
    }
}

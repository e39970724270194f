//! Who listens where: on this machine, in Docker, in the NixOS VMs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;

use super::{Context, rooms::EdgeSet};
use crate::{
    config::{At, File, read::Reader, value::Net},
    plan,
    report::Problem,
    source::Span,
};

/// The upper half of Docker's subnet holds this many database networks: 2 to this power.
const DATABASE_BITS: u8 = 5;

/// All that depends on addresses.
pub(crate) struct Addresses {
    local: Ipv4Net,
    peers: Ipv4Net,
    databases: Vec<Ipv4Net>,
    peer_port: u16,
    postgres_port: u16,
}

fn nth(net: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(offset))
}

/// The `offset`-th address from the end; 0 is the broadcast address.
fn from_top(net: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.broadcast()).saturating_sub(offset))
}

/// Checks that everything fits.
pub(crate) fn addresses(file: &File, edges: &[EdgeSet], context: &Context, to: &mut Reader) -> Addresses {
    let count = u64::from(context.numbering.count);
    let local = &file.local.value.network;
    local_network(local, edges.len() as u64, context, to);
    let subnet = &file.docker.value.subnet;
    let (peers, databases) = docker_networks(subnet, edges, context, to);
    let port = &file.peers.value.port;
    if !port.bad && context.numbering.known && port.value.get() + count > 65535 {
        let message = format!(
            "port {} and {} go past 65535: the peers of a VM share an address",
            port.value.get(),
            context.peers()
        );
        let help = format!("write a port of {} or less", 65535 - count);
        to.report(Problem::error("out-of-range", port.span, message).help(help));
    }
    Addresses {
        local: local.value.0,
        peers,
        databases,
        peer_port: port.value.get() as u16,
        postgres_port: file.postgres.value.port.value.get() as u16,
    }
}

fn local_network(at: &At<Net>, edges: u64, context: &Context, to: &mut Reader) {
    let net = at.value.0;
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    if !loopback.contains(&net) {
        let message = format!("{net} is not inside 127.0.0.0/8");
        let help = "write a network of 127.0.0.0/8, such as \"127.77.0.0/16\": only there every address is this machine's";
        to.report(Problem::error("bad-network", at.span, message).help(help));
    }
    // Whoever has no address of its own, a player or the door, comes from there: it would be taken for a peer.
    if net.contains(&Ipv4Addr::LOCALHOST) {
        let message = format!("{net} has 127.0.0.1 in it, from where players and the door come");
        to.report(
            Problem::error("bad-network", at.span, message)
                .help("write another network of 127.0.0.0/8, such as \"127.77.0.0/16\""),
        );
    }
    // The network's own address, the peers, the databases, the broadcast address.
    let needed = u64::from(context.numbering.count) + edges + 3;
    too_small(at, net, needed, &format!("{} and {} databases", context.peers(), edges + 1), to);
}

fn too_small(at: &At<Net>, net: Ipv4Net, needed: u64, what: &str, to: &mut Reader) {
    let has = 1u64 << (32 - net.prefix_len());
    if has < needed {
        let prefix = 32 - needed.next_power_of_two().trailing_zeros() as u8;
        let wider = Ipv4Net::new(net.network(), prefix).map_or(net, |net| net.trunc());
        let message = format!("{net} has {has} addresses, {what} need {needed}");
        to.report(Problem::error("network-too-small", at.span, message).help(format!("write \"{wider}\"")));
    }
}

/// The peers' network and the databases'.
fn docker_networks(
    at: &At<Net>,
    edges: &[EdgeSet],
    context: &Context,
    to: &mut Reader,
) -> (Ipv4Net, Vec<Ipv4Net>) {
    let net = at.value.0;
    if !(8..=23).contains(&net.prefix_len()) {
        let message =
            format!("a prefix length of {} can't be cut into the mesh's networks", net.prefix_len());
        to.report(Problem::error("bad-network", at.span, message).help("write a prefix length from 8 to 23"));
        return (net, vec![net; edges.len() + 1]);
    }
    if net.network().is_loopback() || net.network().is_multicast() || net.network().is_unspecified() {
        let help = "write a private network, such as \"10.77.0.0/16\"";
        to.report(
            Problem::error("bad-network", at.span, format!("{net} can't be a container network")).help(help),
        );
    }
    let halves = Ipv4Net::new_assert(net.network(), net.prefix_len() + 1);
    let upper = u32::from(net.network()) + (1 << (31 - net.prefix_len()));
    let prefix = net.prefix_len() + 1 + DATABASE_BITS;
    let databases: Vec<_> = (0..=edges.len() as u32)
        .map(|index| {
            Ipv4Net::new_assert(Ipv4Addr::from(upper.saturating_add(index << (32 - prefix))), prefix)
        })
        .collect();
    // Doubled, as the peers' network is half of what is written.
    let needed = (u64::from(context.numbering.count) + 4).next_power_of_two() * 2;
    too_small(at, net, needed, &format!("{} in its lower half", context.peers()), to);
    if edges.len() >= 1 << DATABASE_BITS {
        let message = format!("{} edges, at most {} are possible", edges.len(), (1 << DATABASE_BITS) - 1);
        to.report(Problem::error("too-many-edges", at.span, message).help("remove some `[[edges]]`"));
    }
    let size = 1u64 << (32 - prefix);
    let members = edges.iter().map(|edge| edge.peers.len()).chain([edges.len()]).max().unwrap_or(0) as u64;
    let needed = (members + 4).next_power_of_two();
    if size < needed {
        let wider = net.prefix_len() - (needed.trailing_zeros() as u8 - (32 - prefix)).min(net.prefix_len());
        let message =
            format!("each database's network has {size} addresses, {members} members need {needed}");
        let help = format!("write a prefix length of {wider} or less");
        to.report(Problem::error("network-too-small", at.span, message).help(help));
    }
    (halves, databases)
}

impl Addresses {
    /// Where peer `index` listens locally.
    pub(crate) fn local_peer(&self, index: u32) -> SocketAddr {
        (nth(self.local, index + 1), self.peer_port).into()
    }

    /// Where peer `index` listens in the peers' network of Docker.
    pub(crate) fn docker_peer(&self, index: u32) -> SocketAddr {
        (nth(self.peers, index + 2), self.peer_port).into()
    }

    /// Where a database listens locally: 0 is the origin, then the edges.
    pub(crate) fn local_database(&self, index: u32) -> SocketAddr {
        (from_top(self.local, index + 1), self.postgres_port).into()
    }

    /// A database's own network of Docker: 0 is the origin's, then the edges'.
    pub(crate) fn database_network(&self, index: u32, peers: u32) -> plan::DatabaseNetwork {
        let net = self.databases[index as usize];
        plan::DatabaseNetwork {
            subnet: net.network(),
            prefix: net.prefix_len(),
            address: (nth(net, 2), self.postgres_port).into(),
            peers: (0..peers).map(|peer| nth(net, peer + 3)).collect(),
        }
    }

    /// Edge `index`'s address in the origin's network of Docker.
    pub(crate) fn edge_at_origin(&self, index: u32) -> Ipv4Addr {
        nth(self.databases[0], index + 3)
    }

    /// The peers' network of Docker.
    pub(crate) fn peer_network(&self) -> Ipv4Net {
        self.peers
    }

    /// Nothing may listen where something else does, on this machine or in the signalling server's container.
    pub(crate) fn collisions(&self, file: &File, edges: &[EdgeSet], context: &Context, to: &mut Reader) {
        let local = &file.local.value;
        if local.network.bad || local.door.bad || local.signalling.bad || file.signalling.value.listen.bad {
            return;
        }
        let peers = (0..context.numbering.count)
            .map(|index| (self.local_peer(index), format!("peer {}", context.numbering.name(index))));
        let names =
            std::iter::once(&file.origin.value.name.value.0).chain(edges.iter().map(|edge| &edge.name));
        let databases =
            (0..).zip(names).map(|(index, name)| (self.local_database(index), format!("database {name}")));
        let mut taken: Vec<_> = peers.chain(databases).collect();
        let listen = file.signalling.value.listen.span;
        let signalling = if local.signalling.at.is_some() { local.signalling.span() } else { listen };
        let servers = [
            (self.signalling(file).local, signalling, "the signalling server"),
            (local.door.value.0, local.door.span, "the door"),
        ];
        for (address, span, who) in servers {
            if let Some((other, name)) = taken.iter().find(|(other, _)| same(*other, address)) {
                // What is at fault may be a default; then what was written is the place to look.
                let span =
                    [span, local.door.span, signalling, local.network.span, file.peers.value.port.span]
                        .into_iter()
                        .find(|span| !span.is_none())
                        .unwrap_or(Span::NONE);
                let message = format!("{who} would listen at {address}, where {name} listens ({other})");
                to.report(
                    Problem::error("address-taken", span, message).help("write another address or port"),
                );
            }
            taken.push((address, who.to_owned()));
        }
        let door = local.door.value.0;
        let server = self.signalling(file);
        if server.listen.port() == door.port() && !same(server.local, door) {
            // Two defaults do not meet: one of them is written.
            let (span, other) =
                if local.door.span.is_none() { (listen, Span::NONE) } else { (local.door.span, listen) };
            let message = format!(
                "the door and the signalling server would both listen on port {}: in a container or VM they share its addresses",
                door.port()
            );
            let problem =
                Problem::error("address-taken", span, message).help("write another port in one of the two");
            to.report(if other.is_none() {
                problem
            } else {
                problem.related(other, "the signalling server's")
            });
        }
    }

    /// Where the signalling server listens.
    pub(crate) fn signalling(&self, file: &File) -> plan::Signalling {
        let listen = file.signalling.value.listen.value.0;
        let local = file.local.value.signalling.get().map_or_else(
            || {
                let ip = if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() };
                SocketAddr::new(ip, listen.port())
            },
            |listen| listen.0,
        );
        plan::Signalling { listen, local, docker: (from_top(self.peers, 1), listen.port()).into() }
    }
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    let meet = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    a.port() == b.port() && meet(a.ip(), b.ip())
}

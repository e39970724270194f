//! What should be on the engine: networks, volumes, containers and the files that they read. Pure.
//!
//! Every object has a digest of what it was made from, in named parts; the engine keeps it as a label, and [`super::diff`]
//! compares. A node's files are not in it: they are reread at a SIGHUP, so that a changed link replaces nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hopcast_protocol::{DatabaseName, MeshName, MeshSecret};
use hopcast_store::{hba, settings};
use hopcast_topology::{Plan, plan::DatabaseNetwork};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    doctor::memory,
    image::{Image, Images},
    labels::Role,
    place::{self, Containers, Subnet},
};
use crate::render;

/// Where a node's files are inside its container.
pub const FILES: &str = "/etc/hopcast";
/// The file that peers and the signalling server read.
pub const CONFIG_FILE: &str = "config.json";
const HBA_FILE: &str = "pg_hba.conf";
/// Where a database's owner has its password.
pub const PASSWORD_FILE: &str = "password";
/// Where the official image keeps its data.
const PGDATA: &str = "/var/lib/postgresql/data";
/// Who peers and the signalling server run as: nobody on any machine.
const USER: &str = "65532:65532";
/// The engine takes no less.
const LEAST_MEMORY: u64 = 6 << 20;
/// A database's memory and processes, where its connections need no more: the shipped file's do not.
const DATABASE_MEMORY: u64 = 256 << 20;
const DATABASE_PIDS: u32 = 128;
/// What is in a database's memory for the page cache of what it serves, beside the server and its connections.
const DATABASE_CACHE: u64 = 128 << 20;
/// The signalling server's: 160 connections take 2 MB; the rest is for the door's transfers.
const SIGNALLING_MEMORY: u64 = 128 << 20;

/// Everything that should be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The mesh.
    pub mesh: MeshName,
    /// The peers' network first, then the origin's, then the edges'.
    pub networks: Vec<Network>,
    /// The databases' data.
    pub volumes: Vec<Volume>,
    /// Databases, the origin first; the signalling server; the peers. They are started in this order.
    pub nodes: Vec<Node>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its addresses; the first usable one is the engine's.
    pub subnet: Subnet,
    /// Without a way out.
    pub internal: bool,
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `<mesh>-<database>`.
    pub name: String,
    /// Whose data it holds.
    pub node: String,
    /// The major version of PostgreSQL that begins them, where its image says so.
    pub major: Option<u32>,
}

/// A container and its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name and its container's.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// What it is made from.
    pub container: Container,
    /// What it rereads at a SIGHUP, by name, in [`FILES`].
    pub files: BTreeMap<&'static str, Vec<u8>>,
    /// `image=..,network=..,...`: the label [`super::labels::CONFIG`].
    pub digest: String,
}

/// What a container is made from. The serialised form is what digests are taken of.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The image, by name.
    pub image: String,
    /// `uid:gid`, or a name that the image knows.
    pub user: &'static str,
    /// Arguments of the image's entry point.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Network and address; the first is there from the beginning, the others are added before the start.
    pub networks: Vec<(String, Ipv4Addr)>,
    /// What this machine's loopback forwards to which port.
    pub ports: Vec<(SocketAddr, u16)>,
    /// A volume and where it is.
    pub volume: Option<(String, &'static str)>,
    /// See [`Volume::major`]. No part of the digest.
    pub major: Option<u32>,
    /// In memory.
    pub tmpfs: Vec<(&'static str, &'static str)>,
    /// Hard cap in bytes, without swap.
    pub memory: u64,
    /// Share of CPUs in billionths; 0: no limit.
    pub nano_cpus: u64,
    /// Most processes and threads.
    pub pids: u32,
    /// Memory for `/dev/shm` in bytes; 0: none of its own.
    pub shm: u64,
    /// A command that ends with 0 where all is well, run every 30 s.
    pub health: Vec<String>,
    /// The signal that ends it in order.
    pub stop_signal: &'static str,
}

/// What a plan wants.
pub fn wanted(plan: &Plan, secret: &MeshSecret, password: &str, images: &Images) -> Wanted {
    let mut nodes = databases(plan, password, images);
    nodes.push(signalling(plan, secret, images));
    nodes.extend(peers(plan, secret, images));
    let networks = networks(plan);
    for node in &mut nodes {
        node.digest = digest(node, &networks, secret, password, images);
    }
    let volumes = nodes
        .iter()
        .filter_map(|node| {
            let (name, _) = node.container.volume.clone()?;
            Some(Volume { name, node: node.name.clone(), major: node.container.major })
        })
        .collect();
    Wanted { mesh: plan.mesh.clone(), networks, volumes, nodes }
}

/// The networks of a plan.
pub fn networks(plan: &Plan) -> Vec<Network> {
    let database = |name: &hopcast_protocol::NetworkName, at: &DatabaseNetwork| Network {
        name: name.to_string(),
        subnet: place::database_subnet(at),
        internal: true,
    };
    let peers =
        Network { name: plan.docker.network.to_string(), subnet: place::peer_subnet(plan), internal: false };
    let edges = plan.edges.iter().map(|edge| database(&edge.network, &edge.docker));
    [peers, database(&plan.origin.network, &plan.origin.docker)].into_iter().chain(edges).collect()
}

fn ip(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(v4) => v4,
        // The plan's Docker addresses are cut from an IPv4 subnet.
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn node(
    name: &impl ToString,
    role: Role,
    container: Container,
    files: BTreeMap<&'static str, Vec<u8>>,
) -> Node {
    Node { name: name.to_string(), role, container, files, digest: String::new() }
}

/// A file that a program of ours reads.
fn config(value: &impl Serialize) -> BTreeMap<&'static str, Vec<u8>> {
    // Configurations are trees of strings and numbers, which always have a JSON form.
    BTreeMap::from([(CONFIG_FILE, serde_json::to_vec(value).expect("a configuration has a JSON form"))])
}

fn program(image: &Image, memory: u64) -> Container {
    Container {
        image: image.name.clone(),
        user: USER,
        command: vec!["--config".into(), format!("{FILES}/{CONFIG_FILE}")],
        environment: Vec::new(),
        networks: Vec::new(),
        ports: Vec::new(),
        volume: None,
        major: None,
        tmpfs: Vec::new(),
        memory,
        nano_cpus: 0,
        pids: 64,
        shm: 0,
        health: Vec::new(),
        stop_signal: "SIGTERM",
    }
}

fn peers(plan: &Plan, secret: &MeshSecret, images: &Images) -> Vec<Node> {
    let edge_address = |name: &DatabaseName, peer: &hopcast_protocol::PeerName| {
        let edge = plan.edges.iter().find(|edge| edge.name == *name)?;
        let at = edge.peers.iter().position(|other| other == peer)?;
        Some((edge.network.to_string(), *edge.docker.peers.get(at)?))
    };
    let limits = &plan.limits;
    render::peers(plan, secret, &Containers)
        .iter()
        .zip(&plan.peers)
        .map(|(file, peer)| {
            let mut networks = vec![(plan.docker.network.to_string(), ip(peer.docker))];
            networks.extend(peer.edges.iter().filter_map(|edge| edge_address(edge, &peer.name)));
            let container = Container {
                networks,
                nano_cpus: (limits.cpus * 1e9).round() as u64,
                pids: limits.pids,
                ..program(&images.peer, limits.memory.max(LEAST_MEMORY))
            };
            node(&peer.name, Role::Peer, container, config(file))
        })
        .collect()
}

fn signalling(plan: &Plan, secret: &MeshSecret, images: &Images) -> Node {
    let local =
        [(plan.signalling.local, plan.signalling.docker.port()), (plan.local.door, place::door(plan).port())];
    let container = Container {
        networks: vec![(plan.docker.network.to_string(), ip(plan.signalling.docker))],
        ports: local.map(|(local, port)| (place::published(local), port)).to_vec(),
        health: [
            "/hopcast".to_owned(),
            "healthy".to_owned(),
            format!("127.0.0.1:{}", plan.signalling.docker.port()),
        ]
        .into(),
        ..program(&images.signalling, SIGNALLING_MEMORY)
    };
    node(
        &plan.docker.signalling_name,
        Role::Signalling,
        container,
        config(&render::signalling(plan, secret, &Containers)),
    )
}

fn databases(plan: &Plan, password: &str, images: &Images) -> Vec<Node> {
    let operator =
        [place::operator(plan), Ipv4Addr::LOCALHOST].map(|address| hba::Block::from(IpAddr::from(address)));
    // The socket is what the image's entry point makes the database through, and what a new password is set through.
    let owner = hba::Owner {
        database: &plan.postgres.database,
        user: &plan.postgres.user,
        from: &operator,
        socket: true,
    };
    let origin_net = plan.origin.network.to_string();
    let gateways = plan.edges.iter().map(|edge| edge.peers.len() as u32).sum();
    let origin = database(
        plan,
        &plan.origin.name,
        vec![(origin_net.clone(), ip(plan.origin.docker.address))],
        settings::Purpose::Origin { edges: plan.edges.len() as u32, gateways },
        &hba::origin(
            &owner,
            &plan.edges.iter().map(|edge| IpAddr::from(edge.docker_origin).into()).collect::<Vec<_>>(),
        ),
        password,
        images,
    );
    let edges = plan.edges.iter().map(|edge| {
        let gateways: Vec<IpAddr> = edge.docker.peers.iter().map(|&address| address.into()).collect();
        database(
            plan,
            &edge.name,
            vec![
                (edge.network.to_string(), ip(edge.docker.address)),
                (origin_net.clone(), edge.docker_origin),
            ],
            settings::Purpose::Edge { gateways: edge.peers.len() as u32 },
            &hba::edge(&owner, &gateways),
            password,
            images,
        )
    });
    std::iter::once(origin).chain(edges).collect()
}

fn database(
    plan: &Plan,
    name: &DatabaseName,
    networks: Vec<(String, Ipv4Addr)>,
    purpose: settings::Purpose,
    hba: &str,
    password: &str,
    images: &Images,
) -> Node {
    let postgres = &plan.postgres;
    let mut command = vec!["postgres".to_owned(), "-c".into(), format!("hba_file={FILES}/{HBA_FILE}")];
    for (name, value) in settings::list(purpose, settings::Listen::Everywhere, Some(postgres.port)) {
        command.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let health =
        ["pg_isready", "-q", "-h", "127.0.0.1", "-U", &postgres.user, "-d", &postgres.database, "-p"];
    let container = Container {
        user: "postgres",
        command,
        environment: vec![
            format!("POSTGRES_DB={}", postgres.database),
            format!("POSTGRES_USER={}", postgres.user),
            format!("POSTGRES_PASSWORD_FILE={FILES}/{PASSWORD_FILE}"),
            "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C --auth=scram-sha-256".into(),
            format!("PGDATA={PGDATA}"),
        ],
        networks,
        volume: Some((format!("{}-{name}", plan.mesh), PGDATA)),
        major: images.database_major,
        tmpfs: vec![
            // Its owner is the image's business; it holds a socket that still asks for a password.
            ("/var/run/postgresql", "rw,noexec,nosuid,nodev,size=1m,mode=1777"),
            ("/tmp", "rw,noexec,nosuid,nodev,size=16m,mode=1777"),
        ],
        pids: purpose.processes().max(DATABASE_PIDS),
        shm: 64 << 20,
        health: health.map(str::to_owned).into_iter().chain([postgres.port.to_string()]).collect(),
        // Fast shutdown: clients are sent away, data are written.
        stop_signal: "SIGINT",
        ..program(&images.postgres, database_memory(purpose))
    };
    let files = BTreeMap::from([
        (HBA_FILE, hba.as_bytes().to_vec()),
        (PASSWORD_FILE, format!("{password}\n").into_bytes()),
    ]);
    node(name, Role::Database, container, files)
}

/// Hard cap of a database's memory: each of its connections is a process of its own.
fn database_memory(purpose: settings::Purpose) -> u64 {
    (memory::DATABASE + u64::from(purpose.connections()) * memory::GATEWAY + DATABASE_CACHE)
        .max(DATABASE_MEMORY)
}

/// The first eight bytes of a SHA-256, in hexadecimal digits.
fn short(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let (number, _) = hash.split_first_chunk().expect("SHA-256 has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*number))
}

fn of<T: Serialize>(value: &T) -> String {
    // Tuples of strings and numbers always have a JSON form.
    short(&[&serde_json::to_vec(value).expect("it has a JSON form")])
}

fn digest(node: &Node, networks: &[Network], secret: &MeshSecret, password: &str, images: &Images) -> String {
    let container = &node.container;
    let image = match node.role {
        Role::Peer => &images.peer,
        Role::Database => &images.postgres,
        _ => &images.signalling,
    };
    let attached: Vec<_> = container
        .networks
        .iter()
        .map(|(name, address)| (networks.iter().find(|network| network.name == *name), address))
        .collect();
    // A new secret replaces every node; of a database the password is what counts.
    let secret = if node.role == Role::Database { password.to_owned() } else { secret.to_string() };
    let parts = [
        ("image", of(&(&image.name, &image.content))),
        ("network", of(&(attached, &container.ports))),
        ("memory", of(&(container.memory, container.shm, &container.tmpfs))),
        ("cpus", of(&container.nano_cpus)),
        ("pids", of(&container.pids)),
        (
            "settings",
            of(&(
                &container.command,
                &container.environment,
                container.user,
                &container.volume,
                &container.health,
                container.stop_signal,
            )),
        ),
        ("secret", short(&[b"hopcast container", secret.as_bytes()])),
    ];
    parts.map(|(name, digest)| format!("{name}={digest}")).join(",")
}

/// The label of a network.
pub fn network_digest(network: &Network) -> String {
    of(network)
}

/// The parts in which two digests differ.
pub fn differing(present: &str, wanted: &str) -> Vec<String> {
    let parts = |text: &str| -> BTreeMap<String, String> {
        text.split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    };
    let (present, wanted) = (parts(present), parts(wanted));
    let mut names: Vec<_> = wanted
        .keys()
        .chain(present.keys())
        .filter(|name| present.get(*name) != wanted.get(*name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{docker::apply::names_alone, fixture};

    /// Databases of a plan whose edges have that many gateways each, with their cap of memory, in MiB, and of processes.
    fn caps(gateways: usize) -> Vec<(u64, u32)> {
        let mut plan = fixture::plan();
        for edge in &mut plan.edges {
            edge.peers = vec![edge.peers[0].clone(); gateways];
            edge.docker.peers = vec![edge.docker.peers[0]; gateways];
        }
        let nodes = databases(&plan, "password", &names_alone(&plan));
        // What the doctor predicts fits under the caps.
        let caps: u64 = nodes.iter().map(|node| node.container.memory).sum();
        assert!(memory::predict(&plan, "").databases < caps);
        nodes.iter().map(|node| (node.container.memory >> 20, node.container.pids)).collect()
    }

    #[test]
    fn a_databases_caps_grow_with_its_gateways() {
        assert_eq!(caps(8), [(256, 128); 3], "the shipped file's");
        // 412 connections of the origin, 212 of each edge.
        assert_eq!(caps(160), [(843, 464), (523, 252), (523, 252)]);
    }
}

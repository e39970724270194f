//! From the file's tables to the plan: ranges become peers, shapes become links, names become addresses, and whatever
//! needs more than one key to judge is judged.
//!
//! Reports everything it finds. Where a part could not be read, the checks that build on it stay silent, so that one
//! slip is one error.

mod addresses;
mod limits;
mod links;
mod peers;
mod rooms;

use std::collections::BTreeSet;

use hopcast_protocol::PeerName;

use crate::{
    config::{File, read::Reader},
    env::Overrides,
    graph, plan,
    plan::Plan,
    report::Problem,
    shape,
    source::Span,
};

pub(crate) use peers::Numbering;

/// Peers where neither COUNT, the file nor a graph says how many.
const DEFAULT_COUNT: u32 = 160;

/// What every check needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) numbering: Numbering,
    /// A variable changed the number of peers: what that breaks is no error.
    pub(crate) clipped: bool,
    /// The variable that set the number of peers.
    pub(crate) count_from: Option<&'static str>,
    /// The beginning of the file.
    pub(crate) file: Span,
    /// Where the shape or the import is written.
    pub(crate) links_span: Span,
}

impl Context {
    /// "160 peers", with the variable that says so.
    fn peers(&self) -> String {
        let count = self.numbering.count;
        self.count_from.map_or_else(|| format!("{count} peers"), |name| format!("{count} peers ({name})"))
    }

    /// An error; a warning where COUNT may be the cause.
    fn broken(&self, code: &'static str, span: Span, message: String) -> Problem {
        if self.clipped { Problem::warning(code, span, message) } else { Problem::error(code, span, message) }
    }
}

/// Resolves the file. There is a plan even after errors, but then it means nothing.
pub(crate) fn resolve(
    file: &File,
    overrides: &Overrides,
    read: crate::ReadGraph<'_>,
    to: &mut Reader,
) -> Option<Plan> {
    let peers = &file.peers.value;
    let links_span = peers.links.span();
    let import = peers.links.get().and_then(|links| links.import.at.as_ref());
    let graph = import.map(|path| graph::load(path, read, to));
    let context = context(file, overrides, graph.as_ref().and_then(|graph| graph.as_ref()), links_span, to);

    let shape = links::shape(&peers.links, &context, to);
    let generated = match (&graph, shape) {
        (Some(Some(graph)), _) => graph.pairs(&context, to),
        (Some(None), _) | (None, None) => None,
        (None, Some(shape)) => Some(shape::generate(&shape, context.numbering.count)),
    };
    let (link_map, links_good) = links::resolve(generated, &file.links, &context, to);
    let rooms = rooms::rooms(&file.rooms, &context, to);
    let (edges, edges_good) = rooms::edges(&file.edges, &context, to);
    if context.numbering.known {
        rooms::judge(&rooms, links_good.then_some(&link_map), edges_good.then_some(&edges[..]), &context, to);
    }
    let songs = rooms::songs(&file.songs, &file.rooms, &rooms, to);
    let limits = limits::limits(file, to);
    limits::names(file, &context.numbering.prefix, overrides.prefix.as_ref().map(|at| at.span), to);
    let addresses = addresses::addresses(file, &edges, &context, to);
    addresses.collisions(file, &edges, &context, to);
    if to.errors() > 0 {
        return None;
    }

    let plan = assemble(file, &context, &link_map, &rooms, &edges, songs, limits, &addresses)?;
    let alone: Vec<_> =
        plan.peers.iter().filter(|peer| peer.rooms.is_empty()).map(|peer| peer.number - 1).collect();
    if !alone.is_empty() {
        let message = format!("{} in no room: no song reaches them", context.numbering.ranges(alone));
        to.report(Problem::warning("no-room", file.rooms.span, message));
    }
    Some(plan)
}

fn context(
    file: &File,
    overrides: &Overrides,
    graph: Option<&graph::Graph>,
    links_span: Span,
    to: &mut Reader,
) -> Context {
    let peers = &file.peers.value;
    let written = peers.count.get().map(|count| count.get() as u32);
    let imports = peers.links.get().is_some_and(|links| links.import.at.is_some() || links.import.bad);
    let named = written.or(graph.map(graph::Graph::nodes)).unwrap_or(DEFAULT_COUNT).max(1);
    let mut count = overrides.count.as_ref().map_or(named, |at| at.value);
    let mut count_from = overrides.count.as_ref().map(|_| "COUNT");
    if let Some(max) = overrides.max_count.as_ref().filter(|max| max.value < count) {
        let message = format!("{count} peers are clamped to {}", max.value);
        to.report(Problem::warning("clamped", max.span, message));
        count = max.value;
        count_from = Some("MAX_COUNT");
    }
    // A part that could not be read at all, not even as a table, leaves only defaults.
    let lost = to.lost.iter().any(|lost| lost.header && lost.key.split('.').next() == Some("peers"))
        || (file.peers.bad
            && peers.count.at.is_none()
            && peers.prefix.span.is_none()
            && links_span.is_none());
    let known =
        !lost && !peers.count.bad && !peers.prefix.bad && (written.is_some() || !imports || graph.is_some());
    let prefix = peers.prefix.value.0.clone();
    let numbering = Numbering {
        prefix: overrides.prefix.as_ref().map_or_else(|| prefix.clone(), |at| at.value.0.clone()),
        file_prefix: prefix,
        named: named.max(count),
        count,
        known,
    };
    Context { clipped: count != named, count_from, numbering, file: Span::new(0, 0..0), links_span }
}

#[expect(clippy::too_many_arguments, reason = "each is a part of the plan, used here only")]
fn assemble(
    file: &File,
    context: &Context,
    links: &links::LinkMap,
    rooms: &[rooms::Members],
    edges: &[rooms::EdgeSet],
    songs: Vec<plan::Song>,
    limits: plan::Limits,
    addresses: &addresses::Addresses,
) -> Option<Plan> {
    let count = context.numbering.count;
    // Each peer's rooms by their places in the file, so that a link's rooms are what two short lists share.
    let mut rooms_of = vec![Vec::new(); count as usize];
    for (place, room) in rooms.iter().enumerate() {
        for peer in &room.peers {
            rooms_of[*peer as usize].push(place);
        }
    }
    let shared = |a: u32, b: u32| {
        let others = &rooms_of[b as usize];
        let both = rooms_of[a as usize].iter().filter(|place| others.binary_search(place).is_ok());
        both.map(|place| rooms[*place].name.clone()).collect()
    };
    // Prefixes are checked so that this can't fail.
    let names: Vec<PeerName> =
        (0..count).map(|index| PeerName::new(context.numbering.name(index)).ok()).collect::<Option<_>>()?;
    let name = |index: u32| names[index as usize].clone();
    let named = |peers: &BTreeSet<u32>| peers.iter().map(|peer| name(*peer)).collect();

    let hosts = (file.nixos.value.peer_hosts.value.get() as u32).min(count);
    let port = limits.port;
    let mut peers: Vec<_> = (0..count)
        .map(|index| plan::Peer {
            name: name(index),
            number: index + 1,
            rooms: rooms_of[index as usize].iter().map(|place| rooms[*place].name.clone()).collect(),
            neighbors: Vec::new(),
            edges: edges
                .iter()
                .filter(|edge| edge.peers.contains(&index))
                .map(|edge| edge.name.clone())
                .collect(),
            local: addresses.local_peer(index),
            docker: addresses.docker_peer(index),
            nixos: plan::NixosPeer {
                host: (u64::from(index) * u64::from(hosts) / u64::from(count)) as u32 + 1,
                port: port.saturating_add(index as u16 + 1),
            },
        })
        .collect();
    // Two passes over sorted pairs leave every list sorted: first the lower neighbours, then the higher ones.
    for &(a, b) in links.keys() {
        peers[b as usize].neighbors.push(name(a));
    }
    for &(a, b) in links.keys() {
        peers[a as usize].neighbors.push(name(b));
    }
    let links = links
        .iter()
        .map(|(&(a, b), &emulation)| plan::Link { a: name(a), b: name(b), rooms: shared(a, b), emulation })
        .collect();
    let docker = &file.docker.value;
    let postgres = &file.postgres.value;
    Some(Plan {
        version: plan::PLAN_VERSION,
        mesh: file.mesh.value.name.value.0.clone(),
        peers,
        rooms: rooms
            .iter()
            .map(|room| plan::Room { name: room.name.clone(), peers: named(&room.peers) })
            .collect(),
        links,
        origin: plan::Origin {
            name: file.origin.value.name.value.0.clone(),
            network: file.origin.value.network.value.0.clone(),
            local: addresses.local_database(0),
            docker: addresses.database_network(0, 0),
        },
        edges: edges
            .iter()
            .zip(0..)
            .map(|(edge, index)| plan::Edge {
                name: edge.name.clone(),
                network: edge.network.clone(),
                peers: named(&edge.peers),
                local: addresses.local_database(index + 1),
                docker: addresses.database_network(index + 1, edge.peers.len() as u32),
                docker_origin: addresses.edge_at_origin(index),
            })
            .collect(),
        songs,
        limits,
        postgres: plan::Postgres {
            database: postgres.database.value.0.clone(),
            user: postgres.user.value.0.clone(),
            port: postgres.port.value.get() as u16,
            password_file: postgres.password_file.get().map(|path| path.0.clone().into()),
        },
        signalling: addresses.signalling(file),
        local: plan::Local {
            network: file.local.value.network.value.0.network(),
            prefix: file.local.value.network.value.0.prefix_len(),
            door: file.local.value.door.value.0,
        },
        docker: plan::Docker {
            network: docker.network.value.0.clone(),
            subnet: addresses.peer_network().network(),
            prefix: addresses.peer_network().prefix_len(),
            peer_image: docker.peer_image.value.0.clone(),
            signalling_image: docker.signalling_image.value.0.clone(),
            signalling_name: docker.signalling_name.value.0.clone(),
            postgres_image: docker.postgres_image.value.0.clone(),
        },
        nixos: plan::Nixos { peer_hosts: hosts },
    })
}

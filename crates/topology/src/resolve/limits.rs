//! Limits that engines and peers set, and names that may not meet.

use std::collections::BTreeMap;

use crate::{
    config::{At, File, read::Reader, value::Size},
    plan,
    report::Problem,
    source::Span,
};

/// Docker refuses a smaller memory limit.
const MIN_MEMORY: u64 = 6 << 20;
const MAX_MEMORY: u64 = 1 << 40;
/// Shortest `max_segment`: less than a second of the poorest audio.
const MIN_SEGMENT: u64 = 4 << 10;
/// What a peer needs beside its cache: itself, and buffers for as many transfers as the protocol has.
const PEER_ITSELF: u64 = 2 << 20;

/// The limits of the plan.
pub(crate) fn limits(file: &File, to: &mut Reader) -> plan::Limits {
    let peers = &file.peers.value;
    size(&peers.memory, MIN_MEMORY, "6MiB", "the container engine's minimum is 6 MiB", to);
    if peers.memory.value.0 > MAX_MEMORY {
        to.report(
            Problem::error("out-of-range", peers.memory.span, "more than 1 TiB").help("write \"15MiB\""),
        );
    }
    size(&peers.max_segment, MIN_SEGMENT, "4KiB", "no segment is that short", to);
    let (memory, cache, segment) = (peers.memory.value.0, peers.cache.value.0, peers.max_segment.value.0);
    if !peers.cache.bad && !peers.memory.bad && cache >= memory {
        let problem = Problem::error(
            "out-of-range",
            either(&peers.cache, &peers.memory),
            "the cache is not below `memory`",
        );
        to.report(problem.help("make `cache` smaller or `memory` larger"));
    } else if !peers.memory.bad && !peers.cache.bad && !peers.max_segment.bad {
        let needed = cache.saturating_add(segment).saturating_add(PEER_ITSELF);
        if memory >= MIN_MEMORY && memory < needed {
            let message = format!(
                "a peer with a full cache and one segment in hand takes about {} MiB",
                needed.div_ceil(1 << 20)
            );
            let problem = Problem::warning("tight-memory", either(&peers.memory, &peers.cache), message);
            to.report(problem.help("make `memory` larger, or `cache` or `max_segment` smaller"));
        }
    }
    if !peers.cache.bad && !peers.max_segment.bad && cache < segment {
        let message = "the cache can't hold one segment of `max_segment`";
        let problem = Problem::error("out-of-range", either(&peers.cache, &peers.max_segment), message);
        to.report(problem.help("make `cache` larger or `max_segment` smaller"));
    }
    let patience = &peers.patience;
    if !(1_000_000..=600_000_000).contains(&patience.value.0) {
        let problem = Problem::error("out-of-range", patience.span, "not from 1 s to 10 min");
        to.report(problem.help("write \"12s\": players give up on their own after a while"));
    }
    plan::Limits {
        port: peers.port.value.get() as u16,
        memory,
        cpus: peers.cpus.value.0,
        pids: peers.pids.value.get() as u32,
        cache,
        max_segment: segment,
        patience_ms: patience.value.0 / 1000,
    }
}

fn size(at: &At<Size>, least: u64, write: &str, why: &str, to: &mut Reader) {
    if at.value.0 < least {
        to.report(Problem::error("out-of-range", at.span, why).help(format!("write \"{write}\" or more")));
    }
}

/// The one of two conflicting values that was written.
fn either(first: &At<Size>, second: &At<Size>) -> Span {
    if first.span.is_none() { second.span } else { first.span }
}

/// Names that share a space must differ: nodes among each other, and networks.
pub(crate) fn names(file: &File, peer_prefix: &str, variable: Option<Span>, to: &mut Reader) {
    let mut nodes: Named<'_> = BTreeMap::new();
    nodes.insert("signalling".to_owned(), (Span::NONE, "the signalling server"));
    nodes.insert("keeper".to_owned(), (Span::NONE, "who keeps the mesh's processes"));
    let mut networks: Named<'_> = BTreeMap::new();
    let docker = &file.docker.value.network;
    networks.insert(docker.value.0.to_string(), (docker.span, "the peers"));
    let origin = &file.origin.value;
    let server = &file.docker.value.signalling_name;
    let is_peer = |text: &str| {
        let number = text.strip_prefix(peer_prefix).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    if is_peer(server.value.0.as_str()) {
        let place = variable.unwrap_or(server.span);
        let problem =
            Problem::error("duplicate-name", place, format!("`{}` is a peer's name", server.value.0));
        to.report(
            problem.help("give the signalling server's container another name, or the peers another prefix"),
        );
    }
    if server.value.0.as_str() != "signalling" {
        let text = server.value.0.as_str();
        unique(&mut nodes, text, server.span, "the signalling server's container", &NODE, to);
    }
    let mut databases = vec![(&origin.name, &origin.network, "the origin")];
    databases
        .extend(file.edges.value.iter().map(|edge| (&edge.value.name, &edge.value.network, "another edge")));
    for (name, network, what) in databases {
        let text = name.value.0.as_str();
        if is_peer(text) {
            let message = format!("`{text}` is a peer's name");
            // The file's own prefix would be no surprise; PREFIX is the place to look.
            let place = variable.unwrap_or(name.span);
            let problem = Problem::error("duplicate-name", place, message);
            to.report(problem.help("give the database another name, or the peers another prefix"));
        }
        unique(&mut nodes, text, name.span, what, &NODE, to);
        if file.mesh.value.name.value.0.as_str().len() + text.len() > 53 {
            let message = "the mesh's name and this one have more than 53 bytes together";
            let help = "shorten one of them: both go into the name of a replication slot";
            to.report(Problem::error("bad-name", name.span, message).help(help));
        }
        unique(&mut networks, network.value.0.as_str(), network.span, what, &NETWORK, to);
    }
    let postgres = &file.postgres.value;
    let user = postgres.user.value.0.as_str();
    if user.starts_with("pg_") || user.starts_with("hopcast_") || matches!(user, "public" | "none") {
        let message = format!("`{user}` is reserved");
        to.report(
            Problem::error("bad-name", postgres.user.span, message)
                .help("take another name, such as \"media\""),
        );
    }
    let database = postgres.database.value.0.as_str();
    if matches!(database, "template0" | "template1") {
        let message = format!("`{database}` is PostgreSQL's own");
        to.report(
            Problem::error("bad-name", postgres.database.span, message)
                .help("take another name, such as \"hls\""),
        );
    }
}

/// What is named, with the place where.
type Named<'a> = BTreeMap<String, (Span, &'a str)>;

/// Remembers a name, or reports that it is taken.
fn unique<'a>(seen: &mut Named<'a>, name: &str, span: Span, what: &'a str, kind: &Kind, to: &mut Reader) {
    let Some((first, who)) = seen.get(name).copied() else {
        seen.insert(name.to_owned(), (span, what));
        return;
    };
    // A default may clash with what is written: then that is where to look.
    let (place, first) = if span.is_none() { (first, Span::NONE) } else { (span, first) };
    let message = format!("`{name}` is already {} {who}", kind.is);
    to.report(Problem::error(kind.code, place, message).related(first, "here").help(kind.help));
}

/// Kinds of names that must differ among each other.
struct Kind {
    code: &'static str,
    is: &'static str,
    help: &'static str,
}

const NODE: Kind = Kind { code: "duplicate-name", is: "the name of", help: "give it another name" };
const NETWORK: Kind = Kind {
    code: "overlapping-networks",
    is: "the network of",
    help: "give every network its own name: a shared one would open a database to others",
};

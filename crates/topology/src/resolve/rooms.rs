//! Rooms, edge-peer sets and songs: who is in what, and whether every room can be served.

use std::collections::{BTreeMap, BTreeSet};

use hopcast_protocol::{DatabaseName, NetworkName, RoomName, SongName};

use super::{Context, links::LinkMap};
use crate::{
    config::{
        At,
        file::{Edge, Room, Song},
        read::Reader,
        value::Name,
    },
    plan,
    report::Problem,
    source::Span,
    suggest,
};

/// A room with its peers.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    pub(crate) name: RoomName,
    pub(crate) peers: BTreeSet<u32>,
    span: Span,
    /// All of its peers were understood.
    good: bool,
}

/// An edge with its peers.
#[derive(Debug, Clone)]
pub(crate) struct EdgeSet {
    pub(crate) name: DatabaseName,
    pub(crate) network: NetworkName,
    pub(crate) peers: BTreeSet<u32>,
    /// Where its peers are written.
    span: Span,
}

/// The rooms of the plan; those that COUNT leaves empty are dropped.
pub(crate) fn rooms(rooms: &At<Vec<At<Room>>>, context: &Context, to: &mut Reader) -> Vec<Members> {
    if rooms.value.is_empty() && !rooms.bad && to.lost.is_empty() {
        let help = "add `[[rooms]]` with a `name` and `peers = [\"*\"]`";
        to.report(Problem::error("no-room", context.file, "there is no room").help(help));
    }
    let mut seen = BTreeMap::new();
    let mut members = Vec::new();
    for At { value: room, .. } in &rooms.value {
        let (peers, understood) = context.numbering.select(&room.peers.value, to);
        let good = understood && !room.peers.bad;
        let Name(name) = &room.name.value;
        if let Some(first) = seen.insert(name.clone(), room.name.span) {
            let message = format!("there is already a room `{name}`");
            let problem = Problem::error("duplicate-name", room.name.span, message);
            to.report(problem.related(first, "here").help("give it another name"));
        }
        if peers.is_empty() {
            if good {
                empty("room", name.as_str(), room.peers.span, &room.peers.value, context, to);
            }
            // An empty room that is an error stays, so that no song complains about its name.
            if good && context.clipped {
                continue;
            }
        }
        members.push(Members { name: name.clone(), peers, span: room.peers.span, good });
    }
    members
}

/// The edges of the plan; those that COUNT leaves without peers are dropped. The flag is false where some edge was not
/// understood.
pub(crate) fn edges(edges: &At<Vec<At<Edge>>>, context: &Context, to: &mut Reader) -> (Vec<EdgeSet>, bool) {
    // Edges that could not be parsed may be all of them.
    let lost = edges.value.is_empty() && !to.lost.is_empty();
    let mut all_good = !lost && (!edges.bad || edges.value.iter().any(|edge| edge.bad));
    let mut sets = Vec::new();
    for At { value: edge, .. } in &edges.value {
        let (peers, understood) = context.numbering.select(&edge.peers.value, to);
        let good = understood && !edge.peers.bad;
        all_good &= good;
        if peers.is_empty() && good {
            empty("edge", edge.name.value.0.as_str(), edge.peers.span, &edge.peers.value, context, to);
            if context.clipped {
                continue;
            }
        }
        sets.push(EdgeSet {
            name: edge.name.value.0.clone(),
            network: edge.network.value.0.clone(),
            peers,
            span: edge.peers.span,
        });
    }
    (sets, all_good)
}

/// Nobody is left: COUNT's doing is a warning, the file's an error.
fn empty<T>(what: &str, name: &str, span: Span, written: &[T], context: &Context, to: &mut Reader) {
    if context.clipped && !written.is_empty() {
        let who = context.count_from.unwrap_or("COUNT");
        let message = format!("{what} `{name}` is dropped: {who} leaves none of its peers");
        to.report(Problem::warning("dropped", span, message));
    } else {
        let message = format!("{what} `{name}` has no peers");
        let help = format!("write \"{0}-1..{0}-8\", or \"*\" for all", context.numbering.file_prefix);
        to.report(Problem::error("empty", span, message).help(help));
    }
}

/// Each room must be in one piece and have a gateway. What COUNT or nothing else broke is only a warning.
pub(crate) fn judge(
    rooms: &[Members],
    links: Option<&LinkMap>,
    edges: Option<&[EdgeSet]>,
    context: &Context,
    to: &mut Reader,
) {
    let neighbors = links.map(|links| neighbors(links, context.numbering.count));
    for room in rooms.iter().filter(|room| room.good && !room.peers.is_empty()) {
        if let Some(neighbors) = &neighbors {
            connected(room, neighbors, context, to);
        }
        let served = edges.is_none_or(|edges| edges.iter().any(|edge| !edge.peers.is_disjoint(&room.peers)));
        if !served {
            let mut message = format!("no edge's peers are in room `{}`: no song can reach it", room.name);
            let variables = edges.into_iter().flatten().filter_map(|edge| to.texts.variable(edge.span));
            for variable in variables {
                message.push_str(&format!("; {variable} sets an edge's peers"));
            }
            let help = format!(
                "add one of {} to an edge's `peers`",
                context.numbering.ranges(room.peers.iter().copied())
            );
            to.report(context.broken("no-gateway", room.span, message).help(help));
        }
    }
}

/// Each peer's neighbours.
fn neighbors(links: &LinkMap, count: u32) -> Vec<Vec<u32>> {
    let mut neighbors = vec![Vec::new(); count as usize];
    for &(a, b) in links.keys() {
        neighbors[a as usize].push(b);
        neighbors[b as usize].push(a);
    }
    neighbors
}

fn connected(room: &Members, neighbors: &[Vec<u32>], context: &Context, to: &mut Reader) {
    let components = components(&room.peers, neighbors);
    if components.len() < 2 {
        return;
    }
    let shown = 5;
    let numbering = &context.numbering;
    let mut pieces: Vec<_> = components
        .iter()
        .take(shown)
        .map(|piece| format!("({})", numbering.ranges(piece.iter().copied())))
        .collect();
    if components.len() > shown {
        pieces.push("...".to_owned());
    }
    let message =
        format!("room `{}` is not connected: its links leave {} pieces", room.name, components.len());
    let first =
        |piece: usize| components[piece].first().map(|peer| numbering.written(*peer)).unwrap_or_default();
    let help = format!(
        "link the pieces, for example with a `[[links]]` that has between = [\"{}\", \"{}\"]",
        first(0),
        first(1)
    );
    to.report(context.broken("disconnected-room", room.span, message).label(pieces.join(" | ")).help(help));
}

/// The pieces of a room, each in order, by their first peer.
fn components(peers: &BTreeSet<u32>, neighbors: &[Vec<u32>]) -> Vec<BTreeSet<u32>> {
    let mut left = peers.clone();
    let mut pieces = Vec::new();
    while let Some(start) = left.pop_first() {
        let mut piece = BTreeSet::from([start]);
        let mut stack = vec![start];
        while let Some(peer) = stack.pop() {
            for &next in &neighbors[peer as usize] {
                if left.remove(&next) {
                    piece.insert(next);
                    stack.push(next);
                }
            }
        }
        pieces.push(piece);
    }
    pieces
}

/// The songs of the plan.
pub(crate) fn songs(
    songs: &At<Vec<At<Song>>>,
    written: &At<Vec<At<Room>>>,
    rooms: &[Members],
    to: &mut Reader,
) -> Vec<plan::Song> {
    let mut seen: BTreeMap<SongName, Span> = BTreeMap::new();
    let mut resolved = Vec::new();
    for At { value: song, .. } in &songs.value {
        let Some((name, span)) = song_name(song, to) else { continue };
        if let Some(first) = seen.insert(name.clone(), span) {
            let problem = Problem::error("duplicate-name", span, format!("there is already a song `{name}`"));
            to.report(problem.related(first, "here").help("give one of them another `name`"));
            continue;
        }
        let before = to.dirt();
        let mut wanted = BTreeSet::new();
        for selector in &song.rooms.value {
            let text = selector.value.0.as_str();
            if text == "*" {
                wanted.extend(rooms.iter().map(|room| &room.name));
            } else if let Some(room) = rooms.iter().find(|room| room.name.as_str() == text) {
                wanted.insert(&room.name);
            } else if !written.bad
                && (!written.value.is_empty() || to.lost.is_empty())
                && written.value.iter().all(|room| room.value.name.value.0.as_str() != text)
            {
                let names = written.value.iter().map(|room| room.value.name.value.0.as_str());
                let message = format!("there is no room `{}`", text.escape_default());
                to.report(Problem::error("not-a-room", selector.span, message).help(suggest::instead(
                    text,
                    names,
                    "the rooms are",
                )));
            }
        }
        if wanted.is_empty() && to.dirt() == before && !written.bad && !song.rooms.bad {
            // Rooms that COUNT dropped were named; otherwise the list itself is empty.
            let message = format!("song `{name}` has no room left");
            let problem = if song.rooms.value.is_empty() {
                Problem::error("empty", song.rooms.span, message)
            } else {
                Problem::warning("dropped", song.rooms.span, format!("{message} and is dropped"))
            };
            to.report(problem.help("write the names of rooms, or \"*\""));
            continue;
        }
        let rooms = rooms.iter().map(|room| room.name.clone()).filter(|room| wanted.contains(room)).collect();
        resolved.push(plan::Song { name, path: song.path.value.0.clone().into(), rooms });
    }
    resolved
}

/// `name`, else the path's last part without its extension.
fn song_name(song: &Song, to: &mut Reader) -> Option<(SongName, Span)> {
    if let Some(at) = &song.name.at {
        return Some((at.value.0.clone(), at.span));
    }
    if song.name.bad || song.path.bad {
        return None;
    }
    let stem = std::path::Path::new(&song.path.value.0).file_stem().and_then(|stem| stem.to_str());
    if let Some(Ok(name)) = stem.map(SongName::new) {
        return Some((name, song.path.span));
    }
    let message = "the path's last part can't be the name of a song";
    let help = "add a `name` of letters, digits, `.`, `_` and `-`, which players will use";
    to.report(Problem::error("bad-name", song.path.span, message).help(help));
    None
}

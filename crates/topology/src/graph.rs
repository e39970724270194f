//! Imported graphs: node-link JSON as networkx writes it, and CSV.
//!
//! Nodes become peers. If any node is named like a peer (`peer-7`), all must be, and each is that peer. Otherwise the
//! names stand for peer-1, peer-2, ... in the order in which the file first has them: in JSON that of `nodes`.
//! Self-links and duplicates are skipped; directions, weights and parallel edges are ignored.

mod csv;
mod json;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{
        At,
        file::MAX_PEERS,
        read::Reader,
        value::{FilePath, Mistake},
    },
    report::Problem,
    resolve::Context,
    shape::Pair,
    source::{Kind, Span},
};

/// Longest graph file, in bytes.
pub const MAX_GRAPH: usize = 16 << 20;

/// So many mistakes of one graph are reported.
const MAX_MISTAKES: usize = 20;

/// Names and edges, as the file has them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    names: Vec<(String, Span)>,
    by_name: BTreeMap<String, usize>,
    edges: Vec<(usize, usize)>,
    import: Option<Span>,
}

impl Graph {
    /// The number of a node, new or not.
    fn node(&mut self, name: &str, span: Span) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        self.names.push((name.to_owned(), span));
        self.by_name.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// How many peers it needs.
    pub(crate) fn nodes(&self) -> u32 {
        self.names.len() as u32
    }

    /// Its links between peers; `None` after reporting that it does not fit.
    pub(crate) fn pairs(&self, context: &Context, to: &mut Reader) -> Option<BTreeSet<Pair>> {
        let before = to.dirt();
        let numbering = &context.numbering;
        let number = |name: &str| {
            let digits = name.strip_prefix(numbering.file_prefix.as_str())?.strip_prefix('-')?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse::<u32>().ok().filter(|_| plain)
        };
        let by_name = self.names.iter().any(|(name, _)| number(name).is_some());
        let mut peers = Vec::with_capacity(self.names.len());
        let mut mistakes = 0;
        for ((name, span), place) in self.names.iter().zip(0u32..) {
            let peer = if by_name { number(name).map(|number| number - 1) } else { Some(place) };
            let fits = peer.filter(|peer| *peer < numbering.named || !numbering.known);
            if fits.is_none() {
                mistakes += 1;
                if mistakes <= MAX_MISTAKES && by_name {
                    let message = format!(
                        "`{}` is not a peer, though other nodes are named like peers",
                        name.escape_default()
                    );
                    let help =
                        format!("the peers are {0}-1 to {0}-{1}", numbering.file_prefix, numbering.named);
                    to.report(Problem::error("not-a-peer", *span, message).help(help));
                }
            }
            peers.push(fits);
        }
        if mistakes > 0 && !by_name {
            let message =
                format!("the graph has {} nodes, but there are {} peers", self.names.len(), numbering.named);
            let help = format!("write `count = {}` in `[peers]`, or remove `count`", self.names.len());
            to.report(
                Problem::error("graph-too-large", self.import.unwrap_or(Span::NONE), message).help(help),
            );
        }
        let edges = self.edges.iter().filter_map(|&(a, b)| peers[a].zip(peers[b]));
        let inside = edges.filter(|(a, b)| a != b && *a < numbering.count && *b < numbering.count);
        let pairs = inside.map(|(a, b)| (a.min(b), a.max(b))).collect();
        (to.dirt() == before).then_some(pairs)
    }
}

/// Reads and parses a graph; `None` after reporting what is wrong.
pub(crate) fn load(path: &At<FilePath>, read: crate::ReadGraph<'_>, to: &mut Reader) -> Option<Graph> {
    let name = path.value.0.as_str();
    let extension = std::path::Path::new(name).extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    let json = match extension.as_deref() {
        Some("json") => true,
        Some("csv") => false,
        _ => {
            let message = "neither a .json nor a .csv file";
            let help = "write the path of a node-link JSON file (.json) or of a CSV file (.csv)";
            to.report(Problem::error("bad-graph", path.span, message).help(help));
            return None;
        }
    };
    let text = match read(name, MAX_GRAPH) {
        Ok(text) if text.len() <= MAX_GRAPH => text,
        Ok(text) => {
            let message = format!("the graph has {} bytes, at most {MAX_GRAPH} are read", text.len());
            to.report(Problem::error("bad-graph", path.span, message).help("take a smaller graph"));
            return None;
        }
        Err(why) => {
            let help = "the path is relative to the topology file";
            to.report(
                Problem::error("unreadable", path.span, format!("can't read `{name}`: {why}")).help(help),
            );
            return None;
        }
    };
    // A byte order mark, as spreadsheets write it, is none of the first name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let id = to.texts.add(Kind::File, name, text);
    let mut graph = Graph { import: Some(path.span), ..Graph::default() };
    let mistakes = if json { json::read(text, id, &mut graph) } else { csv::read(text, id, &mut graph) };
    let left = mistakes.len().saturating_sub(MAX_MISTAKES);
    let failed = !mistakes.is_empty();
    for (mistake, span) in mistakes.into_iter().take(MAX_MISTAKES) {
        to.report(mistake.problem("bad-graph", span));
    }
    if left > 0 {
        to.report(Problem::error("bad-graph", path.span, format!("and {left} more mistakes in `{name}`")));
    }
    if !failed && graph.names.is_empty() {
        to.report(
            Problem::error("bad-graph", path.span, "the graph has no nodes").help("take another graph"),
        );
        return None;
    }
    if i64::from(graph.nodes()) > MAX_PEERS {
        let message =
            format!("the graph has {} nodes, at most {MAX_PEERS} peers are possible", graph.nodes());
        to.report(Problem::error("graph-too-large", path.span, message).help("take a smaller graph"));
        return None;
    }
    (!failed).then_some(graph)
}

/// Mistakes with their places.
type Mistakes = Vec<(Mistake, Span)>;

//! Node-link JSON: `{"nodes": [{"id": ...}], "links" or "edges": [{"source": ..., "target": ...}]}`, as
//! `networkx.node_link_data` writes it. Ids are strings or numbers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Graph, Mistake, Mistakes};
use crate::source::Span;

type Object<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    nodes: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    links: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    edges: Option<Vec<&'a RawValue>>,
}

/// Adds nodes and links of the text, whose number is `id`.
pub(super) fn read(text: &str, id: u16, graph: &mut Graph) -> Mistakes {
    // A raw value borrows from the text: its place is the distance between the two.
    let span = |raw: &RawValue| {
        let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        Span::new(id, start..start + raw.get().len())
    };
    let document: Document<'_> = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let at = offset(text, error.line(), error.column());
            let mut why = error.to_string();
            why.truncate(why.find(" at line ").unwrap_or(why.len()));
            let help = "write node-link JSON: {\"nodes\": [{\"id\": 0}, ...], \"links\": [{\"source\": 0, \"target\": 1}, ...]}";
            return vec![(
                Mistake::new(format!("not a node-link graph: {why}"), help),
                Span::new(id, at..at + 1),
            )];
        }
    };
    let mut mistakes = Vec::new();
    let mut texts = BTreeMap::new();
    for node in document.nodes.iter().flatten() {
        let found = object(node).and_then(|object| object.get("id").copied());
        match found.and_then(name) {
            Some(name) => {
                let place = span(found.unwrap_or(node));
                graph.node(&name, place);
                let text = found.is_some_and(|raw| raw.get().starts_with('"'));
                if *texts.entry(name.clone()).or_insert(text) != text {
                    let message =
                        format!("`{}` is a node as a number and one as a text", name.escape_default());
                    mistakes
                        .push((Mistake::new(message, "peers have names alone: give one another id"), place));
                }
            }
            None => mistakes.push((
                Mistake::new("a node without an id", "write {\"id\": 0} or {\"id\": \"a\"}"),
                span(node),
            )),
        }
    }
    let Some(links) = document.links.or(document.edges) else {
        let mistake = Mistake::new(
            "neither `links` nor `edges` is there",
            "write \"links\": [{\"source\": 0, \"target\": 1}]",
        );
        mistakes.push((mistake, Span::new(id, 0..1)));
        return mistakes;
    };
    let known = document.nodes.is_some();
    for link in links {
        let object = object(link).unwrap_or_default();
        let mut end = |key: &str| {
            let raw = object.get(key).copied();
            let Some(name) = raw.and_then(name) else {
                let mistake =
                    Mistake::new(format!("a link without a {key}"), "write {\"source\": 0, \"target\": 1}");
                mistakes.push((mistake, span(raw.unwrap_or(link))));
                return None;
            };
            let place = span(raw.unwrap_or(link));
            if known && !graph.by_name.contains_key(&name) {
                let message = format!("there is no node `{}`", name.escape_default());
                mistakes.push((Mistake::new(message, "add it to `nodes`, or correct the link"), place));
                return None;
            }
            Some(graph.node(&name, place))
        };
        let (source, target) = (end("source"), end("target"));
        if let Some(edge) = source.zip(target) {
            graph.edges.push(edge);
        }
    }
    mistakes
}

fn object(raw: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// A string or number as a name.
fn name(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str(raw.get()).ok(),
        b'-' | b'0'..=b'9' => Some(raw.get().to_owned()),
        _ => None,
    }
}

/// The offset of a line and column, both from 1, the column in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len().saturating_sub(1))
}

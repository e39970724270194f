//! Statements of the DOT language, as they are collected.

use graphviz_rust::dot_structures::{Attribute, Edge, EdgeTy, Id, Node, NodeId, Stmt, Vertex};

use super::layout::Point;

/// What has been drawn so far.
#[derive(Default)]
pub(super) struct Sheet {
    pub(super) statements: Vec<Stmt>,
}

impl Sheet {
    /// A box of text with markup, in text of that size.
    pub(super) fn html(&mut self, name: &str, at: Point, html: &str, size: f64) {
        let mut all = vec![Attribute(Id::Plain("label".to_owned()), Id::Html(html.to_owned()))];
        all.extend(attributes([
            ("shape", "plain"),
            ("style", "solid"),
            ("fixedsize", "false"),
            ("width", "0"),
            ("fontsize", &tenths(size)),
            ("pos", &at.to_string()),
            ("tooltip", "legend"),
        ]));
        self.statements.push(Stmt::Node(Node { id: NodeId(quoted(name), None), attributes: all }));
    }

    /// A point that is not seen: an end for a line that joins nothing.
    pub(super) fn hidden(&mut self, name: &str, at: Point) {
        self.node(name, at, [("shape", "point"), ("style", "invis"), ("width", "0.01")]);
    }

    pub(super) fn node<'v>(
        &mut self,
        name: &str,
        at: Point,
        looks: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) {
        let mut all = attributes([("pos", at.to_string().as_str())]);
        all.extend(attributes(looks));
        self.statements.push(Stmt::Node(Node { id: NodeId(quoted(name), None), attributes: all }));
    }

    pub(super) fn edge<'v>(
        &mut self,
        a: &str,
        b: &str,
        curve: &str,
        looks: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) {
        let [a, b] = [a, b].map(|end| Vertex::N(NodeId(quoted(end), None)));
        let mut all = attributes([("pos", curve)]);
        all.extend(attributes(looks));
        self.statements.push(Stmt::Edge(Edge { ty: EdgeTy::Pair(a, b), attributes: all }));
    }
}

pub(super) fn line(from: Point, to: Point) -> String {
    curve(&[from, from.towards(to, 1.0 / 3.0), from.towards(to, 2.0 / 3.0), to])
}

pub(super) fn curve(points: &[Point]) -> String {
    points.iter().map(Point::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn inches(points: f64) -> String {
    format!("{:.3}", points / 72.0)
}

pub(super) fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

pub(super) fn attributes<'v>(list: impl IntoIterator<Item = (&'v str, &'v str)>) -> Vec<Attribute> {
    list.into_iter().map(|(key, value)| Attribute(Id::Plain(key.to_owned()), quoted(value))).collect()
}

/// A string of the DOT language: only the quote itself needs care (and a backslash, which Graphviz expands in labels).
pub(super) fn quoted(text: &str) -> Id {
    Id::Escaped(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

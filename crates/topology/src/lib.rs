//! `topology.toml` in, one resolved and validated [`Plan`] out.
//!
//! Pure: no network, no files, no clock; file contents and the environment are arguments. Every consumer (signalling
//! server, backends, graph, verifier) reads the plan and nothing else.
//!
//! ```
//! use hopcast_topology::{Env, Source, load};
//!
//! let text = r#"
//! [peers]
//! count = 5
//! [[rooms]]
//! name = "rock"
//! peers = ["*"]
//! [[edges]]
//! name = "edge-db-a"
//! network = "edge-a-net"
//! peers = ["peer-1"]
//! "#;
//! let loaded = load(Source::new("topology.toml", text), &Env::empty()).unwrap();
//! assert_eq!(loaded.plan.peers.len(), 5);
//!
//! let report = load(Source::new("topology.toml", "[peers]\ncuont = 5"), &Env::empty()).unwrap_err();
//! assert!(report.to_string().contains("did you mean `count`?"));
//! ```

mod config;
mod env;
mod graph;
pub mod plan;
mod random;
mod reference;
mod report;
mod resolve;
mod schema;
mod shape;
mod source;
mod suggest;

pub use env::{Env, VARIABLES};
pub use graph::MAX_GRAPH;
pub use plan::Plan;
pub use reference::reference;
pub use report::{Entry, Related, Report, Severity};
pub use schema::schema;

use config::{File, read::Reader, syntax, table::FromToml};
use report::Problem;
use source::{Kind, Span};
use toml::de::DeValue;

/// Longest topology file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Reads an imported graph: its path as written, which is relative to the topology file, and how many bytes are taken
/// at most. A longer file, like one that can't be read or is not UTF-8, is an error; its text completes "can't read
/// `graph.json`: ".
pub type ReadGraph<'a> = &'a dyn Fn(&str, usize) -> Result<String, String>;

/// A topology file.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    name: &'a str,
    text: &'a str,
    read_graph: ReadGraph<'a>,
}

impl<'a> Source<'a> {
    /// A file's name, for messages, and its contents. Nothing can be imported.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, read_graph: &|_, _| Err("there are no files here".to_owned()) }
    }

    /// Lets the file import graphs.
    #[must_use]
    pub fn with_graphs(self, read_graph: ReadGraph<'a>) -> Self {
        Self { read_graph, ..self }
    }
}

/// What a topology file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// What is odd about it; may be empty.
    pub warnings: Report,
}

/// Resolves a topology file with the environment's [`VARIABLES`] on top.
///
/// The error has everything that is wrong, and the warnings.
pub fn load(source: Source<'_>, env: &Env) -> Result<Loaded, Report> {
    let mut to = Reader::default();
    let id = to.texts.add(Kind::File, source.name, source.text);
    if source.text.len() > MAX_FILE {
        let message = format!("the file has {} bytes, at most {MAX_FILE} are read", source.text.len());
        to.report(Problem::error("too-large", Span::new(id, 0..0), message));
        return Err(finish(to));
    }
    let parsed = syntax::parse(id, source.text);
    for problem in parsed.problems {
        to.report(problem);
    }
    if !parsed.whole {
        let message = "there are more: this does not look like a topology file";
        to.report(
            Problem::error("syntax", Span::new(id, 0..0), message)
                .help("`hopcast init` writes one to begin with"),
        );
        return Err(finish(to));
    }
    to.lost = parsed.lost;
    let tree = syntax::tree(&parsed.text);
    let root = DeValue::Table(tree.into_inner());
    let plan = File::from_toml(&root, Span::new(id, 0..0), &mut to).and_then(|mut file| {
        let overrides = env::apply(env, &mut file, &mut to);
        resolve::resolve(&file, &overrides, source.read_graph, &mut to)
    });
    let report = finish(to);
    match plan {
        Some(plan) if report.errors() == 0 => Ok(Loaded { plan, warnings: report }),
        _ => Err(report),
    }
}

/// Orders the problems: by place in the file, then what lies in other texts; errors and warnings together.
fn finish(to: Reader) -> Report {
    let mut problems = to.problems;
    problems.sort_by_key(|problem| (problem.span.text, problem.span.start, problem.severity));
    Report { texts: to.texts, problems }
}

/// The commented file that `hopcast init` writes: the one at the top of the repository.
pub fn init_text() -> &'static str {
    include_str!("../../../topology.toml")
}

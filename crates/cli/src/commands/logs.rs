//! `hopcast logs`: what the mesh's processes wrote.

use clap::Args;
use serde::Serialize;

use crate::{
    context::{Context, Which},
    exit,
};

/// Most lines that the object of `--json` holds; the newest stay.
const LINES: usize = 10_000;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// peer-7, edge-db-a, signalling, keeper, ...; all of them without one
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// The topology file [default: topology.toml here or in the nearest directory above]
    // Its short form is `--follow`'s here, as it is in every other program's `logs`.
    #[arg(long, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

#[derive(Serialize)]
struct Line {
    node: String,
    line: String,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let backend = context.backend(&arguments.which).await?;
    let out = &context.out;
    let mut kept = std::collections::VecDeque::new();
    let alone = arguments.nodes.len() == 1;
    let (closed, gone) = tokio::sync::oneshot::channel::<()>();
    let mut closed = Some(closed);
    let mut sink = |node: &str, line: &str| {
        if out.is_json() {
            if kept.len() == LINES {
                kept.pop_front();
            }
            kept.push_back(Line { node: node.to_owned(), line: line.to_owned() });
        } else if alone {
            out.line(line);
        } else {
            out.line(format_args!("{node} | {line}"));
        }
        if out.closed() {
            closed.take(); // its drop is the message
        }
    };
    tokio::select! {
        ended = backend.logs(&arguments.nodes, arguments.follow, &mut sink) => ended?,
        _ = gone => {}
        // The end of a `--follow`.
        signal = tokio::signal::ctrl_c() => signal?,
    }
    out.result(&serde_json::json!({ "lines": kept }))?;
    Ok(exit::OK)
}

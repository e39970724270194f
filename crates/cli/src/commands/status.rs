//! `hopcast status`: what runs, and whether all is well.

use std::{fmt::Write as _, time::Duration};

use clap::Args;
use hopcast_deploy::{NodeRole, NodeState, NodeStatus, Status};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    context::{Context, Which},
    exit::{self, Failure},
    output::{bytes, count, table},
};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Show it anew every second until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Every node, not only those that are not well
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let backend = context.backend(&arguments.which).await?;
    // Listened to from here on: between two that listen for themselves a Ctrl-C would be lost.
    let mut interrupt = if arguments.watch { Some(signal(SignalKind::interrupt())?) } else { None };
    let mut interrupted = async || match &mut interrupt {
        Some(interrupt) => drop(interrupt.recv().await),
        None => std::future::pending().await,
    };
    let mut last = None;
    let (status, interrupted) = loop {
        let status = tokio::select! {
            status = backend.status() => status?,
            () = interrupted() => match last {
                Some(status) => break (status, true),
                None => return Err(Failure::new(exit::INTERRUPTED, "interrupted").into()),
            },
        };
        if let Some(unseen) = context.unseen(&arguments.which)? {
            return Err(Failure::new(exit::UNAVAILABLE, unseen).with("mesh", &status.mesh).into());
        }
        if arguments.watch && context.out.is_terminal() {
            // Home, then clear what is below: no flicker.
            context.out.human(format_args!("\x1b[H\x1b[J{}", text(&status, arguments.all)));
        } else {
            context.out.human(text(&status, arguments.all));
        }
        if !arguments.watch || context.out.closed() {
            break (status, false);
        }
        if tokio::time::timeout(EVERY, interrupted()).await.is_ok() {
            break (status, true);
        }
        last = Some(status);
    };
    context.out.result(&status)?;
    Ok(match (status.is_running(), status.ready) {
        _ if interrupted => exit::OK, // that is how a watch ends
        (false, _) => exit::UNAVAILABLE,
        (true, false) => exit::FAILED,
        (true, true) => exit::OK,
    })
}

fn word(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Running => "running",
        NodeState::Stopped => "stopped",
        NodeState::Dead => "DEAD",
        NodeState::Paused => "PAUSED",
    }
}

/// One node in one row.
fn row(node: &NodeStatus) -> [String; 7] {
    let mut detail = node.detail.clone().unwrap_or_default();
    if node.restarts > 0 {
        let _ = write!(detail, "{}restarts: {}", if detail.is_empty() { "" } else { ", " }, node.restarts);
    }
    [
        node.name.clone(),
        match &node.health {
            Some(health) => format!("{}, {health}", word(node.state)),
            None => word(node.state).to_owned(),
        },
        node.pid.map(|pid| format!("pid {pid}")).unwrap_or_default(),
        node.address.map(|address| address.to_string()).unwrap_or_default(),
        node.rss_kb.map(|kb| bytes(kb * 1024)).unwrap_or_default(),
        node.cpu_ms.map(|ms| format!("{:.1} s CPU", ms as f64 / 1000.0)).unwrap_or_default(),
        detail,
    ]
}

fn text(status: &Status, all: bool) -> String {
    let how = match (status.is_running(), status.ready) {
        (false, _) => "not running",
        (true, false) => "NOT ready",
        (true, true) if status.detached => "ready, detached",
        (true, true) => "ready",
    };
    let mut text = format!("mesh {} ({}): {how}\n", status.mesh, status.backend);
    if status.nodes.is_empty() {
        return text;
    }
    let peers: Vec<_> = status.nodes.iter().filter(|node| node.role == NodeRole::Peer).collect();
    let well = peers.iter().filter(|node| node.state == NodeState::Running).count();
    let resident: u64 = peers.iter().filter_map(|node| node.rss_kb).sum();
    let _ = writeln!(
        text,
        "{well} of {} running, {} resident in all",
        count(peers.len(), "peer"),
        bytes(resident * 1024)
    );
    let shown: Vec<_> = status
        .nodes
        .iter()
        .filter(|node| all || node.role != NodeRole::Peer || node.state != NodeState::Running)
        .map(row)
        .collect();
    indent(&mut text, &table(&shown));
    let rooms: Vec<_> = status
        .rooms
        .iter()
        .map(|room| {
            let connected = format!("{} of {} connected", room.connected.len(), count(room.peers, "peer"));
            [format!("room {}", room.name), connected]
        })
        .collect();
    indent(&mut text, &table(&rooms));
    // Every mesh has a room: the server alone knows who is in it.
    if rooms.is_empty() {
        let _ = writeln!(text, "  rooms: unknown, the signalling server does not answer");
    }
    let edges: Vec<_> = status
        .replication
        .iter()
        .map(|edge| {
            let state = if edge.replicating { "replicating" } else { "NOT replicating" };
            [format!("edge {}", edge.edge), state.to_owned(), edge.detail.clone()]
        })
        .collect();
    indent(&mut text, &table(&edges));
    for (a, b) in &status.cut {
        let _ = writeln!(text, "  link {a} - {b} is cut; `hopcast up` heals it");
    }
    text
}

fn indent(text: &mut String, rows: &str) {
    for row in rows.lines() {
        let _ = writeln!(text, "  {row}");
    }
}

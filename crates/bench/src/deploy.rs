//! `hopcast bench deploy`: `up` and `down` on Docker beside the engine's own floor.
//!
//! The floor: for each peer of the plan a bare create, connect and start of a container of the same image with the same caps, in
//! as many networks as the peer is in, which are made before, and nothing else; then their removal, the networks' too. So many requests are under way at a time as one says. The two
//! are measured in turn. The databases and the images are not part of the comparison: images are made before, a first `up`
//! brings up the whole mesh, the peers' containers are removed, and the `up` that counts makes them anew, from before the
//! first container until every peer is connected. Before the `down` that counts the databases' containers are removed; all else
//! that `down` does counts, networks and volumes too.
//!
//! Everything that this makes carries the label `io.hopcast.bench` or is the mesh's, and is removed at the end, also after a
//! failure or a signal.

mod cpu;
mod floor;
mod ours;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub use self::cpu::Spent;
use self::{cpu::Snapshot, floor::Floor, ours::Ours};
use crate::{
    median,
    row::{Figures, Row, Target},
    stop::Stop,
};

/// What `up` and `down` should take at most, as a multiple of the floor.
const TARGET: f64 = 1.2;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often both are measured, in turn.
    pub rounds: usize,
    /// Requests under way at a time, of the floor.
    pub in_flight: usize,
    /// How many peers; `None`: the plan's.
    pub peers: Option<u32>,
    /// Only the floor.
    pub floor_only: bool,
}

/// What was measured; medians of all rounds, seconds where nothing else is said.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Rounds of both.
    pub rounds: usize,
    /// Peers of the mesh, and containers of the floor.
    pub peers: usize,
    /// Requests under way at a time, of the floor.
    pub in_flight: usize,
    /// What the ratios should be at most.
    pub target: f64,
    /// The engine alone.
    pub floor: Side,
    /// hopcast; absent where only the floor was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hopcast: Option<Hopcast>,
    /// The same as rows; none of the floor alone.
    pub rows: Vec<Row>,
    /// One shim's memory, in KiB: its share of what it has in common with others, and what `ps` shows.
    pub shim_pss_kb: u64,
    /// What `ps` shows.
    pub shim_rss_kb: u64,
}

/// One side.
#[derive(Debug, Default, Serialize)]
pub struct Side {
    /// Until all peers' containers run; hopcast's: until every peer is connected.
    pub up: f64,
    /// Until nothing is left.
    pub down: f64,
    /// Every round.
    pub up_all: Vec<f64>,
    /// Every round.
    pub down_all: Vec<f64>,
    /// What one container's start took of a processor, in milliseconds, by who spent it; of the last round.
    pub cpu_ms: Spent,
}

/// The other one.
#[derive(Debug, Serialize)]
pub struct Hopcast {
    /// Times and processor time.
    #[serde(flatten)]
    pub side: Side,
    /// Until the last peer's container was started, without the wait for its connection.
    pub started: f64,
    /// The whole `up`: databases, songs, replication.
    pub whole: f64,
    /// `up` over the floor's.
    pub up_ratio: f64,
    /// `down` over the floor's.
    pub down_ratio: f64,
}

/// Measures both. `note` is told what is being done.
pub fn run(topology: &Path, options: Options, note: &dyn Fn(&str)) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop::listen()?;
        let mut ours = Ours::new(topology, options.peers, stop.clone())?;
        let plan = ours.plan().await?;
        let floor = Floor::connect(plan, options.in_flight, stop).await?;
        floor.refuse_company().await?;
        let measured = measure(&floor, &mut ours, options, note).await;
        note("removing what is left");
        // Whatever happened, and each of the two whatever becomes of the other.
        let (swept, down) = (floor.sweep().await, ours.put_away().await);
        let report = measured?;
        swept?;
        down?;
        Ok(report)
    })
}

async fn measure(floor: &Floor, ours: &mut Ours, options: Options, note: &dyn Fn(&str)) -> Result<Report> {
    let rounds = options.rounds;
    note("making the images, where they are missing");
    ours.images().await?;
    let (mut bare, mut mesh) = (Side::default(), Side::default());
    let (mut started, mut whole) = (Vec::new(), Vec::new());
    let mut shims = (0, 0);
    for round in 1..=rounds {
        note(&format!("round {round} of {rounds}: the floor, {} containers", floor.plan().peers));
        let before = Snapshot::take();
        bare.up_all.push(floor.up().await?);
        let after = Snapshot::take();
        bare.cpu_ms = after.since(&before, floor.plan().peers);
        shims = after.shim_memory();
        bare.down_all.push(floor.down().await?);
        if options.floor_only {
            continue;
        }
        note(&format!("round {round} of {rounds}: hopcast up, the whole mesh"));
        whole.push(ours.up().await?.whole);
        floor.remove_role("peer").await?;
        note(&format!("round {round} of {rounds}: hopcast up, the peers"));
        let before = Snapshot::take();
        let up = ours.up().await?;
        mesh.cpu_ms = Snapshot::take().since(&before, up.containers);
        mesh.up_all.push(up.connected);
        started.push(up.started);
        note(&format!("round {round} of {rounds}: hopcast down"));
        floor.remove_role("database").await?;
        mesh.down_all.push(ours.down().await?);
    }
    let middle = |all: &[f64]| median(all).context("at least one round is needed");
    (bare.up, bare.down) = (middle(&bare.up_all)?, middle(&bare.down_all)?);
    let hopcast = if options.floor_only {
        None
    } else {
        (mesh.up, mesh.down) = (middle(&mesh.up_all)?, middle(&mesh.down_all)?);
        Some(Hopcast {
            started: middle(&started)?,
            whole: middle(&whole)?,
            up_ratio: mesh.up / bare.up,
            down_ratio: mesh.down / bare.down,
            side: mesh,
        })
    };
    let peers = floor.plan().peers;
    let row = |metric: &str, ours: &[f64], floor: &[f64]| {
        Figures::new(format!("deploy.{metric}"), format!("{peers} peers on Docker"), "s", ours.to_vec())
            .limit(floor.to_vec())
            .row(Target::OverLimit(TARGET))
    };
    let rows = match &hopcast {
        Some(Hopcast { side, .. }) => {
            vec![row("up", &side.up_all, &bare.up_all)?, row("down", &side.down_all, &bare.down_all)?]
        }
        None => Vec::new(),
    };
    Ok(Report {
        rows,
        rounds,
        peers: floor.plan().peers,
        in_flight: options.in_flight,
        target: TARGET,
        floor: bare,
        hopcast,
        shim_pss_kb: shims.0,
        shim_rss_kb: shims.1,
    })
}

//! The order of the checks.

use hopcast_protocol::PeerName;
use tokio::time::Instant;

use crate::{
    checks::{graph, paths, peers},
    context::{Clock, Context},
    error::VerifyError,
    options::{OnProgress, Options},
    report::{Check, Numbers, Outcome, Report},
    target::Target,
};

/// Runs every check against a mesh, one after the other. What is wrong with the mesh is in the report; an error means
/// that the target is none.
pub async fn run(
    target: &Target,
    options: &Options,
    progress: &OnProgress<'_>,
) -> Result<Report, VerifyError> {
    let began = Instant::now();
    let mut context = Context::new(target, options, progress)?;
    let mut numbers = Numbers { rooms: target.plan.rooms.len() as u64, ..Numbers::default() };
    let mut checks: Vec<Check> = Vec::new();

    let peers_clock = Clock::start(peers::NAME, peers::CLAIM);
    let mut peers_tally = peers::before(&mut context, peers_clock).await;
    numbers.peers = context.living().len() as u64;

    let clock = Clock::start(graph::NAME, graph::CLAIM);
    checks.push(clock.finish(graph::check(&context).await));

    let clock = Clock::start(paths::NAME, paths::CLAIM);
    let tally = paths::check(&context).await;
    numbers.paths_checked = tally.checked;
    checks.push(clock.finish(tally));

    peers::after(&context, peers_clock, &mut peers_tally).await;
    checks.insert(0, peers_clock.finish(peers_tally));
    Ok(Report {
        mesh: target.plan.mesh.to_string(),
        backend: target.backend.clone(),
        passed: checks.iter().all(|check| check.outcome == Outcome::Passed),
        numbers,
        checks,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The peers of a list as text, for errors.
pub(crate) fn list<'a>(peers: impl IntoIterator<Item = &'a PeerName>) -> String {
    peers.into_iter().map(PeerName::as_str).collect::<Vec<_>>().join(", ")
}

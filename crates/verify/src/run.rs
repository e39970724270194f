//! The order of the checks.

use hopcast_protocol::Manifest;
use tokio::time::Instant;

use crate::{
    audit::{self, Audit},
    checks::{checksums, graph, isolation, memory, paths, peers, segments, shortcuts},
    context::{ANSWER, Clock, Context},
    error::VerifyError,
    events::Events,
    http::HttpError,
    options::{OnProgress, Options},
    report::{Check, Numbers, Outcome, Report, Tally},
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

    let mut peers_clock = Clock::start(peers::NAME, peers::CLAIM);
    let mut peers_tally = peers::before(&mut context, peers_clock).await;
    peers_clock.pause();
    numbers.peers = context.living().len() as u64;

    let clock = Clock::start(graph::NAME, graph::CLAIM);
    checks.push(clock.finish(graph::check(&context).await));

    let clock = Clock::start(paths::NAME, paths::CLAIM);
    let tally = paths::check(&context).await;
    numbers.paths_checked = tally.checked;
    checks.push(clock.finish(tally));

    let audit_clock = Clock::start(audit::NAME, audit::CLAIM);
    let audit = if context.sees_processes() { Some(Audit::start(&context).await) } else { None };
    let events = Events::open(target.signalling, ANSWER).await;

    let clock = Clock::start(checksums::NAME, checksums::CLAIM);
    let (tally, songs) = checksums::check(&context).await;
    numbers.stored_segments_checked = tally.checked;
    let check = clock.finish(tally);
    let songs = Songs { stored: check.outcome == Outcome::Passed, songs };
    checks.push(check);

    traffic(&context, events, &songs, &mut numbers, &mut checks).await;

    let mut left_out = Vec::new();
    if let Some(audit) = audit {
        let (tally, connections) = audit.finish().await;
        numbers.sockets_audited = connections;
        checks.push(audit_clock.finish(tally));

        let clock = Clock::start(memory::NAME, memory::CLAIM);
        let (tally, largest) = memory::check(&context).await;
        numbers.peer_rss_max_kb = largest.rss_kb;
        numbers.peer_private_max_kb = largest.private_kb;
        numbers.peer_cache_bytes = largest.cache_bytes;
        numbers.peer_container_max_kb = largest.container_kb;
        checks.push(clock.finish(tally));
    } else {
        for name in [audit::NAME, memory::NAME] {
            left_out.push(format!("{name}: the processes are on other machines"));
        }
    }

    let clock = Clock::start(isolation::NAME, isolation::CLAIM);
    let (tally, refused) = isolation::check(&context, &songs.songs).await;
    numbers.isolation_refused = refused;
    checks.push(clock.finish(tally));

    peers_clock.resume();
    peers::after(&context, peers_clock, &mut peers_tally).await;
    checks.insert(0, peers_clock.finish(peers_tally));
    Ok(Report {
        mesh: target.plan.mesh.to_string(),
        backend: target.backend.clone(),
        passed: checks.iter().all(|check| check.outcome == Outcome::Passed),
        numbers,
        checks,
        left_out,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The songs, and whether the edges have stored them as they were signed.
struct Songs {
    stored: bool,
    songs: Vec<Manifest>,
}

/// The checks that need the server's broadcasts.
async fn traffic(
    context: &Context<'_>,
    events: Result<Events, HttpError>,
    Songs { stored, songs }: &Songs,
    numbers: &mut Numbers,
    checks: &mut Vec<Check>,
) {
    let claims = [
        Clock::start(segments::NAME, segments::CLAIM),
        Clock::start(segments::VIA, segments::VIA_CLAIM),
        Clock::start(shortcuts::NAME, shortcuts::CLAIM),
    ];
    let events = match events {
        Ok(events) => events,
        Err(error) => {
            for clock in claims {
                let mut tally = Tally::default();
                tally.not_run(format!("no broadcasts: {error}"));
                checks.push(clock.finish(tally));
            }
            return;
        }
    };
    let found = segments::check(context, &events, songs, *stored).await;
    numbers.segments_checked = found.fetched;
    numbers.segments_over_routes = found.over_routes;
    numbers.via_matches = found.via_matches;
    numbers.max_hops = found.max_hops;
    checks.push(claims[0].finish(found.bytes));
    checks.push(claims[1].finish(found.via));

    let clock = Clock::start(shortcuts::NAME, shortcuts::CLAIM);
    let found = shortcuts::check(context, &events, songs).await;
    numbers.shortcuts_refused = found.refused;
    checks.push(clock.finish(found.tally));
}

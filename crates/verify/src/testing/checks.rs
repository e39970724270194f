//! Every check against the fake mesh: it passes on an honest one, and each lie makes exactly that check fail.

use std::time::Duration;

use crate::{
    checks::{graph, paths, peers, segments, shortcuts},
    context::{ANSWER, Clock, Context},
    events::Events,
    options::Options,
    report::{Check, Outcome, Tally},
    testing::fake::{Fake, Lie},
};

fn options() -> Options {
    Options { settle: Duration::from_millis(300), ..Options::default() }
}

/// Runs what needs no database and no processes; the checks by name, and the refused shortcuts.
async fn run(fake: &Fake) -> (Vec<Check>, u64, segments::Segments) {
    let (options, quiet) = (options(), |_| ());
    let mut context = Context::new(&fake.target, &options, &quiet).unwrap();
    let finish = |name, tally: Tally| Clock::start(name, "").finish(tally);
    let mut checks = Vec::new();
    let clock = Clock::start(peers::NAME, peers::CLAIM);
    let tally = peers::before(&mut context, clock).await;
    checks.push(finish(peers::NAME, tally));
    checks.push(finish(graph::NAME, graph::check(&context).await));
    checks.push(finish(paths::NAME, paths::check(&context).await));
    let events = Events::open(fake.target.signalling, ANSWER).await.unwrap();
    let mut found = segments::check(&context, &events, &fake.songs, true).await;
    checks.push(finish(segments::NAME, std::mem::take(&mut found.bytes)));
    checks.push(finish(segments::VIA, std::mem::take(&mut found.via)));
    let tried = shortcuts::check(&context, &events, &fake.songs).await;
    checks.push(finish(shortcuts::NAME, tried.tally));
    (checks, tried.refused, found)
}

fn bad(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| check.outcome != Outcome::Passed).map(|check| check.name.as_str()).collect()
}

#[tokio::test]
async fn a_mesh_without_the_song_is_told_so_without_waiting_for_it_to_settle() {
    let mut fake = Fake::start(30, 7, Lie::None).await;
    fake.songs.clear();
    let (options, quiet) = (Options { settle: Duration::from_secs(3600), ..Options::default() }, |_| ());
    let context = Context::new(&fake.target, &options, &quiet).unwrap();
    let events = Events::open(fake.target.signalling, ANSWER).await.unwrap();
    let check = async {
        let found = segments::check(&context, &events, &fake.songs, true).await;
        (found.bytes, shortcuts::check(&context, &events, &fake.songs).await.tally)
    };
    let (segments, shortcuts) =
        tokio::time::timeout(Duration::from_secs(60), check).await.expect("no waiting");
    let finish = |name, tally: Tally| Clock::start(name, "").finish(tally).outcome;
    assert_eq!(finish(segments::NAME, segments), Outcome::Failed);
    assert_eq!(finish(shortcuts::NAME, shortcuts), Outcome::NotRun);
}

/// The checks that do not pass under a lie, and their texts.
async fn caught(block: u8, lie: Lie) -> (Vec<String>, String) {
    let fake = Fake::start(block, 7, lie).await;
    let (checks, _, _) = run(&fake).await;
    let texts: Vec<String> = checks.iter().flat_map(|check| check.failures.clone()).collect();
    (bad(&checks).into_iter().map(str::to_owned).collect(), texts.join("\n"))
}

#[tokio::test]
async fn an_honest_mesh_passes_and_so_it_does_again() {
    let fake = Fake::start(1, 7, Lie::None).await;
    let (checks, refused, found) = run(&fake).await;
    assert_eq!(bad(&checks), [""; 0], "{checks:?}");
    assert_eq!((found.fetched, found.via_matches, found.over_routes, found.max_hops), (7, 7, 6, 3));
    // Each of the six peers that are not the gateway has a route; all peers but the last of a path are tried once.
    assert!(refused >= 25 && refused.is_multiple_of(5), "{refused}");
    assert_eq!(fake.cached(), 7, "one segment into each cache");
    let (_, _, found) = run(&fake).await;
    assert_eq!((fake.cached(), found.over_routes), (14, 6), "and one more each time");
    for round in 0..20 {
        let (checks, _, found) = run(&fake).await;
        assert_eq!(bad(&checks), [""; 0], "round {round}: {checks:?}");
        assert_eq!((found.fetched, found.via_matches), (7, 7));
    }
}

#[tokio::test]
async fn without_a_song_nothing_passes_silently() {
    let mut fake = Fake::start(12, 7, Lie::None).await;
    fake.songs.clear();
    let (checks, refused, _) = run(&fake).await;
    assert_eq!(bad(&checks), ["segments", "via", "shortcuts"]);
    assert_eq!(refused, 0);
    let outcome = |name| checks.iter().find(|check| check.name == name).unwrap().outcome;
    assert_eq!(outcome("segments"), Outcome::Failed);
    assert_eq!((outcome("via"), outcome("shortcuts")), (Outcome::NotRun, Outcome::NotRun));
}

#[tokio::test]
async fn a_relay_that_hides_fails_via() {
    let (bad, texts) = caught(2, Lie::Hides("peer-2")).await;
    assert_eq!(bad, ["via"]);
    assert!(texts.contains("was broadcast as peer-3 > peer-2 > peer-1"), "{texts}");
}

#[tokio::test]
async fn bytes_without_a_broadcast_fail_via_and_leave_no_route_to_try() {
    let (bad, texts) = caught(3, Lie::Silent).await;
    assert_eq!(bad, ["via", "shortcuts"]);
    assert!(texts.contains("did not broadcast"), "{texts}");
}

#[tokio::test]
async fn a_wrong_byte_fails_segments() {
    let (bad, texts) = caught(4, Lie::Corrupts("peer-5")).await;
    assert_eq!(bad, ["segments"]);
    assert!(texts.starts_with("peer-5: ") && texts.contains("hash to"), "{texts}");
}

#[tokio::test]
async fn every_kind_of_shortcut_that_is_served_is_seen() {
    let lies = [
        (Lie::Trusting, "without a key"),
        (Lie::AnyPrevious, "wrong previous hop"),
        (Lie::KeepsRetired, "a retired route"),
        (Lie::AnyPlayer, "a player's request from peer-"),
    ];
    for (block, (lie, text)) in (5..).zip(lies) {
        let (bad, texts) = caught(block, lie).await;
        assert_eq!(bad, ["shortcuts"], "{text}");
        assert!(texts.contains(text), "{text}: {texts}");
    }
}

#[tokio::test]
async fn a_dead_peer_is_one_failure() {
    let fake = Fake::start(9, 7, Lie::Dead("peer-4")).await;
    let (checks, _, _) = run(&fake).await;
    assert_eq!(bad(&checks), ["peers"]);
    let check = |name| checks.iter().find(|check| check.name == name).unwrap();
    let texts = check("peers").failures.join("\n");
    assert!(texts.contains("peer-4 is dead"), "{texts}");
    // What passes says what it passes for.
    let links =
        fake.target.plan.links.iter().filter(|l| [&l.a, &l.b].iter().any(|p| p.as_str() == "peer-4")).count();
    let left = format!("(among the peers that are up; {links} links of 1 dead peer left out)");
    assert!(links > 1 && check("graph").claim.ends_with(&left), "{}", check("graph").claim);
}

#[tokio::test]
async fn a_detour_fails_paths_and_a_forgotten_link_fails_graph() {
    let (bad, texts) = caught(10, Lie::Detours).await;
    assert_eq!(bad, ["paths"]);
    assert!(texts.contains("1 would do") || texts.contains("no link"), "{texts}");
    let (bad, texts) = caught(11, Lie::ForgetsLink).await;
    assert_eq!(bad, ["graph"]);
    assert!(texts.contains("peer-1 - peer-2 is missing in rock"), "{texts}");
}

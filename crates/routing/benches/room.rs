//! The functions that the signalling server calls for each message, alone: a path and the nearest of a few in a room that
//! changes, the way read off a kept tree, an announcement.
//!
//! ```text
//!   cargo bench -p hopcast-routing                   all of them
//!   cargo bench -p hopcast-routing -- path/10000     some
//! ```
//!
//! `hopcast bench routing` has the comparisons with petgraph and with bare arrays.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use hopcast_routing::{Bounds, Changes, Kept, NodeId, Room, Rules, Search};

const SIZES: [usize; 2] = [1000, 10_000];
/// Links to the next ones on this many rings: degree 8, short paths.
const STRIDES: [usize; 4] = [1, 37, 331, 577];

/// A room of connected peers with names, all announced; and who is linked with whom.
fn room(peers: usize) -> (Room<String>, Vec<NodeId>, Vec<(NodeId, String)>) {
    let (mut room, mut changes) = (Room::new(Rules::default()), Changes::new());
    let name = |at: usize| format!("peer-{}", at % peers);
    let ids: Vec<_> = (0..peers).map(|at| room.join(&name(at), &mut changes)).collect();
    let mut links = Vec::new();
    for (at, &id) in ids.iter().enumerate() {
        let neighbors = STRIDES.map(|stride| name(at + stride));
        room.announce(id, &neighbors, &mut changes).expect("an open room takes any link");
        links.extend(neighbors.map(|neighbor| (id, neighbor)));
        changes.clear();
    }
    (room, ids, links)
}

/// Numbers below `bound` in a scattered order, again and again: `step` is prime to it.
fn scattered(bound: usize, step: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    move || {
        at = (at + step) % bound;
        at
    }
}

/// One link goes down and comes up again.
fn flap(room: &mut Room<String>, (id, neighbor): &(NodeId, String), changes: &mut Changes) {
    for up in [false, true] {
        room.report(*id, neighbor, up, changes).expect("the link exists");
    }
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    for peers in SIZES {
        let ((mut room, ids, links), mut search) = (room(peers), Search::new());
        let (mut changes, mut next) = (Changes::new(), scattered(peers, 7919));
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            bench.iter(|| {
                flap(&mut room, &links[next()], &mut changes);
                changes.clear();
                black_box(room.path(&mut search, ids[next()], ids[next()]).map(<[_]>::len))
            });
        });
    }
    group.finish();
}

fn nearest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nearest_of_16");
    for peers in SIZES {
        let ((mut room, ids, links), mut search) = (room(peers), Search::new());
        let sources: Vec<_> = ids.iter().copied().step_by(peers / 16).collect();
        let (mut changes, mut next) = (Changes::new(), scattered(peers, 7919));
        group.bench_function(BenchmarkId::new("searched", peers), |bench| {
            bench.iter(|| {
                flap(&mut room, &links[next()], &mut changes);
                changes.clear();
                let from = ids[next()];
                black_box(room.nearest(&mut search, from, sources.iter().copied(), &[]).map(<[_]>::len))
            });
        });
        let (mut kept, mut path) = (Kept::new(Bounds::default()), Vec::new());
        kept.earn(2 * peers);
        group.bench_function(BenchmarkId::new("kept", peers), |bench| {
            bench.iter(|| {
                flap(&mut room, &links[next()], &mut changes);
                kept.follow(room.graph(), &changes);
                changes.clear();
                kept.prepare(room.graph(), sources.iter().copied());
                black_box(kept.path(ids[next()], &mut path))
            });
        });
    }
    group.finish();
}

fn announcements(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join_announce_leave");
    for peers in SIZES {
        let (mut room, _, links) = room(peers);
        let neighbors: Vec<_> = links.iter().take(8).map(|(_, name)| name.clone()).collect();
        let mut changes = Changes::new();
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            bench.iter_batched(
                || "newcomer".to_owned(),
                |name| {
                    let id = room.join(&name, &mut changes);
                    room.announce(id, &neighbors, &mut changes).expect("an open room takes any link");
                    room.leave(id, &mut changes);
                    changes.clear();
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, paths, nearest, announcements);
criterion_main!(benches);

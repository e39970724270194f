//! `hopcast bench routing`: shortest paths in a changing room, in this process.
//!
//! - A path under churn: one link is lost and another comes back before each query; from the first change until the whole
//!   path is there. Ours is a room as the signalling server has it, with names; beside it petgraph (the faster of `astar` and
//!   a breadth-first search), and as the limit the same search over bare arrays. All get the same queries, and have to find
//!   paths of the same length.
//! - The nearest of many holders, as the server finds it for gateways and as it searches for it, beside a breadth-first
//!   search over bare arrays from all of them until it meets who asks (ours too, no library's), and as the limit a tree that
//!   is kept over bare arrays.
//! - Building and tearing down a room by announcements, in a process of its own, beside petgraph's StableGraph.

mod bare;
mod kept;
mod room;
mod shape;
mod sides;

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

pub use self::room::{Taken, measure as measure_room};
use self::{
    kept::Kept,
    shape::{Shape, neighbors},
    sides::{Block, Gateways, How, Limit, Ours, Petgraph, Query, Side as _, ask},
};
use crate::{
    percentile, programs,
    random::Random,
    row::{Figures, Row, Target},
    stop,
};

/// Blocks of queries at each side, in turn.
const ROUNDS: usize = 5;
/// How long a room's own process may take.
const ROOM_LIMIT: Duration = Duration::from_secs(300);

/// Measures all of it. `note` is told what is being done.
pub fn run(quick: bool, note: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for shape in [Shape::Random, Shape::Hubs, Shape::Grid, Shape::Ring] {
        let sizes: &[usize] = match (quick, shape) {
            (true, Shape::Random) => &[1_000, 100_000],
            (true, _) => &[10_000],
            (false, _) => &[1_000, 100_000, 1_000_000],
        };
        for &peers in sizes {
            note(&format!("paths under churn: {} of {peers} peers", shape.name()));
            rows.extend(paths(shape, peers, quick)?);
        }
    }
    let peers = if quick { 20_000 } else { 100_000 };
    for holders in [1, 16, 1000] {
        note(&format!("the nearest of {holders} holders among {peers} peers"));
        rows.extend(nearest(peers, holders, quick)?);
    }
    let peers = if quick { 100_000 } else { 1_000_000 };
    note(&format!("building and leaving a room of {peers} peers"));
    rows.extend(building(peers, quick)?);
    Ok(rows)
}

/// Peers as people write them.
fn size(peers: usize) -> String {
    match peers {
        million if million.is_multiple_of(1_000_000) => format!("{}M peers", million / 1_000_000),
        thousands if thousands.is_multiple_of(1000) => format!("{}k peers", thousands / 1000),
        _ => format!("{peers} peers"),
    }
}

fn queries(random: &mut Random, peers: usize, links: &[(u32, u32)], count: usize) -> Vec<Query> {
    let mut last = (0, 0);
    (0..count)
        .map(|_| {
            let mut cut = last;
            // Another one than before: that one comes back only after this is gone.
            while cut == last {
                cut = links[random.below(links.len())];
            }
            last = cut;
            Query { cut, from: random.below(peers) as u32, to: random.below(peers) as u32 }
        })
        .collect()
}

fn same_length(ours: &Block, other: &Block, whose: &str) -> Result<()> {
    for (at, (a, b)) in ours.hops.iter().zip(&other.hops).enumerate() {
        ensure!(a == b, "query {at}: our path has {a:?} hops, {whose} {b:?}: one of the two is wrong");
    }
    Ok(())
}

fn paths(shape: Shape, peers: usize, quick: bool) -> Result<Vec<Row>> {
    let (peers, links) = shape.links(peers);
    let lists = neighbors(peers, &links);
    let (mut ours, mut limit) = (Ours::new(&lists)?, Limit::new(&lists));
    let mut petgraph = Petgraph::new(&lists);
    drop(lists);
    let seconds = if quick { 0.15 } else { 1.0 };
    let mut random = Random::new(11);
    // The scratch memory grows once.
    ask(&mut ours, &queries(&mut random, peers, &links, 20), 20, 0.0)?;
    ask(&mut limit, &queries(&mut random, peers, &links, 20), 20, 0.0)?;
    let (mut p50, mut p99, mut limit_p50, mut petgraph_p50) = (vec![], vec![], vec![], vec![]);
    let mut asked = usize::MAX;
    for round in 0..ROUNDS {
        stop::check()?;
        let queries = queries(&mut random, peers, &links, 5000);
        let mut blocks = [Block::default(), Block::default()];
        // Who comes second finds other things in the processor's cache: each is first in turn.
        for side in [round % 2, 1 - round % 2] {
            blocks[side] = if side == 0 {
                ask(&mut ours, &queries, 200, seconds)?
            } else {
                ask(&mut limit, &queries, 200, seconds)?
            };
        }
        let [mine, least] = blocks;
        same_length(&mine, &least, "the limit's")?;
        let mut best = f64::MAX;
        for how in [How::Astar, How::Bfs] {
            let theirs = ask(petgraph.by(how), &queries, 3, seconds / 2.0)?;
            same_length(&mine, &theirs, "petgraph's")?;
            best = best.min(percentile(&theirs.microseconds, 50.0).context("petgraph was not asked")?);
        }
        asked = asked.min(mine.microseconds.len());
        // The same queries at both: the slower side's block may be shorter.
        let both = mine.microseconds.len().min(least.microseconds.len());
        let middle =
            |block: &Block| percentile(&block.microseconds[..both], 50.0).context("nothing was asked");
        p50.push(middle(&mine)?);
        limit_p50.push(middle(&least)?);
        p99.push(percentile(&mine.microseconds, 99.0).context("nothing was asked")?);
        petgraph_p50.push(best);
    }
    let name = |metric: &str| format!("path.{}.{metric}", shape.name());
    let size = format!("{}, {asked} queries a round", size(peers));
    let bytes = (ours.room.graph().bytes() + ours.search.bytes()) as f64 / peers as f64;
    let with_names = (ours.room.bytes() + ours.search.bytes()) as f64 / peers as f64;
    // At 1,000 peers a search of the whole room is cheap; that it is 1000 times less is asked of 100k and more.
    let faster = if peers >= 90_000 { 1000.0 } else { 1.0 };
    Ok(vec![
        Figures::new(name("p50"), &size, "us", p50.clone()).limit(limit_p50).row(Target::OverLimit(1.3))?,
        Figures::new(name("p50_petgraph"), &size, "us", p50.clone())
            .theirs(petgraph_p50)
            .row(Target::UnderTheirs(faster))?,
        Figures::new(name("p99"), &size, "us", p99).own(p50).row(Target::OverOwn("p50", 5.0))?,
        Figures::new(
            name("bytes"),
            format!("{}, links and scratch; with the table of names {with_names:.0}", self::size(peers)),
            "B/peer",
            vec![bytes],
        )
        .row(Target::AtMost(96.0))?,
    ])
}

fn nearest(peers: usize, holders: usize, quick: bool) -> Result<Vec<Row>> {
    let (peers, links) = Shape::Random.links(peers);
    let lists = neighbors(peers, &links);
    let (mut ours, mut limit) = (Ours::new(&lists)?, Limit::new(&lists));
    let mut random = Random::new(13);
    let mut everyone: Vec<u32> = (0..peers as u32).collect();
    random.shuffle(&mut everyone);
    let mut held = everyone[..holders].to_vec();
    held.sort_unstable();
    let mut gateways = Gateways::new(&ours, &held);
    let mut kept = Kept::new(&limit.bare, &held);
    // A tree is built once requests have paid for it; they can be no more than the room's peers.
    let paid = (0..peers).take_while(|_| {
        gateways.ask(&mut ours, random.below(peers) as u32);
        !gateways.is_kept()
    });
    let paid = paid.count() + 1;
    let count = if quick { 300 } else { 2000 };
    let (mut read, mut searched, mut theirs, mut least) = (vec![], vec![], vec![], vec![]);
    let (mut reads, mut hops) = (vec![], vec![]);
    let (mut repair, mut least_repair, mut most) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        stop::check()?;
        let (mut read_us, mut searched_us, mut theirs_us, mut kept_us) = (vec![], vec![], vec![], vec![]);
        let (mut looked_at, mut on_paths) = (0, 0);
        let from: Vec<u32> = (0..count).map(|_| random.below(peers) as u32).collect();
        let mut lengths = Vec::with_capacity(count);
        for &from in &from {
            let begin = std::time::Instant::now();
            let (len, visited) = gateways.ask(&mut ours, from);
            read_us.push(begin.elapsed().as_secs_f64() * 1e6);
            lengths.push(len);
            looked_at += visited;
            on_paths += len.unwrap_or_default();
        }
        for (&from, &len) in from.iter().zip(&lengths) {
            let (at, begin) = (ours.ids[from as usize], std::time::Instant::now());
            let found = gateways.search(&mut ours, at);
            searched_us.push(begin.elapsed().as_secs_f64() * 1e6);
            ensure!(found == len, "from {from}: read off are {len:?} peers, searched for {found:?}");
        }
        for (&from, &len) in from.iter().zip(&lengths).take(count / 10) {
            let begin = std::time::Instant::now();
            let path = limit.scratch.nearest(&limit.bare, from, &held);
            let found = std::hint::black_box(path).map(<[_]>::len);
            theirs_us.push(begin.elapsed().as_secs_f64() * 1e6);
            ensure!(
                found == len,
                "from {from}: our nearest is {len:?} peers away, another search's {found:?}"
            );
        }
        let mut path = Vec::new();
        for (&from, &len) in from.iter().zip(&lengths) {
            let begin = std::time::Instant::now();
            let found = kept.path(from, &mut path);
            kept_us.push(begin.elapsed().as_secs_f64() * 1e6);
            ensure!(
                found.then_some(path.len()) == len,
                "from {from}: the kept tree's path has another length"
            );
        }
        for (all, round) in [
            (&mut read, &read_us),
            (&mut searched, &searched_us),
            (&mut theirs, &theirs_us),
            (&mut least, &kept_us),
        ] {
            all.push(percentile(round, 50.0).context("nothing was asked")?);
        }
        reads.push(looked_at as f64 / on_paths as f64);
        hops.push(1.0);
        // A link is lost and comes back: what a change costs, the tree's repair included.
        let (mut ours_us, mut least_us, mut largest) = (vec![], vec![], 0);
        for query in queries(&mut random, peers, &links, count) {
            let (a, b) = query.cut;
            for up in [false, true] {
                let begin = std::time::Instant::now();
                if up {
                    ours.join((a, b))?;
                } else {
                    ours.cut((a, b))?;
                }
                gateways.follow(&ours);
                ours_us.push(begin.elapsed().as_secs_f64() * 1e6);
                largest = largest.max(gateways.repaired());
                let begin = std::time::Instant::now();
                if up {
                    limit.join((a, b))?;
                    kept.joined(&limit.bare, a, b);
                } else {
                    limit.cut((a, b))?;
                    kept.was_cut(&limit.bare, a, b);
                }
                least_us.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        repair.push(percentile(&ours_us, 99.0).context("nothing was changed")?);
        least_repair.push(percentile(&least_us, 99.0).context("nothing was changed")?);
        most.push(largest as f64);
    }
    let name = |metric: &str| format!("nearest.{metric}");
    let size = format!("{}, {holders} holders", size(peers));
    Ok(vec![
        Figures::new(
            name("p50"),
            format!("{size}; kept after {paid} requests; theirs: a search from all over bare arrays"),
            "us",
            read,
        )
        .theirs(theirs.clone())
        .limit(least)
        .row(Target::UnderTheirs(1.0))?,
        Figures::new(
            name("search_p50"),
            format!("{size}; nothing kept; theirs: a search from all over bare arrays"),
            "us",
            searched,
        )
        .theirs(theirs)
        .row(Target::UnderTheirs(1.0))?,
        // What is O(path) reads at most a few peers for each on the path.
        Figures::new(name("reads"), &size, "peers/hop", reads).limit(hops).row(Target::OverLimit(2.0))?,
        // The change of a link, and the tree's repair.
        Figures::new(name("repair_p99"), format!("{size}; limit: a bare tree's"), "us", repair)
            .limit(least_repair)
            .row(Target::AtMost(10.0))?,
        Figures::new(name("repair_most"), &size, "peers", most).row(Target::AtMost(4096.0))?,
    ])
}

fn building(peers: usize, quick: bool) -> Result<Vec<Row>> {
    let rounds = if quick { 2 } else { 3 };
    let mut all: [Vec<Taken>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (side, taken) in ["ours", "petgraph"].into_iter().zip(&mut all) {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bench", "room", side, &peers.to_string()]);
            let text = programs::output(&mut command, ROOM_LIMIT)?;
            taken.push(serde_json::from_value(programs::last_json(&text)?)?);
        }
    }
    let [ours, theirs] = all;
    if ours[0].links != theirs[0].links {
        bail!("our room has {} links, petgraph's graph {}", ours[0].links, theirs[0].links);
    }
    let row = |metric: &str, unit, target, get: &dyn Fn(&Taken) -> f64| {
        Figures::new(format!("room.{metric}"), size(peers), unit, ours.iter().map(get).collect())
            .theirs(theirs.iter().map(get).collect())
            .row(target)
    };
    Ok(vec![
        row("build", "s", Target::OverTheirs(1.0), &|taken| taken.build_seconds)?,
        row("leave", "s", Target::OverTheirs(1.0), &|taken| taken.leave_seconds)?,
        row("bytes", "B/peer", Target::OverTheirs(0.5), &|taken| taken.bytes / peers as f64)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits are measured against: they must do the same work.
    #[test]
    fn all_sides_find_paths_of_one_length_while_links_come_and_go() {
        for shape in [Shape::Random, Shape::Hubs, Shape::Grid, Shape::Ring] {
            let (peers, links) = shape.links(400);
            let lists = neighbors(peers, &links);
            let (mut ours, mut limit) = (Ours::new(&lists).unwrap(), Limit::new(&lists));
            let mut petgraph = Petgraph::new(&lists);
            let queries = queries(&mut Random::new(1), peers, &links, 200);
            let mine = ask(&mut ours, &queries, 200, 0.0).unwrap();
            assert!(mine.hops.iter().flatten().count() > 190);
            same_length(&mine, &ask(&mut limit, &queries, 200, 0.0).unwrap(), "the limit's").unwrap();
            for how in [How::Astar, How::Bfs] {
                let theirs = ask(petgraph.by(how), &queries, 200, 0.0).unwrap();
                same_length(&mine, &theirs, "petgraph's").unwrap();
            }
        }
    }

    #[test]
    fn a_kept_tree_is_what_a_new_one_would_be_after_every_change() {
        for shape in [Shape::Random, Shape::Hubs, Shape::Grid, Shape::Ring] {
            let (peers, links) = shape.links(100);
            let mut limit = Limit::new(&neighbors(peers, &links));
            let holders = [3, 50, 77];
            let mut kept = Kept::new(&limit.bare, &holders);
            let mut lost = std::collections::VecDeque::new();
            // Many at a time, so that whole regions are cut off.
            for query in queries(&mut Random::new(1), peers, &links, 600) {
                let (a, b) = query.cut;
                if !lost.contains(&(a, b)) {
                    limit.cut((a, b)).unwrap();
                    kept.was_cut(&limit.bare, a, b);
                    lost.push_back((a, b));
                }
                assert_eq!(kept.distances(), Kept::new(&limit.bare, &holders).distances());
                if lost.len() > links.len() / 2 {
                    let (a, b) = lost.pop_front().unwrap();
                    limit.join((a, b)).unwrap();
                    kept.joined(&limit.bare, a, b);
                    assert_eq!(kept.distances(), Kept::new(&limit.bare, &holders).distances());
                }
            }
        }
    }
}

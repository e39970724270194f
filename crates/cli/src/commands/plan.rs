//! `hopcast plan`: what the file means.

use std::fmt::Write as _;

use hopcast_topology::Plan;

use crate::{
    context::Context,
    output::{bytes, count, table},
    ways,
};

pub(crate) fn run(context: &Context) -> anyhow::Result<()> {
    let plan = context.plan()?;
    if context.out.is_json() {
        // The plan itself, in its versioned form: what it says is documented at `hopcast_topology::plan`.
        return context.out.result(&plan);
    }
    context.out.text(text(&plan));
    Ok(())
}

/// `mesh hopcast: 160 peers, 320 links, 3 rooms, 2 edge databases, 1 song`
pub(crate) fn headline(plan: &Plan) -> String {
    format!(
        "mesh {}: {}, {}, {}, {}, {}",
        plan.mesh,
        count(plan.peers.len(), "peer"),
        count(plan.links.len(), "link"),
        count(plan.rooms.len(), "room"),
        count(plan.edges.len(), "edge database"),
        count(plan.songs.len(), "song"),
    )
}

fn text(plan: &Plan) -> String {
    let mut text = headline(plan) + "\n";
    let section = |text: &mut String, title: &str, rows: String| {
        if !rows.is_empty() {
            let _ = write!(text, "\n{title}\n");
            for row in rows.lines() {
                let _ = writeln!(text, "  {row}");
            }
        }
    };

    let rooms: Vec<_> = plan
        .rooms
        .iter()
        .map(|room| {
            [
                room.name.to_string(),
                count(room.peers.len(), "peer"),
                count(plan.room_links(&room.name).count(), "link"),
                ways::ranges(plan, &room.peers),
            ]
        })
        .collect();
    section(&mut text, "rooms", table(&rooms));

    let mut databases = vec![[
        plan.origin.name.to_string(),
        plan.origin.network.to_string(),
        plan.origin.local.to_string(),
        "the origin".to_owned(),
    ]];
    databases.extend(plan.edges.iter().map(|edge| {
        [
            edge.name.to_string(),
            edge.network.to_string(),
            edge.local.to_string(),
            format!("serves {}", ways::ranges(plan, &edge.peers)),
        ]
    }));
    section(&mut text, "databases", table(&databases));

    let songs: Vec<_> = plan
        .songs
        .iter()
        .map(|song| {
            let rooms: Vec<_> = song.rooms.iter().map(ToString::to_string).collect();
            [song.name.to_string(), song.path.display().to_string(), rooms.join(", ")]
        })
        .collect();
    section(&mut text, "songs", table(&songs));

    let shaped: Vec<_> = plan
        .links
        .iter()
        .filter(|link| !link.emulation.is_none())
        .map(|link| [format!("{} - {}", link.a, link.b), emulation(link.emulation)])
        .collect();
    section(&mut text, "emulated links", table(&shaped));

    let limits = &plan.limits;
    let mut rows = vec![
        ["cache".to_owned(), bytes(limits.cache)],
        ["longest segment".to_owned(), bytes(limits.max_segment)],
        ["patience".to_owned(), format!("{} s", limits.patience_ms as f64 / 1e3)],
    ];
    rows.push([
        "in a container".to_owned(),
        format!("{}, {} CPU, {}", bytes(limits.memory), limits.cpus, count(limits.pids as usize, "process")),
    ]);
    section(&mut text, "each peer", table(&rows));

    let mut local = Vec::new();
    if let (Some(first), Some(last)) = (plan.peers.first(), plan.peers.last()) {
        local.push(["peers".to_owned(), format!("{} to {}", first.local, last.local)]);
    }
    local.push(["signalling".to_owned(), plan.signalling.local.to_string()]);
    local.push(["door".to_owned(), plan.local.door.to_string()]);
    section(&mut text, "on this machine", table(&local));

    if let Some(far) =
        ways::farthest(plan, &plan.rooms.iter().map(|room| room.name.clone()).collect::<Vec<_>>())
    {
        let path: Vec<_> = far.path.iter().map(ToString::to_string).collect();
        let row = format!("{} hops, in {}: {}", far.hops(), far.room, path.join(" - "));
        section(&mut text, "farthest from an edge", row);
    }
    text
}

fn emulation(emulation: hopcast_protocol::Emulation) -> String {
    let mut parts = Vec::new();
    if emulation.latency_us > 0 {
        parts.push(format!("latency {} ms", emulation.latency_us as f64 / 1e3));
    }
    if emulation.jitter_us > 0 {
        parts.push(format!("jitter {} ms", emulation.jitter_us as f64 / 1e3));
    }
    if let Some(rate) = emulation.rate {
        parts.push(format!("{}/s", bytes(rate)));
    }
    if emulation.loss > 0.0 {
        parts.push(format!("loss {}", emulation.loss));
    }
    parts.join(", ")
}

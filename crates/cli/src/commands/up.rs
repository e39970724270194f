//! `hopcast up`: from the file to a mesh that plays, and what to paste into a player.

use std::time::{Duration, Instant};

use clap::Args;
use hopcast_deploy::{Applied, ApplyOptions, Backend, Changes, DestroyOptions, Quiet, Session};
use hopcast_protocol::{MeshName, PeerName, RoomName, SongName};
use hopcast_topology::{Plan, plan::Song};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    context::{self, Context, Kind, On, absolute},
    exit,
    output::{Output, count},
    progress::{Progress, Timed, Told},
    ways,
};

/// How long an interrupted start is given to end what it has begun.
const WIND_UP: Duration = Duration::from_secs(40);

/// Arguments of `up`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Return when the mesh is ready and leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    on: On,
    /// Only print what would change (Docker)
    #[arg(long)]
    dry_run: bool,
    /// Replace these nodes and touch no others, such as peer-7,edge-db-a (Docker)
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    only: Vec<String>,
}

/// Where to listen.
#[derive(Debug, Serialize)]
struct Listen {
    peer: PeerName,
    /// The room of the shortest way to an edge.
    room: RoomName,
    hops: usize,
    path: Vec<PeerName>,
    song: Option<SongName>,
    url: String,
    door_url: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    mesh: &'a MeshName,
    backend: &'static str,
    /// Until every peer was connected, both edges replicated and every song was stored.
    seconds: f64,
    /// Its parts, in seconds from the beginning; several go on at the same time.
    steps: Vec<Told>,
    detached: bool,
    changes: &'a Changes,
    /// Requests to the engine (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_requests: Option<u64>,
    peers: usize,
    rooms: usize,
    links: usize,
    edges: usize,
    songs: Vec<&'a SongName>,
    signalling: String,
    door: String,
    farthest: Option<Listen>,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<u8> {
    let plan = absolute(context.plan()?)?;
    let backend = context::backend(plan.mesh.clone(), arguments.on.backend.unwrap_or(Kind::Local))?;
    let backend = &*backend;
    let options = ApplyOptions { dry_run: arguments.dry_run, only: arguments.only.clone() };
    let mut stop = Stop::new()?;
    // A keeper that does not answer is one that an interrupted start must not end.
    let ran = backend.name() == "local" && !matches!(backend.plan().await, Ok(None));
    let begin = Instant::now();
    let progress = Progress::new();
    let timed = Timed::new(&progress);
    let applied = tokio::select! {
        applied = backend.apply(&plan, &options, &timed) => applied,
        code = stop.asked() => {
            // What the engine has begun, it ends.
            backend.settle().await?;
            drop(timed);
            drop(progress);
            if ran || backend.name() == "docker" {
                context.out.note("interrupted; the mesh runs on, perhaps half-changed: `hopcast up` completes it");
            } else {
                wind_up(&context.out, backend, &mut stop).await;
            }
            return Err(exit::Failure::new(code, "interrupted").into());
        }
    };
    let steps = timed.steps();
    drop(progress);
    let Applied { changes, session, requests } = applied?;
    let seconds = begin.elapsed().as_secs_f64();
    if options.dry_run {
        return dry(&context.out, &plan, &changes);
    }
    // Without a session another `up` has started it, and perhaps still waits in its foreground.
    let is_docker = backend.name() == "docker";
    let (session, detached) = match session {
        Some(session) if arguments.detach => {
            session.detach().await?;
            // The keeper has it in writing; asked now, it may not have read it yet.
            (None, true)
        }
        None => (None, is_docker || backend.status().await?.detached),
        foreground => (foreground, false),
    };
    if session.is_none() && !detached {
        context.out.note("note: the mesh ends with the `hopcast up` that started it");
    }

    let answer = Answer {
        mesh: &plan.mesh,
        backend: backend.name(),
        seconds,
        steps,
        detached,
        changes: &changes,
        engine_requests: requests,
        peers: plan.peers.len(),
        rooms: plan.rooms.len(),
        links: plan.links.len(),
        edges: plan.edges.len(),
        songs: plan.songs.iter().map(|song| &song.name).collect(),
        signalling: format!("http://{}", plan.signalling.local),
        door: format!("http://{}", plan.local.door),
        farthest: listen(&plan, backend),
    };
    print(&context.out, &answer, session.is_some());
    context.out.result(&answer)?;
    match session {
        Some(session) => wait(&context.out, session, &mut stop).await,
        None => Ok(exit::OK),
    }
}

/// The signals that end a foreground `up`.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them; the code to end with.
    async fn asked(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
            _ = self.hangup.recv() => exit::TERMINATED,
        }
    }
}

/// Ends a start that was interrupted. The keeper ends by itself, as the tie to it was dropped; `destroy` waits for that, and
/// also finds what was only just being started.
async fn wind_up(out: &Output, backend: &dyn Backend, stop: &mut Stop) {
    out.note("stopping; once more to leave at once");
    tokio::select! {
        ended = tokio::time::timeout(WIND_UP, backend.destroy(DestroyOptions::default(), &Quiet)) => {
            let why = match ended {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not within {} s", WIND_UP.as_secs()),
            };
            out.note(format_args!("could not stop everything ({why}): `hopcast down` stops the rest"));
        }
        _ = stop.asked() => {}
    }
}

/// Waits for the end of the mesh, whoever ends it.
async fn wait(out: &Output, mut session: Session, stop: &mut Stop) -> anyhow::Result<u8> {
    let code = tokio::select! {
        ended = session.ended() => {
            ended?;
            out.line("the mesh was taken down");
            return Ok(exit::OK);
        }
        code = stop.asked() => code,
    };
    out.note("stopping; once more to leave at once");
    tokio::select! {
        ended = session.stop() => ended?,
        // The keeper goes on without us: that we are gone is what it waits for.
        _ = stop.asked() => {}
    }
    Ok(code)
}

/// The peer farthest from any edge, with the first song that it may hear.
fn listen(plan: &Plan, backend: &dyn Backend) -> Option<Listen> {
    let song: Option<&Song> = plan.songs.first();
    let rooms = match song {
        Some(song) => song.rooms.clone(),
        None => plan.rooms.iter().map(|room| room.name.clone()).collect(),
    };
    let far = ways::farthest(plan, &rooms)?;
    let path = song.map_or_else(String::new, |song| format!("hls/{}/master.m3u8", song.name));
    Some(Listen {
        peer: far.peer.name.clone(),
        room: far.room.clone(),
        hops: far.hops(),
        url: format!("http://{}/{path}", backend.player(plan, far.peer)),
        door_url: format!("http://{}/p/{}/{path}", plan.local.door, far.peer.name),
        song: song.map(|song| song.name.clone()),
        path: far.path,
    })
}

/// Prints what an `up` would change.
fn dry(out: &Output, plan: &Plan, changes: &Changes) -> anyhow::Result<u8> {
    let lists = [
        ("start", &changes.started),
        ("replace", &changes.restarted),
        ("have reread", &changes.reloaded),
        ("remove", &changes.stopped),
        ("networks and volumes", &changes.networks),
    ];
    if changes.is_empty() {
        out.line(format_args!("mesh {}: nothing differs", plan.mesh));
    }
    for (verb, names) in lists {
        for name in names {
            let why = changes.why.get(name).map(|why| format!(" ({why})")).unwrap_or_default();
            out.line(format_args!("{verb} {name}{why}"));
        }
    }
    out.result(&serde_json::json!({ "mesh": plan.mesh, "dry_run": true, "changes": changes }))?;
    Ok(exit::OK)
}

fn changed(changes: &Changes) -> String {
    if changes.is_empty() {
        return "nothing differed".to_owned();
    }
    let lists = [
        ("started", &changes.started),
        ("restarted", &changes.restarted),
        ("reloaded", &changes.reloaded),
        ("stopped", &changes.stopped),
        ("stored", &changes.songs),
        ("changed", &changes.networks),
    ];
    let mut parts: Vec<_> = lists
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| match &names[..] {
            few if few.len() <= 3 => format!("{verb} {}", few.join(", ")),
            many => format!("{verb} {} nodes", many.len()),
        })
        .collect();
    if changes.new_secret {
        parts.push("made a new secret".to_owned());
    }
    parts.join("; ")
}

fn print(out: &Output, answer: &Answer<'_>, waits: bool) {
    out.line(format_args!(
        "mesh {} is ready after {:.2} s: {}, {}, {} replicating, {} ({})",
        answer.mesh,
        answer.seconds,
        count(answer.peers, "peer"),
        count(answer.rooms, "room"),
        count(answer.edges, "edge database"),
        count(answer.songs.len(), "song"),
        changed(answer.changes),
    ));
    if let Some(far) = &answer.farthest {
        let path: Vec<_> = far.path.iter().map(ToString::to_string).collect();
        out.line(format_args!(
            "\n{} is the farthest from any edge: {} in {}, {}",
            far.peer,
            count(far.hops, "hop"),
            far.room,
            path.join(" - ")
        ));
        if far.song.is_some() {
            for player in ["vlc", "mpv", "ffplay"] {
                out.line(format_args!("  {player} {}", far.url));
            }
        }
        let page = far.url.split("hls/").next().unwrap_or(&far.url);
        out.line(format_args!("  in a browser: {page}"));
        out.line(format_args!("  through the door: {}", far.door_url));
    }
    out.line(format_args!("signalling: {}    door: {}", answer.signalling, answer.door));
    if waits {
        out.line("\nCtrl-C takes the mesh down");
    } else {
        out.line("\n`hopcast verify` tests it, `hopcast down` takes it down");
    }
}

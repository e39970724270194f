//! `hopcast ingest`, `songs` and `rm`: what the origin of a running mesh stores. Replication carries it to the edges.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use hopcast_deploy::Backend;
use hopcast_protocol::{RoomName, SongName};
use hopcast_store::{Admin, Ingested, Prepared, SongSummary};
use hopcast_topology::Plan;
use serde::Serialize;

use crate::{
    context::{Context, Running, Which},
    exit::{self, Failure},
    interrupt::until_signal,
    output::{bytes, count, table},
    progress::Progress,
};

/// Arguments of `ingest`.
#[derive(Debug, Args)]
pub(crate) struct IngestArguments {
    /// An HLS folder or its playlist (no ffmpeg needed), or an audio file of any kind that ffmpeg reads
    path: PathBuf,
    /// The song's name [default: the path's last part without its extension]
    #[arg(long = "as", value_name = "SONG")]
    song: Option<SongName>,
    /// A room that may hear it; may be given several times [default: all rooms]
    #[arg(long = "room", value_name = "ROOM")]
    rooms: Vec<RoomName>,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `songs`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The songs
    #[arg(required = true, value_name = "SONG")]
    songs: Vec<SongName>,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Stored<'a> {
    song: &'a SongName,
    /// `stored`, `manifest` (only the rooms or the key were new) or `unchanged`.
    result: &'static str,
    revision: u64,
    rooms: &'a [RoomName],
    renditions: usize,
    segments: usize,
    bytes: u64,
    warnings: &'a [String],
}

pub(crate) async fn ingest(context: &Context, arguments: &IngestArguments) -> anyhow::Result<()> {
    hopcast_store::probe(&arguments.path).map_err(|error| {
        let path = arguments.path.display();
        let message = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file or folder {path}"),
            io::ErrorKind::Other => format!("cannot read {path}: {error}: give a file or a folder"),
            _ => format!("cannot read {path}: {error}"),
        };
        Failure::new(exit::NO_INPUT, message)
    })?;
    context.named(&arguments.which)?;
    let Running { plan, access, backend } = context.must_run(&arguments.which).await?;
    let song = match &arguments.song {
        Some(song) => song.clone(),
        None => name_of(&arguments.path)?,
    };
    let rooms = rooms(&plan, &arguments.rooms)?;

    let progress = Progress::new();
    let tell = |step: hopcast_store::Progress| match step {
        // How long the song is is known at the end.
        hopcast_store::Progress::Encoding { seconds } => progress.step("seconds encoded", seconds as u64, 0),
        hopcast_store::Progress::Storing { segments, of, .. } => {
            progress.step("segments stored", segments as u64, of as u64);
        }
    };
    let prepared = Prepared::from_path(&arguments.path, song, plan.limits.max_segment, tell).await?;
    for warning in prepared.warnings() {
        progress.note(&format!("warning: {warning}"));
    }
    let key = access.secret.manifest_key();
    let ingested = at_origin(&*backend, async |origin| {
        Ok(hopcast_store::ingest(origin, &prepared, &rooms, &key, tell).await?)
    })
    .await?;
    drop(progress);

    let (result, revision) = match ingested {
        Ingested::Unchanged { revision } => ("unchanged", revision),
        Ingested::ManifestOnly { revision } => ("manifest", revision),
        Ingested::Stored { revision, .. } => ("stored", revision),
    };
    let did = match result {
        "unchanged" => "is stored already",
        "manifest" => "was stored already; its manifest is new",
        _ => "is stored",
    };
    let names: Vec<_> = rooms.iter().map(ToString::to_string).collect();
    context.out.line(format_args!(
        "song {} {did}: {}, {}, {}, for {}",
        prepared.name(),
        count(prepared.renditions().len(), "rendition"),
        count(prepared.segments(), "segment"),
        bytes(prepared.bytes()),
        names.join(", ")
    ));
    context.out.result(&Stored {
        song: prepared.name(),
        result,
        revision,
        rooms: &rooms,
        renditions: prepared.renditions().len(),
        segments: prepared.segments(),
        bytes: prepared.bytes(),
        warnings: prepared.warnings(),
    })
}

/// Does the work at the origin, as its owner. A signal ends the way there in order.
async fn at_origin<T>(
    backend: &dyn Backend,
    work: impl AsyncFnOnce(&mut Admin) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    until_signal(backend, async {
        let access = backend.open().await?;
        let done = async {
            let mut origin = Admin::connect(&access.origin).await.map_err(|error| match error {
                error @ hopcast_store::Error::Unreachable { .. } => {
                    let message = format!("{error}; `hopcast up` starts what does not run");
                    Failure::new(exit::UNAVAILABLE, message).into()
                }
                error => anyhow::Error::from(error),
            })?;
            work(&mut origin).await
        };
        let done = done.await;
        access.close().await;
        done
    })
    .await
}

fn name_of(path: &std::path::Path) -> anyhow::Result<SongName> {
    // `.` and `..` have a name only once they are resolved.
    let whole = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let last = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let last = last.unwrap_or_default().to_string_lossy();
    SongName::new(&*last).map_err(|error| {
        Failure::new(exit::FAILED, format!("{error}; name the song yourself with --as SONG")).into()
    })
}

/// The rooms that were named, in the plan's order; all of them where none was.
fn rooms(plan: &Plan, named: &[RoomName]) -> anyhow::Result<Vec<RoomName>> {
    if let Some(unknown) = named.iter().find(|room| plan.room(room.as_str()).is_none()) {
        let names: Vec<_> = plan.rooms.iter().map(|room| room.name.to_string()).collect();
        let message =
            format!("`{unknown}` is not a room of mesh {}; its rooms are {}", plan.mesh, names.join(", "));
        return Err(Failure::new(exit::USAGE, message).into());
    }
    let wanted = |room: &RoomName| named.is_empty() || named.contains(room);
    Ok(plan.rooms.iter().map(|room| room.name.clone()).filter(wanted).collect())
}

pub(crate) async fn list(context: &Context, arguments: &ListArguments) -> anyhow::Result<()> {
    let Running { backend, .. } = context.must_run(&arguments.which).await?;
    let songs = at_origin(&*backend, async |origin| Ok(origin.songs().await?)).await?;
    if songs.is_empty() {
        context.out.line("no songs; `hopcast ingest FILE` stores one");
    }
    let rows: Vec<_> = songs.iter().map(row).collect();
    context.out.human(table(&rows));
    context.out.result(&serde_json::json!({ "songs": songs }))
}

fn row(song: &SongSummary) -> [String; 5] {
    let rooms: Vec<_> = song.rooms.iter().map(ToString::to_string).collect();
    let renditions: Vec<_> = song.renditions.iter().map(|rendition| rendition.name.to_string()).collect();
    [
        song.name.to_string(),
        format!("{}:{:04.1}", song.seconds as u64 / 60, song.seconds % 60.0),
        bytes(song.bytes),
        renditions.join(", "),
        rooms.join(", "),
    ]
}

pub(crate) async fn remove(context: &Context, arguments: &RemoveArguments) -> anyhow::Result<()> {
    context.named(&arguments.which)?;
    let Running { backend, plan, .. } = context.must_run(&arguments.which).await?;
    let (mut removed, mut missing) = (Vec::new(), Vec::new());
    let remove = async |origin: &mut Admin| {
        let mut found = Vec::new();
        for song in &arguments.songs {
            found.push(origin.remove(song).await?);
        }
        Ok(found)
    };
    let found = at_origin(&*backend, remove).await?;
    for (song, found) in arguments.songs.iter().zip(found) {
        if found {
            context.out.line(format_args!("song {song} is removed"));
            if plan.songs.iter().any(|listed| listed.name == *song) {
                context.out.note(format_args!(
                    "note: the topology file lists {song}; the next `hopcast up` stores it again"
                ));
            }
            removed.push(song);
        } else {
            missing.push(song);
        }
    }
    if missing.is_empty() {
        return context.out.result(&serde_json::json!({ "removed": removed }));
    }
    let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let message = format!("there is no song {}; `hopcast songs` lists them", names.join(", "));
    Err(Failure::new(exit::FAILED, message).with("removed", removed).with("missing", missing).into())
}

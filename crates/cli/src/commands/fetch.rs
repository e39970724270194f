//! `hopcast fetch`: a song, a rendition or one segment through a peer, as a player would get it, with each hop's time.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use hopcast_protocol::{PeerName, RenditionName, Sha256, SongName};
use serde::Serialize;
use sha2::Digest as _;

use crate::{
    context::{Context, Running, Which},
    exit::{self, Failure},
    interrupt::until_signal,
    output::{Output, bytes, count, table},
    player::{Part, Player},
    progress::Progress,
};

/// Arguments of `fetch`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// demo: its best rendition, whole; demo/128k: that rendition; demo/128k/3: that segment
    #[arg(value_name = "SONG[/RENDITION[/SEQ]]")]
    what: Reference,
    /// The peer to ask
    #[arg(long, value_name = "PEER")]
    via: PeerName,
    /// Where to write the bytes; `-` for stdout (without --json)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// `SONG[/RENDITION[/SEQ]]`.
#[derive(Debug, Clone, PartialEq)]
struct Reference {
    song: SongName,
    rendition: Option<RenditionName>,
    sequence: Option<u64>,
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let song = SongName::new(parts.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        let rendition =
            parts.next().map(RenditionName::new).transpose().map_err(|error| error.to_string())?;
        let sequence = parts
            .next()
            .map(|part| part.parse().map_err(|_| format!("`{part}` is no sequence number")))
            .transpose()?;
        match parts.next() {
            None => Ok(Self { song, rendition, sequence }),
            Some(_) => Err("expected SONG, SONG/RENDITION or SONG/RENDITION/SEQ".to_owned()),
        }
    }
}

#[derive(Serialize)]
struct Answered<'a> {
    #[serde(skip)]
    what: &'a Reference,
    song: &'a SongName,
    rendition: &'a RenditionName,
    via: &'a PeerName,
    file: &'a Path,
    bytes: u64,
    sha256: Sha256,
    seconds: f64,
    parts: &'a [Part],
}

impl Answered<'_> {
    /// What follows the rendition in the summary: the segment, or that nobody named the rendition.
    fn which(&self) -> String {
        match (self.what.sequence, &self.what.rendition) {
            (Some(sequence), _) => format!("/{sequence}"),
            (None, None) => " (its best rendition)".to_owned(),
            (None, Some(_)) => String::new(),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let to_stdout = arguments.output == Path::new("-");
    if to_stdout && context.out.is_json() {
        return Err(Failure::new(exit::USAGE, "`-o -` and --json both want stdout; name a file").into());
    }
    let Running { plan, backend, .. } = context.must_run(&arguments.which).await?;
    let peer = plan
        .peer(arguments.via.as_str())
        .ok_or_else(|| Failure::new(exit::USAGE, super::path::unknown_peer(&plan, &arguments.via)))?;
    let player = Player::new(backend.player(&plan, peer), &arguments.what.song, &plan.limits);
    let begin = Instant::now();
    let target = Target::open(&arguments.output, &context.out, to_stdout)?;
    let unfinished = matches!(target, Target::File(_));
    let work = fetch(&player, arguments, target);
    // What is unfinished goes. What writes to a pipe may stand still there, and is ended by the signal itself.
    let Fetched { rendition, bytes, sha256, parts } =
        if unfinished { until_signal(&*backend, work).await? } else { work.await? };

    let answer = Answered {
        what: &arguments.what,
        song: &arguments.what.song,
        rendition: &rendition,
        via: &arguments.via,
        file: &arguments.output,
        bytes,
        sha256,
        seconds: begin.elapsed().as_secs_f64(),
        parts: &parts,
    };
    print(&context.out, &answer, to_stdout);
    context.out.result(&answer)
}

/// What came.
struct Fetched {
    rendition: RenditionName,
    bytes: u64,
    sha256: Sha256,
    parts: Vec<Part>,
}

async fn fetch(
    player: &Player<'_>,
    arguments: &Arguments,
    mut target: Target<'_>,
) -> anyhow::Result<Fetched> {
    let rendition = match &arguments.what.rendition {
        Some(rendition) => rendition.clone(),
        None => player.best_rendition().await?,
    };
    let names = player.parts(&rendition, arguments.what.sequence).await?;
    let mut digest = sha2::Sha256::new();
    let mut bytes = 0;
    let mut parts = Vec::with_capacity(names.len());
    let progress = Progress::new();
    let label = format!("{}/{rendition}", arguments.what.song);
    for (at, name) in names.iter().enumerate() {
        if target.is_closed() {
            break;
        }
        let (part, body) = player.part(&rendition, name).await?;
        target.write(&arguments.output, &body)?;
        digest.update(&body);
        bytes += body.len() as u64;
        parts.push(part);
        if names.len() > 1 {
            progress.step(&label, at as u64 + 1, names.len() as u64);
        }
    }
    drop(progress);
    target.finish(&arguments.output)?;
    Ok(Fetched { rendition, bytes, sha256: Sha256(digest.finalize().into()), parts })
}

/// Where the bytes go: stdout, a device or pipe, or a file that appears whole or not at all.
enum Target<'a> {
    Stdout(&'a Output),
    /// Something that must not be replaced by a file: `/dev/null`.
    Special(std::fs::File),
    File(tempfile::NamedTempFile),
}

impl<'a> Target<'a> {
    fn open(path: &Path, out: &'a Output, to_stdout: bool) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if to_stdout {
            return Ok(Self::Stdout(out));
        }
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Err(exit::cannot_write(path, &std::io::ErrorKind::IsADirectory.into()));
            }
            Ok(meta) if !meta.is_file() => {
                let opened = std::fs::OpenOptions::new().write(true).open(path);
                return opened.map(Self::Special).map_err(|error| exit::cannot_write(path, &error));
            }
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o666)) // what the umask leaves of it
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map(Self::File)
            .map_err(|error| exit::cannot_write(path, &error))
    }

    /// Nobody reads any more: no error.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Stdout(out) if out.closed())
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let written = match self {
            Self::Stdout(out) => {
                out.bytes(bytes);
                return Ok(());
            }
            Self::Special(file) => file.write_all(bytes),
            Self::File(file) => file.as_file_mut().write_all(bytes),
        };
        written.map_err(|error| exit::cannot_write(path, &error))
    }

    fn finish(self, path: &Path) -> anyhow::Result<()> {
        match self {
            Self::Stdout(_) | Self::Special(_) => Ok(()),
            Self::File(file) => {
                file.persist(path).map(drop).map_err(|error| exit::cannot_write(path, &error.error))
            }
        }
    }
}

fn print(out: &Output, answer: &Answered<'_>, to_stdout: bool) {
    // With `-o -` stdout has the bytes.
    let line = |text: String| if to_stdout { out.note(text) } else { out.line(text) };
    for part in answer.parts {
        let way = part.route.as_ref().map_or(String::new(), |route| format!(", route {route}"));
        let size = bytes(part.bytes as u64);
        let hops = count(part.hops.len().saturating_sub(1), "hop");
        line(format!("{}  {size} in {:.1} ms, {hops}{way}", part.name, part.milliseconds));
        let last = part.hops.len().saturating_sub(1);
        let rows: Vec<_> = part
            .hops
            .iter()
            .enumerate()
            .map(|(at, hop)| {
                let time = hop.ms.map_or(String::new(), |ms| format!("{ms:.2} ms"));
                let role = if at == last { "had it" } else { "" };
                [format!("  {}", hop.peer), time, role.to_owned()]
            })
            .collect();
        for row in table(&rows).lines() {
            line(row.to_owned());
        }
    }
    let file = if to_stdout { "stdout".into() } else { answer.file.display().to_string() };
    line(format!(
        "{}/{}{} through {}: {} in {:.2} s to {file}",
        answer.song,
        answer.rendition,
        answer.which(),
        answer.via,
        bytes(answer.bytes),
        answer.seconds
    ));
    line(format!("sha256 {}", answer.sha256));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        use std::os::unix::fs::{FileTypeExt as _, symlink};
        // Through a link, so that a mistake would replace that and not the machine's /dev/full.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        symlink("/dev/full", &path).unwrap();
        let out = Output::new(false);
        let mut target = Target::open(&path, &out, false).unwrap();
        let error = target.write(&path, b"x").unwrap_err();
        assert_eq!(exit::code(&error), exit::CANNOT_WRITE);
        target.finish(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().file_type().is_char_device());
        assert_eq!(exit::code(&Target::open(folder.path(), &out, false).err().unwrap()), exit::CANNOT_WRITE);
    }

    #[test]
    fn a_reference_has_one_to_three_parts() {
        let reference: Reference = "demo/128k/3".parse().unwrap();
        assert_eq!((reference.song.as_str(), reference.sequence), ("demo", Some(3)));
        assert_eq!("demo".parse::<Reference>().unwrap().rendition, None);
        for bad in ["", "demo/", "demo/128k/x", "demo/128k/3/4", "../x"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}

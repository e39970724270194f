//! `hopcast fetch`: a song, a rendition or one segment through a peer, as a player would get it, with each hop's time.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use hopcast_protocol::{PeerName, RenditionName, Sha256, SongName};
use hopcast_topology::plan::Limits;
use serde::Serialize;
use sha2::Digest as _;

use crate::{
    context::{Context, Which},
    exit::{self, Failure},
    hops::{self, Hop},
    http::{self, Answer},
    output::{Output, bytes, count, table},
    progress::Progress,
};

/// Longest playlist that is read, in bytes.
const PLAYLIST: usize = 4 << 20;
/// Added to the mesh's own patience before a request is given up here.
const MARGIN: Duration = Duration::from_secs(10);

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

/// One part that was fetched.
#[derive(Debug, Serialize)]
struct Part {
    /// `init.mp4`, `3.ts`.
    name: String,
    bytes: usize,
    sha256: Sha256,
    /// Until the last byte was here.
    milliseconds: f64,
    /// The route that the bytes came over; absent where the peer had them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    /// `Cache-Status`.
    cache: String,
    /// Requester first, holder last.
    hops: Vec<Hop>,
}

#[derive(Serialize)]
struct Answered<'a> {
    song: &'a SongName,
    rendition: &'a RenditionName,
    via: &'a PeerName,
    file: &'a Path,
    bytes: u64,
    sha256: Sha256,
    seconds: f64,
    parts: &'a [Part],
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let to_stdout = arguments.output == Path::new("-");
    if to_stdout && context.out.is_json() {
        return Err(Failure::new(exit::USAGE, "`-o -` and --json both want stdout; name a file").into());
    }
    let plan = context.must_run(&arguments.which).await?.plan;
    let peer = plan
        .peer(arguments.via.as_str())
        .ok_or_else(|| Failure::new(exit::FAILED, super::path::unknown_peer(&plan, &arguments.via)))?;
    let player = Player::new(peer.local, &arguments.what.song, &plan.limits);
    let begin = Instant::now();

    let rendition = match &arguments.what.rendition {
        Some(rendition) => rendition.clone(),
        None => player.best_rendition().await?,
    };
    let names = player.parts(&rendition, arguments.what.sequence).await?;

    let mut target = Target::open(&arguments.output, to_stdout)?;
    let mut digest = sha2::Sha256::new();
    let mut length = 0;
    let mut parts = Vec::with_capacity(names.len());
    let progress = Progress::new();
    let label = format!("{}/{rendition}", arguments.what.song);
    for (at, name) in names.iter().enumerate() {
        let (part, body) = player.part(&rendition, name).await?;
        target.write(&body)?;
        digest.update(&body);
        length += body.len() as u64;
        parts.push(part);
        if names.len() > 1 {
            progress.step(&label, at as u64 + 1, names.len() as u64);
        }
    }
    drop(progress);
    target.finish(&arguments.output)?;

    let answer = Answered {
        song: &arguments.what.song,
        rendition: &rendition,
        via: &arguments.via,
        file: &arguments.output,
        bytes: length,
        sha256: Sha256(digest.finalize().into()),
        seconds: begin.elapsed().as_secs_f64(),
        parts: &parts,
    };
    print(&context.out, &answer, to_stdout);
    context.out.result(&answer)
}

/// One song through one peer.
struct Player<'a> {
    peer: SocketAddr,
    song: &'a SongName,
    limit: usize,
    deadline: Duration,
}

impl<'a> Player<'a> {
    fn new(peer: SocketAddr, song: &'a SongName, limits: &Limits) -> Self {
        let limit = usize::try_from(limits.max_segment).unwrap_or(usize::MAX);
        Self { peer, song, limit, deadline: Duration::from_millis(limits.patience_ms) + MARGIN }
    }

    async fn get(&self, target: &str, limit: usize) -> anyhow::Result<Answer> {
        let answer = http::get(self.peer, target, limit, self.deadline).await.map_err(|error| {
            let hint = "is the mesh running? `hopcast status` tells";
            Failure::new(exit::UNAVAILABLE, format!("{error:#}; {hint}"))
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let mut message = format!("http://{}{target}: {} {}", self.peer, answer.status, answer.sentence());
        let proxy = answer.header("proxy-status");
        if !proxy.is_empty() {
            message.push_str(" (");
            message.push_str(proxy);
            message.push(')');
        }
        Err(Failure::new(exit::FAILED, message.trim_end()).into())
    }

    /// The rendition of the master playlist with the largest bandwidth.
    async fn best_rendition(&self) -> anyhow::Result<RenditionName> {
        let target = format!("/hls/{}/master.m3u8", self.song);
        let answer = self.get(&target, PLAYLIST).await?;
        let master = m3u8_rs::parse_master_playlist_res(&answer.body).map_err(|error| {
            anyhow::anyhow!("http://{}{target} is no master playlist: {error}", self.peer)
        })?;
        let best = master.variants.iter().max_by_key(|variant| variant.bandwidth);
        let uri = &best.with_context(|| format!("{} has no rendition", self.song))?.uri;
        let (name, _) =
            uri.split_once('/').with_context(|| format!("unexpected playlist address `{uri}`"))?;
        Ok(RenditionName::new(name)?)
    }

    /// File names in the order of play, the init section first; with `sequence` that segment alone.
    async fn parts(&self, rendition: &RenditionName, sequence: Option<u64>) -> anyhow::Result<Vec<String>> {
        let target = format!("/hls/{}/{rendition}/index.m3u8", self.song);
        let answer = self.get(&target, PLAYLIST).await?;
        let playlist = m3u8_rs::parse_media_playlist_res(&answer.body)
            .map_err(|error| anyhow::anyhow!("http://{}{target} is no media playlist: {error}", self.peer))?;
        let segments = playlist.segments.iter().map(|segment| segment.uri.clone());
        if let Some(sequence) = sequence {
            let wanted = sequence.to_string();
            let found = segments.clone().find(|uri| uri.split('.').next() == Some(&wanted));
            return Ok(vec![found.with_context(|| {
                let all: Vec<_> = segments.collect();
                let (first, last) = (all.first().cloned(), all.last().cloned());
                format!(
                    "{}/{rendition} has no segment {sequence}; its segments are {} to {}",
                    self.song,
                    first.unwrap_or_default(),
                    last.unwrap_or_default()
                )
            })?]);
        }
        let init = playlist.segments.iter().find_map(|segment| Some(segment.map.as_ref()?.uri.clone()));
        Ok(init.into_iter().chain(segments).collect())
    }

    async fn part(&self, rendition: &RenditionName, name: &str) -> anyhow::Result<(Part, http::Body)> {
        let begin = Instant::now();
        let answer = self.get(&format!("/hls/{}/{rendition}/{name}", self.song), self.limit).await?;
        let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        let sha256 = Sha256::of(&answer.body);
        let etag = answer.header("etag").trim_matches('"');
        if etag != sha256.to_string() {
            bail!("{}/{rendition}/{name}: its ETag is {etag}, its bytes have {sha256}", self.song);
        }
        let route = answer.header("hopcast-route");
        let part = Part {
            name: name.to_owned(),
            bytes: answer.body.len(),
            sha256,
            milliseconds,
            route: (!route.is_empty()).then(|| route.to_owned()),
            cache: answer.header("cache-status").to_owned(),
            hops: hops::of(&answer),
        };
        Ok((part, answer.body))
    }
}

/// Where the bytes go: stdout, or a file that appears whole or not at all.
enum Target {
    Stdout,
    File(tempfile::NamedTempFile),
}

impl Target {
    fn open(path: &Path, to_stdout: bool) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if to_stdout {
            return Ok(Self::Stdout);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o666)) // what the umask leaves of it
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map(Self::File)
            .map_err(|error| cannot_write(path, &error))
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => std::io::stdout().write_all(bytes).context("cannot write to stdout"),
            Self::File(file) => {
                file.write_all(bytes).with_context(|| format!("cannot write {}", file.path().display()))
            }
        }
    }

    fn finish(self, path: &Path) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(()),
            Self::File(file) => {
                file.persist(path).map(drop).map_err(|error| cannot_write(path, &error.error))
            }
        }
    }
}

/// The failure of a file that cannot be written.
pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Failure::new(exit::CANNOT_WRITE, format!("cannot write {}: {error}", path.display())).into()
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
        "{}/{} through {}: {} in {:.2} s to {file}",
        answer.song,
        answer.rendition,
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
    fn a_reference_has_one_to_three_parts() {
        let reference: Reference = "demo/128k/3".parse().unwrap();
        assert_eq!((reference.song.as_str(), reference.sequence), ("demo", Some(3)));
        assert_eq!("demo".parse::<Reference>().unwrap().rendition, None);
        for bad in ["", "demo/", "demo/128k/x", "demo/128k/3/4", "../x"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}

//! An audio file: ffmpeg encodes it once for all renditions, into a temporary folder.
//!
//! ffmpeg runs as a child that dies with the future. It may open local files only, so a file that is really a playlist of
//! URLs makes it fetch nothing.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::Command,
};

use super::{Progress, error::SourceError};

/// What an audio file is encoded to: each rendition's name, and its bits a second.
pub const RENDITIONS: [(&str, u32); 3] = [("64k", 64_000), ("128k", 128_000), ("192k", 192_000)];
/// Seconds of a segment.
const SEGMENT_SECONDS: u32 = 4;
/// ffmpeg reports twice a second; without a report for this long it hangs.
const STALL: Duration = Duration::from_secs(60);
/// ffmpeg's words that are kept, in bytes.
const WORDS: u64 = 64 << 10;

/// Encodes to `<folder>/<rendition>/index.m3u8`. Returns the folder, and ffmpeg's complaints.
pub(super) async fn encode(
    path: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<(TempDir, Vec<String>), SourceError> {
    let io = |path: &Path, source| SourceError::Io { path: path.into(), source };
    let file = path.canonicalize().map_err(|source| io(path, source))?;
    if std::fs::metadata(&file).map_err(|source| io(path, source))?.len() == 0 {
        return Err(SourceError::NotAudio { file: path.into(), detail: "the file is empty".into() });
    }
    std::fs::File::open(&file).map_err(|source| io(path, source))?;
    let scratch = tempfile::Builder::new()
        .prefix("hopcast-ingest-")
        .tempdir()
        .map_err(|source| io(&std::env::temp_dir(), source))?;
    for (name, _) in RENDITIONS {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder).map_err(|source| io(&folder, source))?;
    }
    let mut child = Command::new("ffmpeg")
        .args(arguments(&file, scratch.path()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => SourceError::NoFfmpeg { file: path.into() },
            _ => SourceError::Ffmpeg { file: path.into(), detail: source.to_string() },
        })?;
    let stdout = child.stdout.take().expect("piped above");
    let stderr = child.stderr.take().expect("piped above");
    let (told, words) = tokio::join!(reports(stdout, progress), words(stderr));
    if told.is_err() {
        // Dropping the child ends it.
        let detail = format!("no progress for {} s", STALL.as_secs());
        return Err(SourceError::Ffmpeg { file: path.into(), detail });
    }
    let status = child
        .wait()
        .await
        .map_err(|source| SourceError::Ffmpeg { file: path.into(), detail: source.to_string() })?;
    let warnings = judge(path, status, &words)?;
    if !RENDITIONS.iter().all(|(name, _)| scratch.path().join(name).join("index.m3u8").exists()) {
        return Err(SourceError::NotAudio { file: path.into(), detail: "no sound in it".into() });
    }
    Ok((scratch, warnings))
}

fn arguments(file: &Path, scratch: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |list: &[&str]| arguments.extend(list.iter().map(OsString::from));
    add(&[
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-progress",
        "pipe:1",
        "-protocol_whitelist",
        "file",
    ]);
    let mut input = OsString::from("file:");
    input.push(file);
    add(&["-i"]);
    arguments.push(input);
    for (name, rate) in RENDITIONS {
        let (rate, seconds) = (rate.to_string(), SEGMENT_SECONDS.to_string());
        let folder = scratch.join(name);
        // The same file gives the same bytes: neither metadata nor the encoder's version is written.
        let list = [
            "-map",
            "0:a:0",
            "-map_metadata",
            "-1",
            "-map_chapters",
            "-1",
            "-c:a",
            "aac",
            "-b:a",
            &rate,
            "-ac",
            "2",
            "-ar",
            "48000",
            "-fflags",
            "+bitexact",
            "-flags:a",
            "+bitexact",
            "-f",
            "hls",
            "-hls_time",
            &seconds,
            "-hls_playlist_type",
            "vod",
            "-hls_segment_type",
            "mpegts",
            "-hls_segment_filename",
        ];
        arguments.extend(list.iter().map(OsString::from));
        arguments.push(folder.join("%05d.ts").into());
        arguments.push(folder.join("index.m3u8").into());
    }
    arguments
}

/// Passes on ffmpeg's `-progress` lines until it ends; an error where it stops telling.
async fn reports(
    stdout: impl AsyncRead + Unpin,
    progress: &mut impl FnMut(Progress),
) -> Result<(), tokio::time::error::Elapsed> {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = tokio::time::timeout(STALL, lines.next_line()).await? {
        if let Some(us) = line.strip_prefix("out_time_us=").and_then(|us| us.trim().parse::<u64>().ok()) {
            progress(Progress::Encoding { seconds: us as f64 / 1e6 });
        }
    }
    Ok(())
}

/// What ffmpeg complains about; the pipe is emptied whatever it writes.
async fn words(stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut stderr = stderr.take(WORDS);
    // What cannot be read is not said.
    let _ = stderr.read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// Turns ffmpeg's end into an error, or into warnings.
fn judge(path: &Path, status: ExitStatus, words: &str) -> Result<Vec<String>, SourceError> {
    let file = PathBuf::from(path);
    // `[mp3 @ 0x55d0]` and the like say nothing to a user, and differ from run to run.
    let lines: Vec<&str> = words
        .lines()
        .map(|line| line.trim().rsplit_once(']').map_or(line.trim(), |(_, rest)| rest.trim()))
        .filter(|line| !line.is_empty())
        .collect();
    let says = |needles: &[&str]| {
        lines.iter().find(|line| needles.iter().any(|needle| line.to_ascii_lowercase().contains(needle)))
    };
    if let Some(line) =
        says(&["partial file", "truncat", "ended prematurely", "moov atom not found", "end of file"])
    {
        return Err(SourceError::Damaged { file, detail: (*line).to_owned() });
    }
    if !status.success() {
        if says(&["matches no streams", "does not contain any stream"]).is_some() {
            return Err(SourceError::NotAudio { file, detail: "there is no sound in it".into() });
        }
        if says(&["invalid data found", "not whitelisted", "unknown format"]).is_some() {
            return Err(SourceError::NotAudio {
                file,
                detail: "ffmpeg finds no format that it knows".into(),
            });
        }
        let detail = lines.last().map_or_else(|| status.to_string(), |line| format!("{status}: {line}"));
        return Err(SourceError::Ffmpeg { file, detail });
    }
    let mut warnings: Vec<String> = Vec::new();
    for line in lines.iter().take(5) {
        let warning = format!("{}: ffmpeg says: {line}", path.display());
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

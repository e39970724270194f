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

use hopcast_protocol::Sha256;
use sha2::Digest as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::Command,
};

use super::{Progress, error::SourceError, scratch::Scratch};

/// What an audio file is encoded to: each rendition's name, and its bits a second.
pub const RENDITIONS: [(&str, u32); 3] = [("64k", 64_000), ("128k", 128_000), ("192k", 192_000)];
/// Seconds of a segment.
const SEGMENT_SECONDS: u32 = 4;
/// ffmpeg reports twice a second; without a report for this long it hangs.
const STALL: Duration = Duration::from_secs(60);
/// ffmpeg's words that are kept, in bytes.
const WORDS: u64 = 64 << 10;

/// The SHA-256 of an audio file and of what it is encoded to: the same file and the same ffmpeg arguments give the same one.
pub(super) fn fingerprint(path: &Path) -> Result<Sha256, SourceError> {
    let io = |error| SourceError::Io { path: path.into(), error };
    let mut hasher = sha2::Sha256::new();
    for argument in arguments(Path::new("file"), Path::new("to")) {
        hasher.update(argument.as_encoded_bytes());
        hasher.update([0]);
    }
    let (mut file, mut piece) = (std::fs::File::open(path).map_err(io)?, vec![0; 64 << 10]);
    loop {
        match std::io::Read::read(&mut file, &mut piece).map_err(io)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// Encodes to `<folder>/<rendition>/index.m3u8`. Returns the folder, and ffmpeg's complaints.
pub(super) async fn encode(
    path: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<(Scratch, Vec<String>), SourceError> {
    encode_with("ffmpeg", path, progress).await
}

async fn encode_with(
    program: &str,
    path: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<(Scratch, Vec<String>), SourceError> {
    let io = |path: &Path, error| SourceError::Io { path: path.into(), error };
    let file = path.canonicalize().map_err(|source| io(path, source))?;
    if std::fs::metadata(&file).map_err(|source| io(path, source))?.len() == 0 {
        return Err(SourceError::NotAudio { file: path.into(), detail: "the file is empty".into() });
    }
    std::fs::File::open(&file).map_err(|source| io(path, source))?;
    let temporary = std::env::temp_dir();
    let scratch = Scratch::new(&temporary).map_err(|source| io(&temporary, source))?;
    for (name, _) in RENDITIONS {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder).map_err(|source| io(&folder, source))?;
    }
    let mut child = Command::new(program)
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
    // Dropping the child ends it.
    let hangs = |_| {
        let detail = format!("no progress for {} s", STALL.as_secs());
        SourceError::Ffmpeg { file: path.into(), detail }
    };
    // Both at once, but not both to the end: one that hangs does not close its standard error either.
    let told = async { tokio::try_join!(reports(stdout, progress), async { Ok(words(stderr).await) }) };
    let (encoded, words) = told.await.map_err(hangs)?;
    let status = tokio::time::timeout(STALL, child.wait())
        .await
        .map_err(hangs)?
        .map_err(|source| SourceError::Ffmpeg { file: path.into(), detail: source.to_string() })?;
    let warnings = judge(path, &file.to_string_lossy(), status, encoded, &words)?;
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
        "-nostats",
        "-loglevel",
        "level+info",
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

/// Passes on ffmpeg's `-progress` lines until it ends; returns the seconds encoded, or an error where it stops telling.
async fn reports(
    stdout: impl AsyncRead + Unpin,
    progress: &mut impl FnMut(Progress),
) -> Result<f64, tokio::time::error::Elapsed> {
    let mut lines = BufReader::new(stdout).lines();
    let mut seconds = 0.0;
    while let Ok(Some(line)) = tokio::time::timeout(STALL, lines.next_line()).await? {
        if let Some(us) = line.strip_prefix("out_time_us=").and_then(|us| us.trim().parse::<u64>().ok()) {
            seconds = us as f64 / 1e6;
            progress(Progress::Encoding { seconds });
        }
    }
    Ok(seconds)
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

/// A line of ffmpeg's, without the `[mp3 @ 0x55d0]` that differs from run to run: its level and the rest.
fn line(text: &str) -> Option<(&str, &str)> {
    ["fatal", "error", "warning", "info"].into_iter().find_map(|level| {
        let (_, rest) = text.split_once(&format!("[{level}] "))?;
        Some((level, rest.trim()))
    })
}

/// The seconds that the file says it has, from `Duration: 00:04:10.03, start: ...`; `None` where ffmpeg had to guess them.
fn declared(words: &str) -> Option<f64> {
    if words.contains("Estimating duration") {
        return None;
    }
    let (_, after) = words.split_once("Duration: ")?;
    after
        .split([',', '\n'])
        .next()?
        .split(':')
        .try_fold(0.0, |seconds, part| Some(seconds * 60.0 + part.trim().parse::<f64>().ok()?))
}

/// Turns ffmpeg's end into an error, or into warnings. `name`: what ffmpeg calls the file.
fn judge(
    path: &Path,
    name: &str,
    status: ExitStatus,
    encoded: f64,
    words: &str,
) -> Result<Vec<String>, SourceError> {
    let file = PathBuf::from(path);
    let lines: Vec<(&str, &str)> = words.lines().filter_map(line).collect();
    // What it only informs of has the file's own words in it: its name, its tags.
    let complaints = || lines.iter().filter(|(level, _)| *level != "info").map(|(_, text)| *text);
    let says = |needles: &[&str]| {
        complaints().find(|text| {
            let text = text.replace(name, "");
            needles.iter().any(|needle| text.contains(needle))
        })
    };
    if says(&["not on whitelist"]).is_some() {
        let detail = "it is a list of other files or addresses, which are not followed".into();
        return Err(SourceError::NotAudio { file, detail });
    }
    if says(&["matches no streams", "does not contain any stream"]).is_some() {
        return Err(SourceError::NotAudio { file, detail: "there is no sound in it".into() });
    }
    if let Some(detail) =
        says(&["moov atom not found", "partial file", "corrupt input packet", ": End of file"])
    {
        // ffmpeg puts the file's name before some of its sentences.
        let detail = detail.rsplit(": ").next().unwrap_or(detail).to_owned();
        return Err(SourceError::Damaged { file, detail });
    }
    if encoded <= 0.0 {
        let detail = "ffmpeg finds nothing in it that it can play".into();
        return Err(SourceError::NotAudio { file, detail });
    }
    if !status.success() {
        let last = lines.iter().rfind(|(level, _)| matches!(*level, "fatal" | "error"));
        let detail = last.map_or_else(|| status.to_string(), |(_, text)| format!("{status}: {text}"));
        return Err(SourceError::Ffmpeg { file, detail });
    }
    if let Some(declared) = declared(words)
        && encoded + f64::max(1.0, declared / 50.0) < declared
    {
        let detail = format!("{encoded:.0} of {declared:.0} s could be read");
        return Err(SourceError::Damaged { file, detail });
    }
    let mut warnings: Vec<String> = Vec::new();
    for (_, text) in lines.iter().filter(|(level, _)| *level == "error") {
        let warning = format!("{}: ffmpeg says: {text}", path.display());
        if warnings.len() < 5 && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_unless_guessed() {
        let words =
            "[info] Input #0, mp3, from 'x':\n[info]   Duration: 01:02:03.50, start: 0.0, bitrate: 1 kb/s\n";
        assert_eq!(declared(words), Some(3723.5));
        assert_eq!(declared("[info]   Duration: N/A, bitrate: N/A\n"), None);
        assert_eq!(declared(&format!("[warning] Estimating duration from bitrate\n{words}")), None);
    }

    #[test]
    fn lines_lose_what_differs_from_run_to_run() {
        assert_eq!(line("[mp3 @ 0x55] [error] Header missing"), Some(("error", "Header missing")));
        assert_eq!(line("[info]   Duration: 1"), Some(("info", "Duration: 1")));
        assert_eq!(line("    Last message repeated 2 times"), None);
    }

    #[test]
    fn what_ffmpeg_only_informs_of_is_no_complaint() {
        use std::os::unix::process::ExitStatusExt as _;
        let words = "[info] Input #0, wav, from 'file:/home/me/partial file/a.wav':\n\
            [info]     title           : matches no streams: End of file\n";
        let name = "/home/me/partial file/a.wav";
        let judged = |words: &str| judge(Path::new("a.wav"), name, ExitStatus::from_raw(0), 3.0, words);
        assert_eq!(judged(words).unwrap(), [] as [String; 0]);
        let named = format!("[error] {name}: something small\n");
        assert_eq!(judged(&named).unwrap(), [format!("a.wav: ffmpeg says: {name}: something small")]);
        let cut = "[error] [mov,mp4 @ 0x1] stream 0, offset 0x30: partial file\n";
        assert!(matches!(judged(cut), Err(SourceError::Damaged { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ffmpeg_that_hangs_is_given_up() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (program, song) = (folder.path().join("ffmpeg"), folder.path().join("song.wav"));
        std::fs::write(&song, "RIFF").unwrap();
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut quiet = |_| {};
        let encoding = encode_with(program.to_str().unwrap(), &song, &mut quiet);
        let ended = tokio::time::timeout(10 * STALL, encoding).await.expect("it is given up");
        assert!(ended.unwrap_err().to_string().contains("no progress"));
    }

    #[tokio::test]
    async fn what_was_encoded_is_removed_with_the_song() {
        let folder = tempfile::tempdir().unwrap();
        let wav = folder.path().join("-i.wav"); // a name that ffmpeg must not take for an option
        // One second of silence: 8000 samples of 16 bits (Microsoft's RIFF WAVE).
        let mut bytes = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
        bytes.resize(bytes.len() + 16_000, 0);
        std::fs::write(&wav, bytes).unwrap();
        let missing = encode_with("no-such-ffmpeg", &wav, &mut |_| {}).await.unwrap_err();
        assert!(missing.to_string().ends_with("needs ffmpeg, which is not in PATH"), "{missing}");
        let (scratch, warnings) = encode(&wav, &mut |_| {}).await.unwrap();
        assert_eq!(warnings, [] as [String; 0]);
        let at = scratch.path().to_owned();
        assert!(at.join("192k/index.m3u8").exists());
        drop(scratch);
        assert!(!at.exists());
    }
}

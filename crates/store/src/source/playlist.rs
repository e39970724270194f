//! Reading playlists (RFC 8216) strictly: m3u8-rs says what they mean, a scan of the lines says where something stands
//! and refuses what a song of this mesh cannot have.

use std::path::Path;

use hopcast_protocol::manifest;
use m3u8_rs::{AlternativeMediaType, MasterPlaylist};

use super::error::SourceError;

/// A master playlist's variant.
#[derive(Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) uri: String,
    pub(super) line: usize,
    pub(super) bandwidth: u64,
    pub(super) codecs: Option<String>,
}

/// A media playlist.
#[derive(Debug, PartialEq)]
pub(super) struct Media {
    pub(super) target_duration: u64,
    pub(super) first_sequence: u64,
    pub(super) init: Option<(String, usize)>,
    pub(super) segments: Vec<Part>,
}

/// A media playlist's segment.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) uri: String,
    pub(super) line: usize,
    pub(super) duration_us: u64,
    pub(super) discontinuity: bool,
}

/// A playlist of either kind.
#[derive(Debug, PartialEq)]
pub(super) enum Playlist {
    Master(Vec<Variant>),
    Media(Media),
}

/// The lines, from 1, of what the parser does not place.
#[derive(Default)]
struct Lines {
    uris: Vec<usize>,
    durations: Vec<u64>,
    map: Option<usize>,
    streams: Vec<usize>,
    alternatives: Vec<usize>,
    target_duration: Option<usize>,
    last: usize,
}

/// Reads a playlist. `warnings` gets what is left out.
pub(super) fn read(file: &Path, bytes: &[u8], warnings: &mut Vec<String>) -> Result<Playlist, SourceError> {
    let fail = |line: usize, problem: String| SourceError::Playlist { file: file.into(), line, problem };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        fail(line, "not UTF-8 text (RFC 8216 4.1)".into())
    })?;
    let (lines, plain) = scan(text).map_err(|(line, problem)| fail(line, problem))?;
    let is_master = !lines.streams.is_empty() || !lines.alternatives.is_empty();
    if is_master && (lines.target_duration.is_some() || !lines.durations.is_empty()) {
        return Err(fail(lines.last, "tags of a master and of a media playlist in one file".into()));
    }
    if is_master {
        let (_, playlist) = m3u8_rs::parse_master_playlist(plain.as_bytes())
            .map_err(|_| fail(1, "not a master playlist".into()))?;
        master(&playlist, &lines, warnings, file)
            .map(Playlist::Master)
            .map_err(|(line, problem)| fail(line, problem))
    } else {
        let (_, playlist) = m3u8_rs::parse_media_playlist(plain.as_bytes())
            .map_err(|_| fail(1, "not a media playlist".into()))?;
        media(&playlist, &lines).map(Playlist::Media).map_err(|(line, problem)| fail(line, problem))
    }
}

/// Checks line by line. Returns the text without the titles of segments: a comma in one misleads the parser.
fn scan(text: &str) -> Result<(Lines, String), (usize, String)> {
    let mut lines = Lines::default();
    let mut plain = String::with_capacity(text.len());
    let mut duration: Option<(usize, u64)> = None;
    let mut stream: Option<usize> = None;
    for (line, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, text) = (line + 1, text.trim_end());
        lines.last = line;
        if line == 1 && text != "#EXTM3U" {
            return Err((1, "not a playlist: the first line must be #EXTM3U".into()));
        }
        let refuse = |problem: &str| Err((line, problem.to_owned()));
        let (tag, value) = text.split_once(':').unwrap_or((text, ""));
        match tag {
            _ if !text.starts_with('#') && !text.is_empty() => {
                if stream.take().is_none() {
                    let Some((_, duration)) = duration.take() else {
                        return refuse("a URI without #EXTINF (or #EXT-X-STREAM-INF) before it");
                    };
                    lines.durations.push(duration);
                }
                lines.uris.push(line);
                uri(text).map_err(|problem| (line, problem))?;
            }
            "#EXTINF" => {
                if let Some((before, _)) = duration {
                    return Err((before, "#EXTINF without a URI after it".into()));
                }
                let seconds = value.split_once(',').map_or(value, |(seconds, _)| seconds);
                let Some(us) = microseconds(seconds) else {
                    return Err((line, format!("`{seconds}` is not a duration in seconds")));
                };
                duration = Some((line, us));
                plain.push_str(&format!("#EXTINF:{seconds},\n"));
                continue;
            }
            "#EXT-X-STREAM-INF" => {
                lines.streams.push(line);
                stream = Some(line);
            }
            "#EXT-X-MEDIA" => lines.alternatives.push(line),
            "#EXT-X-TARGETDURATION" => {
                if !value.parse::<u64>().is_ok_and(|seconds| seconds <= 3600) {
                    return Err((line, format!("`{value}` is not a target duration of 0 to 3600 s")));
                }
                lines.target_duration = Some(line);
            }
            "#EXT-X-MEDIA-SEQUENCE"
                if !value.parse::<u64>().is_ok_and(|number| number <= i64::MAX as u64 / 2) =>
            {
                return Err((line, format!("`{value}` is not a sequence number")));
            }
            "#EXT-X-KEY" | "#EXT-X-SESSION-KEY" if !value.contains("METHOD=NONE") => {
                return refuse(
                    "encrypted segments cannot be ingested: store them plain (the mesh signs and checks them)",
                );
            }
            "#EXT-X-BYTERANGE" => {
                return refuse("#EXT-X-BYTERANGE is not taken: put each segment into a file of its own");
            }
            "#EXT-X-MAP" => {
                if lines.map.is_some() {
                    return refuse("a second #EXT-X-MAP: one init segment for a whole rendition is taken");
                }
                if value.contains("BYTERANGE=") {
                    return refuse(
                        "a BYTERANGE in #EXT-X-MAP is not taken: put the init segment into a file of its own",
                    );
                }
                lines.map = Some(line);
            }
            "#EXT-X-I-FRAMES-ONLY" => return refuse("a playlist of I-frames only is no song"),
            "#EXT-X-GAP" => return refuse("#EXT-X-GAP: a segment is missing"),
            "#EXT-X-PART" | "#EXT-X-SKIP" | "#EXT-X-PRELOAD-HINT" => {
                return refuse("a live playlist is not taken: only finished ones (#EXT-X-ENDLIST)");
            }
            "#EXT-X-DEFINE" => return refuse("#EXT-X-DEFINE is not taken: write the values out"),
            _ => {}
        }
        plain.push_str(text);
        plain.push('\n');
    }
    if lines.last == 0 {
        return Err((1, "the playlist is empty".into()));
    }
    if let Some((line, _)) = duration {
        return Err((line, "#EXTINF without a URI after it: the playlist is cut short".into()));
    }
    if let Some(line) = stream {
        return Err((line, "#EXT-X-STREAM-INF without a URI after it: the playlist is cut short".into()));
    }
    Ok((lines, plain))
}

/// Refuses what does not stay in the folder.
fn uri(uri: &str) -> Result<(), String> {
    let scheme = uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    if scheme || uri.starts_with('/') {
        return Err(format!("`{uri}` is absolute: name a file in the folder"));
    }
    let decoded = decode(uri);
    if decoded.split(['/', '\\']).any(|part| part == "..") || decoded.starts_with('/') {
        return Err(format!("`{uri}` leads out of the folder"));
    }
    if decoded.contains('\0') {
        return Err(format!("`{uri}` is no file name"));
    }
    Ok(())
}

/// A URI's path as a file name.
pub(super) fn decode(uri: &str) -> String {
    percent_encoding::percent_decode_str(uri).decode_utf8_lossy().into_owned()
}

/// A decimal number of seconds, as microseconds; exact, and positive.
fn microseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    if whole.is_empty() || !fraction.bytes().chain(whole.bytes()).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<6}");
    let us = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction[..6].parse().ok()?)?;
    (us > 0).then_some(us)
}

fn master(
    playlist: &MasterPlaylist,
    lines: &Lines,
    warnings: &mut Vec<String>,
    file: &Path,
) -> Result<Vec<Variant>, (usize, String)> {
    let streams: Vec<_> = playlist.variants.iter().filter(|variant| !variant.is_i_frame).collect();
    if streams.len() != lines.streams.len() || streams.len() != lines.uris.len() {
        let line = lines.streams.get(streams.len()).or(lines.streams.first()).copied().unwrap_or(lines.last);
        return Err((
            line,
            "#EXT-X-STREAM-INF with attributes that cannot be read (BANDWIDTH is a must)".into(),
        ));
    }
    for (alternative, &line) in playlist.alternatives.iter().zip(&lines.alternatives) {
        let Some(uri) = &alternative.uri else { continue };
        if alternative.media_type == AlternativeMediaType::Subtitles {
            warnings.push(format!("{}:{line}: subtitles are left out", file.display()));
        } else if !streams.iter().any(|stream| stream.uri.trim() == uri) {
            return Err((
                line,
                "alternative renditions are not taken: give each variant its own sound".into(),
            ));
        }
    }
    if streams.is_empty() {
        return Err((lines.last, "a master playlist without a variant".into()));
    }
    if playlist.variants.len() > streams.len() {
        warnings.push(format!("{}: I-frame playlists are left out", file.display()));
    }
    let variant = |(stream, &line): (&&m3u8_rs::VariantStream, _)| Variant {
        uri: stream.uri.trim().to_owned(),
        line,
        bandwidth: stream.bandwidth,
        codecs: stream.codecs.clone().filter(|codecs| !codecs.is_empty()),
    };
    Ok(streams.iter().zip(&lines.uris).map(variant).collect())
}

fn media(playlist: &m3u8_rs::MediaPlaylist, lines: &Lines) -> Result<Media, (usize, String)> {
    if lines.target_duration.is_none() {
        return Err((lines.last, "no #EXT-X-TARGETDURATION".into()));
    }
    if playlist.segments.is_empty() {
        return Err((lines.last, "the playlist has no segments".into()));
    }
    if !playlist.end_list {
        let problem = "no #EXT-X-ENDLIST: a live playlist is not taken, or this one is cut short";
        return Err((lines.last, problem.into()));
    }
    if playlist.segments.len() != lines.uris.len() {
        return Err((lines.last, "not a media playlist".into()));
    }
    let init = match (lines.map, playlist.segments.iter().position(|segment| segment.map.is_some())) {
        (None, _) => None,
        (Some(line), Some(0)) => {
            let map = playlist.segments[0].map.as_ref().expect("its position was just found");
            uri(&map.uri).map_err(|problem| (line, problem))?;
            Some((map.uri.clone(), line))
        }
        (Some(line), _) => {
            return Err((line, "#EXT-X-MAP needs a URI, and must stand before the first segment".into()));
        }
    };
    let part = |((segment, &line), &duration_us): ((&m3u8_rs::MediaSegment, _), _)| Part {
        uri: segment.uri.trim().to_owned(),
        line,
        duration_us,
        discontinuity: segment.discontinuity,
    };
    // Players must not meet a segment that is longer than announced (RFC 8216 4.3.3.1).
    let longest = lines.durations.iter().copied().max().unwrap_or(0).saturating_add(500_000) / 1_000_000;
    Ok(Media {
        // Of a sound of less than half a second it is 0 to the letter; players wait for that long before they ask again.
        target_duration: playlist.target_duration.max(longest).max(1),
        first_sequence: playlist.media_sequence,
        init,
        segments: playlist.segments.iter().zip(&lines.uris).zip(&lines.durations).map(part).collect(),
    })
}

/// `BANDWIDTH` for a rendition whose master gives none: the peak over its segments (RFC 8216 4.3.4.2), in bits a second.
pub(super) fn peak_bandwidth(segments: &[manifest::Segment], target_duration: u64) -> u64 {
    let rate = |length: u64, us: u64| (length * 8).saturating_mul(1_000_000) / us.max(1);
    // A short last segment says little.
    let long = |segment: &&manifest::Segment| segment.duration_us >= target_duration * 500_000;
    let peak = segments.iter().filter(long).map(|s| rate(u64::from(s.length), s.duration_us)).max();
    let (length, us) =
        segments.iter().fold((0, 0), |(length, us), s| (length + u64::from(s.length), us + s.duration_us));
    peak.unwrap_or_else(|| rate(length, us)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [&str; 24] = [
        "#EXTM3U\n",
        "#EXT-X-TARGETDURATION:4\n",
        "#EXT-X-MEDIA-SEQUENCE:7\n",
        "#EXTINF:4.0,title, and more\n",
        "#EXTINF:4\n",
        "#EXT-X-DISCONTINUITY\n",
        "#EXT-X-DISCONTINUITY-SEQUENCE:x\n",
        "#EXT-X-MAP:URI=\"i.mp4\"\n",
        "#EXT-X-MAP:URI=i.mp4\n",
        "#EXT-X-PROGRAM-DATE-TIME:yesterday\n",
        "#EXT-X-DATERANGE:ID=1\n",
        "#EXT-X-START:TIME-OFFSET=x\n",
        "#EXT-X-PLAYLIST-TYPE:LIVE\n",
        "#EXT-X-VERSION:99999999999999999999\n",
        "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a\"\n",
        "#EXT-X-STREAM-INF:BANDWIDTH=,RESOLUTION=ax\n",
        "#EXT-X-MEDIA:TYPE=AUDIO,URI=\"a\"\n",
        "#EXT-X-I-FRAME-STREAM-INF:URI=\"\"\n",
        "#EXT-X-ENDLIST\n",
        "0.ts\n",
        "\r\n",
        "\u{e4}\u{1f3b5}.ts\n",
        "\"=,:#\n",
        "#EXT-X-KEY:METHOD=NONE\n",
    ];

    proptest! {
        #[test]
        fn no_playlist_makes_the_parser_panic(
            parts in proptest::collection::vec(0..PARTS.len(), 0..12),
            cut in 0..200_usize,
            flip in any::<Option<(u8, u8)>>(),
        ) {
            let mut bytes = b"#EXTM3U\n".to_vec();
            bytes.extend(parts.into_iter().flat_map(|part| PARTS[part].bytes()));
            bytes.truncate(bytes.len().saturating_sub(cut % 20));
            if let Some((at, to)) = flip {
                let at = usize::from(at) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
            }
            let _ = read(Path::new("p.m3u8"), &bytes, &mut Vec::new());
        }
    }

    #[test]
    fn durations_are_exact() {
        for (text, us) in [("4", 4_000_000), ("3.994667", 3_994_667), ("0.0000019", 1), (" 1.5 ", 1_500_000)]
        {
            assert_eq!(microseconds(text), Some(us), "{text}");
        }
        for text in ["", "0", "-1", "1e3", "nan", ".5", "1,5", "99999999999999999999", "18446744073709.6"] {
            assert_eq!(microseconds(text), None, "{text}");
        }
    }
}

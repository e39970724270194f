//! Playlists (RFC 8216) out of a verified manifest, and what a player's path means.
//!
//! Pure. URLs are relative, so that they work through the door as well. CODECS is always declared. A media playlist names its files
//! with the beginning of their hash as a query ([`edition`]): what is under such a URL never changes, so that it may be kept
//! for good, and a song that is ingested anew has other URLs.

use std::fmt::Write as _;

use hopcast_protocol::{
    Manifest, Rendition, Sha256, SongName, content::to_hex, manifest::Blob, name::NameError,
};

/// The media type of playlists (RFC 8216 10).
pub const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// What a player asks for: the path behind `/hls/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The song.
    pub song: SongName,
    /// What of it.
    pub part: Part<'a>,
}

/// A part of a song.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// `master.m3u8`
    Master,
    /// `<rendition>/index.m3u8`
    Index(&'a str),
    /// `<rendition>/init.mp4`
    Init(&'a str),
    /// `<rendition>/<sequence>.<extension>`
    Segment {
        /// The rendition.
        rendition: &'a str,
        /// The media sequence number.
        sequence: u64,
        /// The file name extension.
        extension: &'a str,
    },
}

/// Reads the path behind `/hls/`; `None` for what can be no part of a song.
pub fn parse(path: &str) -> Option<Wish<'_>> {
    let mut parts = path.split('/');
    let song: Result<SongName, NameError> = SongName::new(parts.next()?);
    let song = song.ok()?;
    let (first, second) = (parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let part = match (first, second) {
        ("master.m3u8", None) => Part::Master,
        (rendition, Some("index.m3u8")) => Part::Index(rendition),
        (rendition, Some("init.mp4")) => Part::Init(rendition),
        (rendition, Some(file)) => {
            let (sequence, extension) = file.split_once('.')?;
            // One spelling for each segment: no sign, no leading zeros.
            let number: u64 = sequence.parse().ok()?;
            (number.to_string() == sequence).then_some(())?;
            Part::Segment { rendition, sequence: number, extension }
        }
        _ => return None,
    };
    Some(Wish { song, part })
}

/// The rendition of that name.
pub fn rendition<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a Rendition> {
    manifest.renditions.iter().find(|rendition| rendition.name.as_str() == name)
}

/// The blob that `part` stands for: hash, length, media type. `None` for playlists and for what the song lacks.
pub fn blob(manifest: &Manifest, part: Part<'_>) -> Option<(Sha256, u32, &'static str)> {
    match part {
        Part::Master | Part::Index(_) => None,
        Part::Init(name) => {
            let Blob { sha256, length } = rendition(manifest, name)?.init?;
            Some((sha256, length, "video/mp4"))
        }
        Part::Segment { rendition: name, sequence, extension } => {
            let rendition = rendition(manifest, name)?;
            (rendition.extension == extension).then_some(())?;
            let at = usize::try_from(sequence.checked_sub(rendition.first_sequence)?).ok()?;
            let segment = rendition.segments.get(at)?;
            Some((segment.sha256, segment.length, media_type(extension)))
        }
    }
}

/// The query of a blob's URL in a playlist. It is for caches between here and the player; whoever asks without it gets the same.
pub fn edition(sha256: &Sha256) -> String {
    format!("v={}", to_hex(&sha256.0[..8]))
}

/// The media type of segments with that file name extension.
pub fn media_type(extension: &str) -> &'static str {
    match extension {
        "ts" => "video/mp2t",
        "m4s" => "video/iso.segment",
        "mp4" => "video/mp4",
        "aac" => "audio/aac",
        _ => "application/octet-stream",
    }
}

/// The master playlist.
pub fn master(manifest: &Manifest) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for Rendition { name, bandwidth, codecs, .. } in &manifest.renditions {
        // A codecs string is from the ingest; what could end the attribute or the line stays out.
        let codecs: String = codecs.chars().filter(|c| !c.is_control() && *c != '"').collect();
        let _ =
            write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{codecs}\"\n{name}/index.m3u8\n");
    }
    text
}

/// The media playlist of one rendition.
pub fn index(rendition: &Rendition) -> String {
    let version = if rendition.init.is_some() { 7 } else { 3 };
    let mut text = String::with_capacity(128 + rendition.segments.len() * 48);
    let _ = write!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
        rendition.target_duration, rendition.first_sequence
    );
    if let Some(init) = &rendition.init {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"init.mp4?{}\"", edition(&init.sha256));
    }
    for (sequence, segment) in (rendition.first_sequence..).zip(&rendition.segments) {
        if segment.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let (seconds, micros) = (segment.duration_us / 1_000_000, segment.duration_us % 1_000_000);
        let _ = writeln!(text, "#EXTINF:{seconds}.{micros:06},");
        let _ = writeln!(text, "{sequence}.{}?{}", rendition.extension, edition(&segment.sha256));
    }
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::{RenditionName, RoomName, Segment};

    use super::*;

    fn manifest(init: bool) -> Manifest {
        let segment = |number: u8, discontinuity| Segment {
            sha256: Sha256([number; 32]),
            length: 1000 + u32::from(number),
            duration_us: 4_010_000,
            discontinuity,
        };
        Manifest {
            version: 1,
            song: SongName::new("demo").unwrap(),
            revision: 1,
            rooms: vec![RoomName::new("rock").unwrap()],
            renditions: vec![Rendition {
                name: RenditionName::new("128k").unwrap(),
                bandwidth: 140_000,
                codecs: "mp4a.40.2".into(),
                extension: if init { "m4s" } else { "ts" }.into(),
                target_duration: 5,
                first_sequence: 7,
                init: init.then_some(Blob { sha256: Sha256([99; 32]), length: 600 }),
                segments: vec![segment(0, false), segment(1, true)],
            }],
        }
    }

    #[test]
    fn playlists_are_what_rfc_8216_shows() {
        assert_eq!(
            master(&manifest(false)),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=140000,CODECS=\"mp4a.40.2\"\n128k/index.m3u8\n"
        );
        assert_eq!(
            index(&manifest(true).renditions[0]),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:7\n\
             #EXT-X-MAP:URI=\"init.mp4?v=6363636363636363\"\n#EXTINF:4.010000,\n7.m4s?v=0000000000000000\n\
             #EXT-X-DISCONTINUITY\n#EXTINF:4.010000,\n8.m4s?v=0101010101010101\n#EXT-X-ENDLIST\n"
        );
    }

    #[test]
    fn every_line_of_a_playlist_leads_back_to_its_blob() {
        for init in [false, true] {
            let manifest = manifest(init);
            let lines = index(&manifest.renditions[0]);
            let blobs: Vec<_> = lines
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| {
                    let (file, query) = line.split_once('?').unwrap();
                    let path = format!("demo/128k/{file}");
                    let found = blob(&manifest, parse(&path).unwrap().part).unwrap();
                    assert_eq!(query, edition(&found.0));
                    found
                })
                .collect();
            let kind = if init { "video/iso.segment" } else { "video/mp2t" };
            assert_eq!(blobs, [(Sha256([0; 32]), 1000, kind), (Sha256([1; 32]), 1001, kind)]);
            assert_eq!(blob(&manifest, Part::Init("128k")).is_some(), init);
        }
    }

    #[test]
    fn paths_that_are_no_part_of_a_song() {
        for bad in [
            "",
            "demo",
            "demo/",
            "demo/x",
            "demo/a/b/c",
            "-x/master.m3u8",
            "demo/128k/x.ts",
            "demo/128k/07.ts",
            "demo/128k/+7.ts",
            "demo/128k/7",
            "../master.m3u8",
            "demo/128k/7/8.ts",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let manifest = manifest(false);
        for missing in
            ["demo/128k/6.ts", "demo/128k/9.ts", "demo/64k/7.ts", "demo/128k/7.aac", "demo/128k/init.mp4"]
        {
            assert_eq!(blob(&manifest, parse(missing).unwrap().part), None, "{missing}");
        }
    }
}

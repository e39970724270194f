//! What a segment is, told from its bytes, and whether it is whole.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{adts, error::SourceError, mp4, ts};

/// The kinds of segment that players of all sorts take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Ts,
    Fmp4,
    Adts,
}

impl Format {
    /// The extension that tells players (and servers) the media type.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Fmp4 => "m4s",
            Self::Adts => "aac",
        }
    }
}

/// What was found in a whole segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) format: Format,
    /// Packed audio without the ID3 timestamp that RFC 8216 3.4 wants.
    pub(super) no_timestamp: bool,
}

/// Recognises a segment and checks that it is whole; else the sentence's end after the file's name.
pub(super) fn check(bytes: &[u8]) -> Result<Checked, String> {
    let plain = |format| Checked { format, no_timestamp: false };
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes[0] == ts::SYNC {
        return ts::check(bytes).map(|()| plain(Format::Ts));
    }
    if let Some(sound) = adts::recognise(bytes) {
        return sound
            .and_then(|timestamp| Ok((timestamp, adts::check(bytes)?)))
            .map(|(timestamp, ())| Checked { format: Format::Adts, no_timestamp: !timestamp });
    }
    if mp4::recognise(bytes) {
        return mp4::check_segment(bytes).map(|()| plain(Format::Fmp4));
    }
    if bytes.starts_with(b"WEBVTT") {
        return Err("subtitles are not part of a song".into());
    }
    Err("neither MPEG-TS, fMP4 nor ADTS AAC".into())
}

/// `CODECS` (RFC 6381), told from a segment and its init segment.
pub(super) fn codecs(format: Format, segment: &[u8], init: Option<&[u8]>) -> Option<String> {
    match format {
        Format::Ts => ts::codecs(segment),
        Format::Fmp4 => mp4::codecs(init?),
        Format::Adts => adts::codecs(segment),
    }
}

/// A whole file of at most `limit` bytes; `None` where it is longer.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let io = |error| SourceError::Io { path: PathBuf::from(path), error };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > limit {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(length as usize + 1);
    // One more than allowed, so that a file that grows meanwhile is noticed.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The starts that lead into each parser.
    const STARTS: [&[u8]; 6] = [
        b"",
        b"\x47\x40\x00\x10\x00",
        b"ID3\x04\0\0\0\0\0\x02ab\xff\xf1",
        b"\xff\xf1\x50\x80",
        b"\0\0\0\x10moof",
        b"\0\0\0\x60moov\0\0\0\x58trak\0\0\0\x50mdia\0\0\0\x48minf\0\0\0\x40stbl\0\0\0\x38stsd\0\0\0\0\0\0\0\x01\0\0\0\x28mp4a",
    ];

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(
            start in 0..STARTS.len(),
            rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0x47), Just(0xff)], 0..800),
        ) {
            let mut bytes = STARTS[start].to_vec();
            bytes.extend(rest);
            let _ = check(&bytes);
            for format in [Format::Ts, Format::Fmp4, Format::Adts] {
                let _ = codecs(format, &bytes, Some(&bytes));
            }
        }
    }

    #[test]
    fn what_is_no_segment_is_named() {
        for (bytes, problem) in [
            (&b""[..], "empty"),
            (b"WEBVTT\n", "subtitles"),
            (b"<html>", "neither"),
            (b"\xff\xfb\x90\x00", "MP3"),
            (b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x00", "MP3"),
        ] {
            let said = check(bytes).unwrap_err();
            assert!(said.contains(problem), "{bytes:?}: {said}");
        }
    }
}

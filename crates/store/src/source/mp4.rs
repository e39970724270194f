//! Fragmented MP4 (ISO/IEC 14496-12), as far as checking a segment and naming its codecs takes.

/// Boxes that may come first in a segment or an init segment.
const FIRST: [&[u8; 4]; 9] =
    [b"ftyp", b"styp", b"moof", b"sidx", b"emsg", b"prft", b"moov", b"free", b"skip"];

pub(super) fn recognise(bytes: &[u8]) -> bool {
    bytes.get(4..8).is_some_and(|kind| FIRST.iter().any(|first| *first == kind))
}

/// The boxes in `bytes`, each with its kind and body; an error where one reaches past the end.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), String>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let offset = std::mem::replace(&mut at, bytes.len()); // after an error: the end
        let Some((header, _)) = rest.split_at_checked(8) else {
            return Some(Err(format!(
                "truncated MP4: {} bytes of a box's header at offset {offset}",
                rest.len()
            )));
        };
        let kind = &header[4..];
        let short = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        let (start, length) = match short {
            0 => (8, rest.len() as u64), // to the end of the file
            1 => match rest.get(8..16) {
                Some(long) => (16, u64::from_be_bytes(long.try_into().expect("eight bytes"))),
                None => return Some(Err(format!("truncated MP4: a box's header at offset {offset}"))),
            },
            length => (8, length),
        };
        if length < start as u64 {
            return Some(Err(format!("damaged MP4: a box of {length} bytes at offset {offset}")));
        }
        if length > rest.len() as u64 {
            let kind = String::from_utf8_lossy(kind);
            return Some(Err(format!(
                "truncated MP4: {} of {length} bytes of box `{kind}` at offset {offset}",
                rest.len()
            )));
        }
        at = offset + length as usize;
        Some(Ok((kind, &rest[start..length as usize])))
    })
}

fn kinds(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    boxes(bytes).map(|found| found.map(|(kind, _)| kind)).collect()
}

/// Whole boxes only, a fragment's head and its data among them.
pub(super) fn check_segment(bytes: &[u8]) -> Result<(), String> {
    let kinds = kinds(bytes)?;
    for wanted in [b"moof", b"mdat"] {
        if !kinds.contains(&&wanted[..]) {
            let wanted = String::from_utf8_lossy(wanted);
            return Err(format!("no fMP4 segment: it has no `{wanted}` box; fragment the file"));
        }
    }
    Ok(())
}

/// Whole boxes only, the movie's head among them.
pub(super) fn check_init(bytes: &[u8]) -> Result<(), String> {
    if kinds(bytes)?.contains(&&b"moov"[..]) {
        Ok(())
    } else {
        Err("no fMP4 init segment: it has no `moov` box".into())
    }
}

fn find(bytes: &[u8], wanted: [u8; 4]) -> Option<&[u8]> {
    boxes(bytes).map_while(Result::ok).find(|(kind, _)| *kind == wanted).map(|(_, body)| body)
}

/// The codecs of all tracks of an init segment; `None` where one is unknown.
pub(super) fn codecs(init: &[u8]) -> Option<String> {
    let mut codecs = Vec::new();
    for (kind, track) in boxes(find(init, *b"moov")?).map_while(Result::ok) {
        if kind == b"trak" {
            let table = find(find(find(track, *b"mdia")?, *b"minf")?, *b"stbl")?;
            // Version, flags and the number of entries come before the first sample entry.
            let (kind, entry) = boxes(find(table, *b"stsd")?.get(8..)?).next()?.ok()?;
            codecs.push(codec(kind, entry)?);
        }
    }
    (!codecs.is_empty()).then(|| codecs.join(","))
}

/// RFC 6381 3.3 to 3.4; the lengths are those of AudioSampleEntry and VisualSampleEntry.
fn codec(kind: &[u8], entry: &[u8]) -> Option<String> {
    match kind {
        b"mp4a" => object_type(find(entry.get(28..)?, *b"esds")?.get(4..)?),
        b"avc1" | b"avc3" => {
            let config = find(entry.get(78..)?, *b"avcC")?;
            let kind = String::from_utf8_lossy(kind);
            Some(format!("{kind}.{:02x}{:02x}{:02x}", config.get(1)?, config.get(2)?, config.get(3)?))
        }
        b"Opus" => Some("opus".into()),
        b"fLaC" => Some("flac".into()),
        b"ac-3" | b"ec-3" | b"alac" => Some(String::from_utf8_lossy(kind).into_owned()),
        _ => None,
    }
}

/// Walks the descriptors of an `esds` box (ISO/IEC 14496-1 7.2.6) to the audio object type.
fn object_type(mut bytes: &[u8]) -> Option<String> {
    let mut object = 0;
    loop {
        let (&tag, mut rest) = bytes.split_first()?;
        let mut length = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
            if length > 0xffff {
                return None;
            }
        }
        bytes = match tag {
            3 => {
                // ES_ID, flags, and what the flags announce.
                let flags = *rest.get(2)?;
                let mut skip =
                    3 + if flags & 0x80 == 0 { 0 } else { 2 } + if flags & 0x20 == 0 { 0 } else { 2 };
                if flags & 0x40 != 0 {
                    skip += 1 + usize::from(*rest.get(skip)?);
                }
                rest.get(skip..)?
            }
            4 => {
                object = *rest.first()?;
                if object != 0x40 {
                    return Some(format!("mp4a.{object:02x}"));
                }
                rest.get(13..)?
            }
            5 => {
                let first = *rest.first()?;
                let kind = first >> 3;
                // 31 is an escape: six more bits.
                let kind = if kind == 31 { 32 + (first << 3 & 0x38 | rest.get(1)? >> 5) } else { kind };
                return Some(format!("mp4a.{object:02x}.{kind}"));
            }
            _ => rest.get(length..)?,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
        [&(8 + body.len() as u32).to_be_bytes()[..], &kind, body].concat()
    }

    #[test]
    fn boxes_are_walked_to_the_end() {
        let segment = [boxed(*b"styp", b"msdh"), boxed(*b"moof", b"x"), boxed(*b"mdat", b"sound")].concat();
        assert!(recognise(&segment));
        assert_eq!(check_segment(&segment), Ok(()));
        for length in (1..segment.len()).filter(|length| ![12, 21].contains(length)) {
            assert!(check_segment(&segment[..length]).unwrap_err().contains("truncated"), "{length}");
        }
        assert!(check_segment(&segment[..21]).unwrap_err().contains("mdat"));
        assert!(check_init(&segment).unwrap_err().contains("moov"));
    }

    #[test]
    fn the_object_type_is_read_from_the_descriptors() {
        // ES descriptor, decoder configuration (0x40), decoder specific information: AAC-LC, then HE-AAC.
        let esds = |first: u8| {
            let mut bytes = vec![3, 25, 0, 1, 0, 4, 17, 0x40, 0x15];
            bytes.extend_from_slice(&[0; 11]);
            bytes.extend_from_slice(&[5, 2, first, 0x10]);
            bytes
        };
        assert_eq!(object_type(&esds(0x12)).as_deref(), Some("mp4a.40.2"));
        assert_eq!(object_type(&esds(0x2b)).as_deref(), Some("mp4a.40.5"));
        assert_eq!(object_type(&[3]), None);
    }
}

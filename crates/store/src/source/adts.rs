//! Packed AAC: an ID3 tag with a timestamp (RFC 8216 3.4), then ADTS frames (ISO/IEC 13818-7 6.2).

const TIMESTAMP_OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";

/// Bytes of the ID3v2 tags in front; longer than the file where the file is cut within one.
fn tags(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 10)
        && header.starts_with(b"ID3")
    {
        // Four times seven bits (ID3v2.4 3.1).
        let length = header[6..].iter().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        at += 10 + length;
    }
    at
}

/// `None` where this is no packed audio at all. Else whether it has a timestamp, or what is wrong with it.
pub(super) fn recognise(bytes: &[u8]) -> Option<Result<bool, String>> {
    let frames = tags(bytes);
    let timestamp = bytes[..frames.min(bytes.len())]
        .windows(TIMESTAMP_OWNER.len())
        .any(|window| window == TIMESTAMP_OWNER);
    match bytes.get(frames..) {
        // MPEG audio has a layer in the two bits where ADTS has zeros.
        Some([0xff, second, ..]) if second & 0xe0 == 0xe0 => {
            if second & 0xf6 == 0xf0 {
                Some(Ok(timestamp))
            } else if second & 0x06 != 0 {
                Some(Err(
                    "MP3 segments do not play in browsers: encode to AAC, or ingest the MP3 file itself"
                        .into(),
                ))
            } else {
                None
            }
        }
        _ if frames > 0 => Some(Err("an ID3 tag and no AAC after it: truncated or of another kind".into())),
        _ => None,
    }
}

/// Whole frames only.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut at = tags(bytes);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.len() < 7 {
            return Err(format!("truncated AAC: {} bytes of a frame's header at offset {at}", rest.len()));
        }
        if rest[0] != 0xff || rest[1] & 0xf6 != 0xf0 {
            return Err(format!("damaged AAC: no frame at offset {at}"));
        }
        let length = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        if length < 7 {
            return Err(format!("damaged AAC: a frame of {length} bytes at offset {at}"));
        }
        if length > rest.len() {
            return Err(format!(
                "truncated AAC: {} of {length} bytes of the frame at offset {at}",
                rest.len()
            ));
        }
        at += length;
    }
    Ok(())
}

/// From the first frame's header: the audio object type (RFC 6381 3.3, ISO/IEC 14496-3 table 1.17).
pub(super) fn codecs(bytes: &[u8]) -> Option<String> {
    let header = bytes.get(tags(bytes)..)?.get(..3)?;
    if header[0] != 0xff || header[1] & 0xf6 != 0xf0 {
        return None;
    }
    Some(format!("mp4a.40.{}", (header[2] >> 6) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of AAC-LC with `length` bytes.
    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0; length];
        frame[..7].copy_from_slice(&[0xff, 0xf1, 0x50, 0x80, (length >> 3) as u8, (length << 5) as u8, 0xfc]);
        frame
    }

    #[test]
    fn frames_are_walked_to_the_end() {
        let bytes = [frame(100), frame(60)].concat();
        assert_eq!(recognise(&bytes), Some(Ok(false)));
        assert_eq!(check(&bytes), Ok(()));
        assert_eq!(codecs(&bytes).as_deref(), Some("mp4a.40.2"));
        assert!(check(&bytes[..159]).unwrap_err().contains("59 of 60"));
        assert!(check(&bytes[..103]).unwrap_err().contains("truncated"));
        let mut damaged = bytes;
        damaged[100] = 0;
        assert!(check(&damaged).unwrap_err().contains("offset 100"));
    }

    #[test]
    fn a_timestamp_is_found_in_the_tag() {
        let mut tag = b"ID3\x04\0\0\0\0\0\0PRIV".to_vec();
        tag.extend_from_slice(TIMESTAMP_OWNER);
        tag[9] = (tag.len() - 10) as u8;
        let bytes = [tag.clone(), frame(20)].concat();
        assert_eq!(recognise(&bytes), Some(Ok(true)));
        assert_eq!(check(&bytes), Ok(()));
        assert!(recognise(&tag).unwrap().is_err());
    }
}

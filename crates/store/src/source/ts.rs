//! MPEG transport streams (ISO/IEC 13818-1), as far as checking a segment and naming its codecs takes.

/// The first byte of every packet.
pub(super) const SYNC: u8 = 0x47;
const PACKET: usize = 188;

/// Whole packets only, each with its sync byte, and a programme in them.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    for (at, packet) in bytes.chunks(PACKET).enumerate() {
        if packet[0] != SYNC {
            return Err(format!("damaged MPEG-TS: no sync byte at offset {}", at * PACKET));
        }
    }
    match bytes.len() % PACKET {
        0 => Ok(()),
        rest => Err(format!("truncated MPEG-TS: the last packet has {rest} of {PACKET} bytes")),
    }
}

/// A packet's identifier, whether a unit starts in it, and its payload.
fn payload(packet: &[u8]) -> Option<(u16, bool, &[u8])> {
    let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let start = match packet[3] >> 4 & 3 {
        1 => 4,
        3 => 5 + usize::from(packet[4]),
        _ => return None,
    };
    Some((pid, packet[1] & 0x40 != 0, packet.get(start..)?))
}

/// The body of a table section that starts in this payload, without its header and CRC.
fn section(payload: &[u8]) -> Option<&[u8]> {
    let section = payload.get(1 + usize::from(*payload.first()?)..)?;
    let length = usize::from(section.get(1)? & 0x0f) << 8 | usize::from(*section.get(2)?);
    // Tables of a song fit one packet; a longer one is read as far as it is here.
    let end = (3 + length).min(section.len());
    section.get(8..end.checked_sub(4)?)
}

/// The codecs of the first programme's streams, in the order of its map; `None` where one is unknown.
pub(super) fn codecs(bytes: &[u8]) -> Option<String> {
    let packets = || bytes.chunks_exact(PACKET).filter_map(payload);
    let (_, _, pat) = packets().find(|(pid, start, _)| *pid == 0 && *start)?;
    let programme = section(pat)?.chunks_exact(4).find(|entry| entry[0] != 0 || entry[1] != 0)?;
    let map = u16::from(programme[2] & 0x1f) << 8 | u16::from(programme[3]);
    let (_, _, pmt) = packets().find(|(pid, start, _)| *pid == map && *start)?;
    let pmt = section(pmt)?;
    let info = usize::from(pmt.get(2)? & 0x0f) << 8 | usize::from(*pmt.get(3)?);
    let mut streams = pmt.get(4 + info..)?;
    let mut codecs = Vec::new();
    while let [kind, high, low, info_high, info_low, ..] = *streams {
        let pid = u16::from(high & 0x1f) << 8 | u16::from(low);
        let elementary = || -> Vec<u8> {
            // The first few packets hold what names the codec.
            packets()
                .filter(|(p, ..)| *p == pid)
                .take(16)
                .flat_map(|(.., payload)| payload)
                .copied()
                .collect()
        };
        match kind {
            0x0f => codecs.push(aac(&elementary())?),
            0x03 | 0x04 => codecs.push("mp4a.40.34".into()),
            0x1b => codecs.push(avc(&elementary())?),
            0x81 => codecs.push("ac-3".into()),
            // Timed metadata and private data have no codec.
            0x15 | 0x06 | 0x05 => {}
            _ => return None,
        }
        let skip = 5 + (usize::from(info_high & 0x0f) << 8 | usize::from(info_low));
        streams = streams.get(skip..)?;
    }
    (!codecs.is_empty()).then(|| codecs.join(","))
}

/// From the ADTS header at the start of the first packetised unit.
fn aac(elementary: &[u8]) -> Option<String> {
    let header = elementary.get(..9)?;
    if header[..3] != [0, 0, 1] {
        return None;
    }
    super::adts::codecs(elementary.get(9 + usize::from(header[8])..)?)
}

/// From the sequence parameter set: profile, constraints and level (RFC 6381 3.3).
fn avc(elementary: &[u8]) -> Option<String> {
    let parameters = elementary.windows(7).find(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 7)?;
    Some(format!("avc1.{:02x}{:02x}{:02x}", parameters[4], parameters[5], parameters[6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_damaged_stream_is_noticed() {
        let mut bytes = vec![0; PACKET * 3];
        for at in 0..3 {
            bytes[at * PACKET] = SYNC;
        }
        assert_eq!(check(&bytes), Ok(()));
        assert!(check(&bytes[..PACKET + 20]).unwrap_err().contains("20 of 188"));
        bytes[PACKET] = 0;
        assert!(check(&bytes).unwrap_err().contains("offset 188"));
    }

    #[test]
    fn nonsense_has_no_codecs() {
        for fill in [0, 0x10, 0x3f, 0xff] {
            let mut bytes = vec![fill; PACKET * 4];
            for at in 0..4 {
                bytes[at * PACKET] = SYNC;
            }
            assert_eq!(codecs(&bytes), None, "{fill:#x}");
        }
    }
}

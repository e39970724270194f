//! Just enough of HLS (RFC 8216) to find a song's segments the way a player does.

use hopcast_protocol::SongName;

/// The URIs of a playlist, resolved against its own path: the variants of a master, the segments of a media playlist.
///
/// An absolute URI of another host can't come from a peer: it is an error.
pub(crate) fn uris(text: &str, path: &str) -> Result<Vec<String>, String> {
    let mut lines = text.lines().map(str::trim);
    if lines.next() != Some("#EXTM3U") {
        return Err(format!("{path} does not begin with #EXTM3U"));
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let uris = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        if line.contains("://") {
            Err(format!("{path} leads away from the peer, to {line}"))
        } else if line.starts_with('/') {
            Ok(line.to_owned())
        } else {
            Ok(format!("{folder}/{line}"))
        }
    });
    uris.collect()
}

/// Where a song's master playlist is.
pub(crate) fn master(song: &SongName) -> String {
    format!("/hls/{song}/master.m3u8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_resolved_as_a_player_would() {
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n128k/index.m3u8\r\n\n/hls/demo/64k/index.m3u8\n";
        let found = uris(text, "/hls/demo/master.m3u8").unwrap();
        assert_eq!(found, ["/hls/demo/128k/index.m3u8", "/hls/demo/64k/index.m3u8"]);
    }

    #[test]
    fn what_is_no_playlist_or_leads_away_is_refused() {
        assert!(uris("<html>", "/x").unwrap_err().contains("#EXTM3U"));
        assert!(uris("#EXTM3U\nhttp://elsewhere/0.ts\n", "/x").unwrap_err().contains("elsewhere"));
    }
}

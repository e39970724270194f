//! The header fields that tell how a response came here: `Via`, `Server-Timing`, `Cache-Status`, `Proxy-Status`.
//!
//! Pure text. Each hop appends to what it got, so that every list reads from the holder to the requester.

use std::{fmt::Write as _, time::Duration};

use hopcast_protocol::{PeerName, Sha256};
use http::{HeaderMap, HeaderName, HeaderValue};

/// RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// W3C Server Timing.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// The route that the bytes came over.
pub const HOPCAST_ROUTE: HeaderName = HeaderName::from_static("hopcast-route");
/// For programs: why a relay request was not served.
pub const HOPCAST_ERROR: HeaderName = HeaderName::from_static("hopcast-error");

/// Longest list that is passed on, in bytes; a route of 100 hops with long names fits.
const LIST_BYTES: usize = 8 * 1024;

/// What the hops before this one said about a response. Empty at the holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// `Via`.
    pub via: String,
    /// `Server-Timing`.
    pub timing: String,
    /// `Cache-Status`.
    pub cache: String,
}

fn list(headers: &HeaderMap, name: &HeaderName) -> String {
    let mut text = String::new();
    for value in headers.get_all(name) {
        let Ok(value) = value.to_str() else { continue };
        if text.len() + value.len() > LIST_BYTES {
            break;
        }
        append(&mut text, value);
    }
    text
}

fn append(list: &mut String, entry: &str) {
    if !list.is_empty() && !entry.is_empty() {
        list.push_str(", ");
    }
    list.push_str(entry);
}

impl Trail {
    /// Reads what the next hop towards the holder said.
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            via: list(headers, &http::header::VIA),
            timing: list(headers, &SERVER_TIMING),
            cache: list(headers, &CACHE_STATUS),
        }
    }

    /// Adds this hop: its name, and the time to its first byte.
    #[must_use]
    pub fn hop(mut self, peer: &PeerName, first_byte: Duration) -> Self {
        append(&mut self.via, "1.1 ");
        self.via.push_str(peer.as_str());
        append(&mut self.timing, peer.as_str());
        let micros = first_byte.as_micros();
        let _ = write!(self.timing, ";dur={}.{:03}", micros / 1000, micros % 1000);
        self
    }

    /// Adds what this hop's cache did: `hit`, or [`missed`].
    #[must_use]
    pub fn cached(mut self, peer: &PeerName, what: &str) -> Self {
        append(&mut self.cache, &format!("{peer}; {what}"));
        self
    }

    /// Writes the three fields.
    pub fn write(&self, headers: &mut HeaderMap) {
        for (name, text) in
            [(http::header::VIA, &self.via), (SERVER_TIMING, &self.timing), (CACHE_STATUS, &self.cache)]
        {
            if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
                headers.insert(name, value);
            }
        }
    }

    /// The peers of `Via`, holder first.
    pub fn hops(&self) -> impl Iterator<Item = &str> {
        self.via.split(',').filter_map(|entry| entry.trim().strip_prefix("1.1 "))
    }
}

/// A strong entity tag: the SHA-256.
pub fn etag(sha256: &Sha256) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{sha256}\"")).expect("quotes and hexadecimal digits are visible ASCII")
}

/// What `Cache-Status` says of bytes that a cache had to get (RFC 9211 2.2, 2.6).
pub fn missed(stored: bool) -> &'static str {
    if stored { "fwd=uri-miss; stored" } else { "fwd=uri-miss" }
}

/// True where an `If-None-Match` names this entity (RFC 9110 13.1.2; weak comparison).
pub fn none_match(header: &str, etag: &HeaderValue) -> bool {
    header.trim() == "*"
        || header.split(',').any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes())
}

/// `Proxy-Status` of the hop that failed: who says so, the error of RFC 9209 2.3, and the neighbour that it asked.
pub fn proxy_status(peer: &PeerName, error: &str, next: Option<&PeerName>) -> HeaderValue {
    let text = match next {
        Some(next) => format!("{peer}; error={error}; next-hop={next}"),
        None => format!("{peer}; error={error}"),
    };
    HeaderValue::from_str(&text).expect("names and error tokens are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_hops_read_holder_first() {
        let names = ["peer-1", "peer-6", "peer-18"].map(|name| PeerName::new(name).unwrap());
        let mut headers = HeaderMap::new();
        let holder = Trail::default().cached(&names[0], "hit").hop(&names[0], Duration::from_micros(500));
        holder.write(&mut headers);
        for name in &names[1..] {
            let trail = Trail::of(&headers).hop(name, Duration::from_millis(1));
            trail.write(&mut headers);
        }
        assert_eq!(headers["via"], "1.1 peer-1, 1.1 peer-6, 1.1 peer-18");
        assert_eq!(headers["server-timing"], "peer-1;dur=0.500, peer-6;dur=1.000, peer-18;dur=1.000");
        assert_eq!(headers["cache-status"], "peer-1; hit");
        assert_eq!(Trail::of(&headers).hops().collect::<Vec<_>>(), ["peer-1", "peer-6", "peer-18"]);
    }

    #[test]
    fn a_list_over_several_lines_is_one_list_and_bounded() {
        let mut headers = HeaderMap::new();
        headers.append("via", "1.1 a".parse().unwrap());
        headers.append("via", "1.1 b".parse().unwrap());
        assert_eq!(Trail::of(&headers).via, "1.1 a, 1.1 b");
        for _ in 0..3000 {
            headers.append("via", "1.1 xxxx".parse().unwrap());
        }
        assert!(Trail::of(&headers).via.len() <= LIST_BYTES + 2);
    }

    #[test]
    fn entity_tags() {
        let tag = etag(&Sha256([0xab; 32]));
        let text = tag.to_str().unwrap();
        assert!(
            none_match(text, &tag) && none_match("*", &tag) && none_match(&format!("\"x\", W/{text}"), &tag)
        );
        assert!(!none_match("\"x\"", &tag) && !none_match("", &tag));
    }
}

//! The hops that a response took, as its headers tell them.

use serde::Serialize;

use crate::http::Answer;

/// One hop of a response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Hop {
    /// The peer.
    pub peer: String,
    /// Its time to the first byte, in milliseconds; absent where it named none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
}

/// The hops from the requester to the holder: `Via` (RFC 9110 7.6.3, holder first) reversed, each with its entry of
/// `Server-Timing`.
pub(crate) fn of(answer: &Answer) -> Vec<Hop> {
    parse(answer.header("via"), answer.header("server-timing"))
}

fn parse(via: &str, timing: &str) -> Vec<Hop> {
    let time = |peer: &str| {
        timing.split(',').find_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            (parts.next() == Some(peer)).then_some(())?;
            parts.find_map(|part| part.strip_prefix("dur=")?.parse().ok())
        })
    };
    via.split(',')
        .filter_map(|entry| entry.split_whitespace().nth(1))
        .rev()
        .map(|peer| Hop { peer: peer.to_owned(), ms: time(peer) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_run_from_the_requester_to_the_holder() {
        let hops = parse("1.1 peer-1, 1.1 peer-6,1.1 peer-18", "peer-1;dur=0.6, peer-18;dur=2.9, x;dur=7");
        let hop = |peer: &str, ms| Hop { peer: peer.into(), ms };
        assert_eq!(hops, [hop("peer-18", Some(2.9)), hop("peer-6", None), hop("peer-1", Some(0.6))]);
        assert_eq!(parse("", ""), []);
    }
}

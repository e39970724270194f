//! A peer's own numbers, from its `/metrics`.

use crate::{context::ANSWER, http::Client};

/// Bytes in its cache.
pub(crate) const CACHE_BYTES: &str = "hopcast_cache_bytes";
/// Contents that it threw away because their hash or signature was wrong.
pub(crate) const CORRUPT: &str = "hopcast_fetch_corrupt_total";

/// Asks for one of them.
pub(crate) async fn read(client: &mut Client, name: &str) -> Result<u64, String> {
    let answer = client.get("/metrics", ANSWER).await.map_err(|error| error.to_string())?;
    let answer = answer.ok().map_err(|why| format!("/metrics {why}"))?;
    metric(&String::from_utf8_lossy(&answer.body), name).ok_or_else(|| format!("/metrics has no {name}"))
}

/// A metric's value in Prometheus's text format, summed over its label sets.
fn metric(text: &str, name: &str) -> Option<u64> {
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let value = match rest.as_bytes().first() {
            Some(b' ') => rest,
            Some(b'{') => rest.rsplit_once('}')?.1,
            _ => continue, // another metric whose name begins like this one
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(0) + value as u64);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP hopcast_cache_bytes Bytes kept.\n# TYPE hopcast_cache_bytes gauge\n\
            hopcast_cache_bytes_limit 4194304\nhopcast_cache_bytes 131072\n\
            hopcast_relays_total{room=\"rock\"} 3\nhopcast_relays_total{room=\"so}ul\"} 4 1790000000\n";
        assert_eq!(metric(text, "hopcast_cache_bytes"), Some(131_072));
        assert_eq!(metric(text, "hopcast_relays_total"), Some(7));
        assert_eq!(metric(text, "hopcast_cache"), None);
    }
}

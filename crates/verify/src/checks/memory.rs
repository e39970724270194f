//! What every peer takes after its relays: under the cap, with a cache under the plan's bound.

use hopcast_protocol::PeerName;

use crate::{
    context::{ANSWER, Context},
    http::Client,
    proc::memory::{self, Memory},
    report::Tally,
    target::PeerTarget,
};

/// The check's name.
pub(crate) const NAME: &str = "memory";
pub(crate) const CLAIM: &str = "every peer's memory is under the cap, and its cache under the plan's";

/// The gauge of cached bytes at `/metrics`.
const CACHE_BYTES: &str = "hopcast_cache_bytes";

/// The largest peer of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Largest {
    pub(crate) rss_kb: u64,
    pub(crate) private_kb: u64,
    /// Of the peer with the largest resident size.
    pub(crate) cache_bytes: u64,
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

async fn cached(peer: &PeerTarget) -> Result<u64, String> {
    let answer =
        Client::new(peer.endpoint).get("/metrics", ANSWER).await.map_err(|error| error.to_string())?;
    let answer = answer.ok().map_err(|why| format!("/metrics {why}"))?;
    let text = String::from_utf8_lossy(&answer.body);
    metric(&text, CACHE_BYTES).ok_or_else(|| format!("/metrics has no {CACHE_BYTES}"))
}

/// Memory (or why it can't be read) and cached bytes.
type Taken = (PeerName, Result<Memory, String>, Result<u64, String>);

/// Looks at every living peer.
pub(crate) async fn check(context: &Context<'_>) -> (Tally, Largest) {
    let (mut tally, mut largest) = (Tally::default(), Largest::default());
    let (cap_kb, cache) = (context.target.memory_cap / 1024, context.target.plan.limits.cache);
    let look = async |peer: &PeerTarget| -> Taken {
        let pid = peer.pid.ok_or_else(|| format!("the process of {} is not known", peer.name));
        (peer.name.clone(), pid.and_then(memory::read), cached(peer).await)
    };
    context
        .each(NAME, &mut tally, context.living(), look, |tally, (name, memory, cached)| {
            let memory = match memory {
                Ok(memory) => memory,
                Err(why) => return tally.not_run(format!("{name}: {why}")),
            };
            let cached = match cached {
                Ok(cached) => cached,
                Err(why) => return tally.outcome(Err(format!("{name}: {why}"))),
            };
            let Memory { rss, private } = memory;
            if rss > largest.rss_kb {
                (largest.rss_kb, largest.cache_bytes) = (rss, cached);
            }
            largest.private_kb = largest.private_kb.max(private);
            tally.outcome(match () {
                () if rss > cap_kb => Err(format!("{name} has {rss} kB resident, the cap is {cap_kb} kB")),
                () if cached > cache => Err(format!("{name} caches {cached} bytes, the plan allows {cache}")),
                () => Ok(()),
            });
        })
        .await;
    (tally, largest)
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

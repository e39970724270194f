//! What every peer takes after its relays: under the cap, with a cache under the plan's bound.

use hopcast_protocol::PeerName;

use crate::{
    context::Context,
    http::Client,
    metrics,
    proc::memory::{self, Memory},
    report::Tally,
    target::PeerTarget,
};

/// The check's name.
pub(crate) const NAME: &str = "memory";
pub(crate) const CLAIM: &str = "every peer's memory is under the cap, and its cache under the plan's";

/// The largest peer of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Largest {
    pub(crate) rss_kb: u64,
    pub(crate) private_kb: u64,
    /// Of the peer with the largest resident size.
    pub(crate) cache_bytes: u64,
}

async fn cached(peer: &PeerTarget) -> Result<u64, String> {
    metrics::read(&mut Client::new(peer.endpoint), metrics::CACHE_BYTES).await
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

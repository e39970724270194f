//! What every peer takes after its relays: under the cap, with a cache under the plan's bound.
//!
//! A container has a second measure, its control group, which also counts kernel memory and the pages of its files: that
//! is what the kernel holds against the cap. There the cap itself is looked at, too.

use hopcast_protocol::PeerName;

use crate::{
    context::Context,
    metrics,
    proc::{
        cgroup::{self, Group, UNLIMITED},
        memory::{self, Memory},
    },
    report::Tally,
    target::{PeerTarget, Separation},
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
    /// Of a container; absent where there are none.
    pub(crate) container_kb: Option<u64>,
}

async fn cached(context: &Context<'_>, peer: &PeerTarget) -> Result<u64, String> {
    metrics::read(&mut context.player(peer), metrics::CACHE_BYTES).await
}

/// What one peer takes.
struct Taken {
    memory: Memory,
    group: Option<Group>,
}

fn taken(peer: &PeerTarget, separation: Separation) -> Result<Taken, String> {
    let pid = peer.pid.ok_or_else(|| format!("the process of {} is not known", peer.name))?;
    let group = match separation {
        Separation::Addresses | Separation::Hosts => None,
        Separation::Namespaces => Some(cgroup::read(pid)?),
    };
    Ok(Taken { memory: memory::read(pid)?, group })
}

/// What is wrong with it, if anything is.
fn judge(name: &PeerName, taken: &Taken, cached: u64, cap: u64, cache: u64) -> Result<(), String> {
    let (cap_kb, rss) = (cap / 1024, taken.memory.rss);
    if rss > cap_kb {
        return Err(format!("{name} has {rss} kB resident, the cap is {cap_kb} kB"));
    }
    if let Some(Group { used, limit }) = taken.group {
        if limit == UNLIMITED {
            return Err(format!("{name}'s container has no cap, the plan's is {cap} bytes"));
        }
        if limit > cap {
            return Err(format!("{name}'s container may take {limit} bytes, the cap is {cap}"));
        }
        if used > cap {
            return Err(format!("{name}'s container takes {used} bytes, the cap is {cap}"));
        }
    }
    if cached > cache {
        return Err(format!("{name} caches {cached} bytes, the plan allows {cache}"));
    }
    Ok(())
}

/// Looks at every living peer.
pub(crate) async fn check(context: &Context<'_>) -> (Tally, Largest) {
    let (mut tally, mut largest) = (Tally::default(), Largest::default());
    let (cap, cache) = (context.target.memory_cap, context.target.plan.limits.cache);
    let look = async |peer: &PeerTarget| {
        (peer.name.clone(), taken(peer, context.target.separation), cached(context, peer).await)
    };
    context
        .each(NAME, &mut tally, context.living(), look, |tally, (name, taken, cached)| {
            let taken = match taken {
                Ok(taken) => taken,
                Err(why) => return tally.not_run(format!("{name}: {why}")),
            };
            let cached = match cached {
                Ok(cached) => cached,
                Err(why) => return tally.outcome(Err(format!("{name}: {why}"))),
            };
            let Memory { rss, private } = taken.memory;
            if rss > largest.rss_kb {
                (largest.rss_kb, largest.cache_bytes) = (rss, cached);
            }
            largest.private_kb = largest.private_kb.max(private);
            largest.container_kb = largest.container_kb.max(taken.group.map(|group| group.used / 1024));
            tally.outcome(judge(&name, &taken, cached, cap, cache));
        })
        .await;
    (tally, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_can_be_too_large() {
        const CAP: u64 = 15 << 20;
        let name = PeerName::new("peer-1").unwrap();
        let judge = |rss, group: Option<(u64, u64)>, cached| {
            let group = group.map(|(used, limit)| Group { used, limit });
            judge(&name, &Taken { memory: Memory { rss, private: 1 }, group }, cached, CAP, 100)
        };
        assert_eq!(judge(3000, None, 100), Ok(()));
        assert_eq!(judge(3000, Some((1 << 20, CAP)), 100), Ok(()));
        assert!(judge(16 << 10, None, 0).unwrap_err().contains("resident"));
        assert!(judge(1, None, 101).unwrap_err().contains("caches 101"));
        assert!(judge(1, Some((1, UNLIMITED)), 0).unwrap_err().contains("no cap"));
        assert!(judge(1, Some((1, CAP + 1)), 0).unwrap_err().contains("may take"));
        assert!(judge(1, Some((CAP + 1, CAP)), 0).unwrap_err().contains("container takes"));
    }
}

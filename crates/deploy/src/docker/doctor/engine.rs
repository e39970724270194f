//! The engine itself: whether it answers, its version, and what its kernel lets it limit.

use super::super::{Engine, engine::LOOK, place::Subnet};
use crate::{Error, Finding};

/// Major and minor number of the oldest engine that this works with.
const OLDEST: (u32, u32) = (20, 10);

/// Where engines take the addresses of networks from that name none of their own, unless they are told otherwise
/// (`default-address-pools`, dockerd(8)): 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in sixteen parts.
const POOLS: [&str; 5] =
    ["172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16"];

/// What an engine says of itself.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    version: String,
    api: String,
    kernel: String,
    cgroups: String,
    /// The storage driver.
    pub(super) driver: String,
    /// Where it keeps images, volumes and logs.
    pub(super) root: String,
    /// Processors.
    pub(super) cpus: u64,
    /// Memory of its machine, in bytes.
    pub(super) memory: u64,
    /// Its default address pools.
    pub(super) pools: Vec<Subnet>,
    /// What it cannot limit, in the words of its options.
    unlimited: Vec<&'static str>,
    forwards: bool,
}

impl Facts {
    /// Two requests.
    pub(super) async fn read(engine: &Engine) -> Result<Self, Error> {
        let (version, info) =
            tokio::try_join!(
                engine.call("ask the engine for its version", LOOK, |docker| async move {
                    docker.version().await
                }),
                engine.call("ask the engine how it is", LOOK, |docker| async move { docker.info().await }),
            )?;
        // What an engine does not mention it can do.
        let can = |limit: Option<bool>| limit.unwrap_or(true);
        let limits = [
            ("memory", can(info.memory_limit)),
            ("CPU", can(info.cpu_cfs_quota) && can(info.cpu_cfs_period)),
            ("pids", can(info.pids_limit)),
        ];
        let told = info.default_address_pools.unwrap_or_default();
        let told: Vec<_> = told.iter().filter_map(|pool| Subnet::parse(pool.base.as_deref()?)).collect();
        let usual = POOLS.iter().filter_map(|pool| Subnet::parse(pool)).collect();
        Ok(Self {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cgroups: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
            driver: info.driver.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_default(),
            cpus: info.ncpu.unwrap_or_default().max(0) as u64,
            memory: info.mem_total.unwrap_or_default().max(0) as u64,
            pools: if told.is_empty() { usual } else { told },
            unlimited: limits.iter().filter(|(_, can)| !can).map(|(limit, _)| *limit).collect(),
            forwards: can(info.ipv4_forwarding),
        })
    }

    pub(super) fn findings(&self, engine: &Engine) -> Vec<Finding> {
        let text = format!(
            "{} at {}, API {}, cgroup v{}, storage {}, Linux {}",
            self.version,
            engine.host(),
            self.api,
            self.cgroups,
            self.driver,
            self.kernel
        );
        let mut findings = vec![match number(&self.version) {
            Some(found) if found < OLDEST => Finding::missing(
                "docker engine",
                format!(
                    "{text}: install {}.{} or newer (Debian: apt-get install docker.io)",
                    OLDEST.0, OLDEST.1
                ),
            ),
            _ => Finding::ok("docker engine", text),
        }];
        findings.push(if self.unlimited.is_empty() {
            Finding::ok("limits", "this kernel lets the engine limit memory, CPU and pids")
        } else {
            Finding::warning(
                "limits",
                format!(
                    "this kernel does not let the engine limit {}: the caps of the file will not hold (cgroups must be enabled, see `docker info`)",
                    self.unlimited.join(", ")
                ),
            )
        });
        if !self.forwards {
            findings.push(Finding::warning(
                "forwarding",
                "net.ipv4.ip_forward is 0, so published ports are reached from this machine alone, if at all: `sysctl -w net.ipv4.ip_forward=1`",
            ));
        }
        if self.driver == "vfs" {
            findings.push(Finding::warning(
                "storage",
                "the storage driver vfs copies the whole image for every container: use overlay2, or fuse-overlayfs where the kernel has no overlay",
            ));
        }
        findings
    }
}

/// What to do about an engine that cannot be reached.
pub(super) fn unreachable(error: &Error) -> String {
    let text = error.to_string();
    let todo = if text.contains("ermission denied") {
        "its socket is not for this user: be in the group docker (`usermod -aG docker USER`, then log in again), or be root"
    } else if text.contains("DOCKER_HOST") {
        return text;
    } else {
        "Debian: `apt-get install docker.io`, then `systemctl start docker`, or `dockerd &` where there is no systemd"
    };
    format!("{text} ({todo})")
}

/// Major and minor number of `20.10.24+dfsg1`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(number("9.10.1").unwrap() < OLDEST);
        assert!(number("20.9.0").unwrap() < OLDEST);
        assert!(number("20.10.24+dfsg1").unwrap() >= OLDEST);
        assert!(number("28.2.2").unwrap() >= OLDEST);
        assert_eq!(number("dev"), None);
    }
}

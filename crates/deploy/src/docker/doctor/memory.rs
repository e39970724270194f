//! What a mesh will take of this machine's memory. Pure.
//!
//! The constants were measured on the shipped plan (160 peers, three databases) with Docker Engine 20.10 (cgroup v1,
//! containerd 1.6, fuse-overlayfs) on Debian 12. Containers are counted as `docker stats` does; the engine's own processes by
//! their proportional set size, because most of what `ps` shows of a shim is the program that all shims share.

use hopcast_topology::Plan;
use serde::Serialize;

/// A peer that is connected and has relayed little: 0.52 to 1.57 MiB, 0.89 on average.
pub const PEER: u64 = 910 << 10;
/// A peer that has relayed, beside its cached segments: 0.9 MiB, and 64 KiB for each of 8 transfers.
pub const PEER_BUSY: u64 = 1536 << 10;
/// A signalling server on its own: 1.2 MiB; its door's buffers come on top.
pub const SIGNALLING: u64 = 2 << 20;
/// Each peer in each room is a connection of the server's (11.3 MiB with 289 of them).
pub const CONNECTION: u64 = 32 << 10;
/// A database with the settings that it gets here, with songs, replication and no gateway: 56 MiB.
pub const DATABASE: u64 = 56 << 20;
/// Each gateway's connection is a process of its edge's (68 to 70 MiB with 8 of them).
pub const GATEWAY: u64 = 1640 << 10;
/// containerd-shim-runc-v2, one for each container: 2.7 to 2.8 MiB among 164, of which 2.4 are its own.
pub const SHIM: u64 = 2850 << 10;
/// The same as `ps` shows it: 13.2 MB (5 with other versions).
pub const SHIM_RESIDENT: u64 = 13 << 20;
/// What dockerd and containerd grow by for each container (0.38 and 0.20 MiB).
pub const ENGINE: u64 = 590 << 10;
/// The process that the storage driver fuse-overlayfs has for each container.
pub const FUSE: u64 = 256 << 10;
/// docker-proxy, one for each published port.
pub const PROXY: u64 = 1640 << 10;

/// A prediction, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All peers, soon after `up`.
    pub peers: u64,
    /// The signalling server.
    pub signalling: u64,
    /// All databases.
    pub databases: u64,
    /// All containers, soon after `up`: the sum of those.
    pub containers: u64,
    /// All containers when every peer's cache is full.
    pub full: u64,
    /// The engine's shims.
    pub shims: u64,
    /// What `ps` shows of the shims; most of it is one program, counted many times.
    pub shims_resident: u64,
    /// What else the engine takes for the containers: what its daemons grow by, storage, published ports.
    pub engine: u64,
    /// Everything, soon after `up`: containers, shims and engine.
    pub total: u64,
}

/// Predicts it for a plan, on an engine with this storage driver.
pub fn predict(plan: &Plan, driver: &str) -> Memory {
    let peers = plan.peers.len() as u64;
    let databases = plan.edges.len() as u64 + 1;
    let gateways: u64 = plan.edges.iter().map(|edge| edge.peers.len() as u64).sum();
    let connections: u64 = plan.rooms.iter().map(|room| room.peers.len() as u64).sum();
    let nodes = peers + databases + 1;
    let fuse = if driver == "fuse-overlayfs" { FUSE } else { 0 };

    let idle = peers * PEER.min(plan.limits.memory);
    let busy = peers * (PEER_BUSY + plan.limits.cache).min(plan.limits.memory);
    let signalling = SIGNALLING + connections * CONNECTION;
    let stored = databases * DATABASE + gateways * GATEWAY;
    let containers = idle + signalling + stored;
    let shims = nodes * SHIM;
    // The signalling server's own port, and the door's.
    let engine = nodes * (ENGINE + fuse) + 2 * PROXY;
    Memory {
        peers: idle,
        signalling,
        databases: stored,
        containers,
        full: busy + signalling + stored,
        shims,
        shims_resident: nodes * SHIM_RESIDENT,
        engine,
        total: containers + shims + engine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn each_part_grows_with_what_it_is_made_of_and_no_peer_is_above_its_cap() {
        let mut plan = plan();
        let small = predict(&plan, "overlay2");
        assert_eq!(small.containers, small.peers + small.databases + small.signalling);
        assert_eq!(small.total, small.containers + small.shims + small.engine);
        let nodes = 7; // 3 peers, 3 databases, 1 server
        assert_eq!(predict(&plan, "fuse-overlayfs").engine - small.engine, nodes * FUSE);
        plan.limits.cache = 1 << 30;
        assert_eq!(predict(&plan, "").full - small.full, 3 * (plan.limits.memory - PEER_BUSY - (4 << 20)));
        plan.edges.pop();
        let fewer = predict(&plan, "overlay2");
        assert_eq!(small.databases - fewer.databases, DATABASE + GATEWAY);
        assert_eq!(small.shims - fewer.shims, SHIM);
    }
}

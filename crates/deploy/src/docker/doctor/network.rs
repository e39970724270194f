//! Addresses, bridges and the kernel's neighbour table.

use hopcast_protocol::MeshName;
use hopcast_topology::Plan;

use super::super::{
    checks::{self, Route},
    place::Subnet,
    present::Present,
    wanted::{Network, Wanted},
};
use crate::Finding;

/// Ports of a Linux bridge (`BR_MAX_PORTS` in net/bridge/br_private.h is 1024; number 0 is never given).
const BRIDGE_PORTS: usize = 1023;

/// The mesh's networks against those of others, the routes of this machine and the engine's own pools.
pub(super) fn subnets(
    networks: &[Network],
    mesh: &MeshName,
    present: &Present,
    routes: &[Route],
    pools: &[Subnet],
) -> Finding {
    const WHAT: &str = "addresses";
    if let Err(error) = checks::subnets(networks, mesh, present, routes) {
        return Finding::missing(WHAT, error.to_string());
    }
    let all = networks.iter().map(|network| format!("{} {}", network.name, network.subnet));
    let all = all.collect::<Vec<_>>().join(", ");
    let clash = networks
        .iter()
        .find_map(|network| Some((network, pools.iter().find(|pool| pool.overlaps(network.subnet))?)));
    match clash {
        None => Finding::ok(
            WHAT,
            format!(
                "{all}: nobody else's, and none is taken from the engine's own pools (about 31 networks)"
            ),
        ),
        Some((network, pool)) => Finding::warning(
            WHAT,
            format!(
                "{all}: free now, but {} is in the engine's own pool {pool}, from which it may give these addresses to another network: choose another docker.subnet in the topology file, such as 10.77.0.0/16",
                network.name
            ),
        ),
    }
}

/// Every container takes a port of the bridge of each of its networks.
pub(super) fn bridges(wanted: &Wanted) -> Finding {
    const WHAT: &str = "bridge ports";
    let full = wanted.networks.iter().map(|network| {
        let here = |node: &&super::wanted::Node| {
            node.container.networks.iter().any(|(name, _)| *name == network.name)
        };
        (wanted.nodes.iter().filter(here).count(), &network.name)
    });
    // One more for the operator's helper.
    match full.max_by_key(|(count, _)| *count) {
        Some((count, name)) if count + 1 > BRIDGE_PORTS => Finding::missing(
            WHAT,
            format!(
                "{name} needs {}, a Linux bridge has {BRIDGE_PORTS}: at most {} peers fit into one mesh on one engine (COUNT, or peers.count in the topology file)",
                count + 1,
                BRIDGE_PORTS - 2
            ),
        ),
        Some((count, name)) => {
            Finding::ok(WHAT, format!("{name}, the fullest network, needs {} of {BRIDGE_PORTS}", count + 1))
        }
        None => Finding::ok(WHAT, "no network"),
    }
}

/// Entries of the kernel's neighbour (ARP) table that the mesh needs at most: each end of a link, of a connection to the
/// signalling server and of one to a database has one for the other. Players come through the door, which is the signalling
/// server's. The table is one for all network namespaces (arp(7): gc_thresh3 is its hard limit).
fn wanted_neighbours(plan: &Plan) -> u64 {
    let gateways: usize = plan.edges.iter().map(|edge| edge.peers.len()).sum();
    let of_peers = plan.links.len() + plan.peers.len() + gateways;
    // The edges replicate from the origin, helpers reach every database, this machine the signalling server.
    2 * (of_peers + 3 * plan.edges.len() + 2) as u64
}

/// That against the table's limits. `there`: the mesh runs, so its entries are among those that are counted.
pub(super) fn neighbours(plan: &Plan, there: bool) -> Finding {
    const WHAT: &str = "ARP table";
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/net/ipv4/neigh/default/{name}")).ok()?.trim().parse().ok()
    };
    let held = std::fs::read_to_string("/proc/net/stat/arp_cache").ok();
    let held = if there { 0 } else { held.as_deref().and_then(entries).unwrap_or_default() };
    judge(WHAT, wanted_neighbours(plan), held, read("gc_thresh2").zip(read("gc_thresh3")))
}

fn judge(what: &'static str, wanted: u64, held: u64, limits: Option<(u64, u64)>) -> Finding {
    let need = wanted + held;
    let text = format!(
        "the mesh needs up to {wanted} entries{}",
        match held {
            0 => String::new(),
            held => format!(" beside {held} that there are"),
        }
    );
    let Some((soft, hard)) = limits else {
        return Finding::warning(
            what,
            format!(
                "{text}, and how many there may be cannot be read here (net.ipv4.neigh.default.gc_thresh3)"
            ),
        );
    };
    if need <= hard {
        return Finding::ok(
            what,
            format!("{text}, {hard} fit (gc_thresh3; from {soft} on the kernel clears up)"),
        );
    }
    let (more_soft, more_hard) = (need.next_power_of_two(), 2 * need.next_power_of_two());
    Finding::warning(
        what,
        format!(
            "{text}, {hard} fit: where it overflows (\"neighbor table overflow\" in the kernel's log) connections wait for seconds. `sysctl -w net.ipv4.neigh.default.gc_thresh3={more_hard} net.ipv4.neigh.default.gc_thresh2={more_soft}` (in /etc/sysctl.d to keep it)"
        ),
    )
}

/// The first number of `/proc/net/stat/arp_cache`, in hexadecimal digits: entries in all namespaces.
fn entries(table: &str) -> Option<u64> {
    u64::from_str_radix(table.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Verdict, docker::wanted, fixture::plan};

    #[test]
    fn an_overlap_names_both_sides_and_a_pool_is_a_warning() {
        let plan = plan();
        let networks = wanted::networks(&plan);
        let route = Route { device: "tun0".into(), subnet: Subnet::parse("10.0.0.0/8").unwrap() };
        let look = |routes: &[Route], pools: &[Subnet]| {
            subnets(&networks, &plan.mesh, &Present::default(), routes, pools)
        };
        assert_eq!(look(&[], &[]).verdict, Verdict::Ok);
        let found = look(std::slice::from_ref(&route), &[]);
        assert!(found.verdict == Verdict::Missing && found.detail.contains("tun0"), "{found:?}");
        let found = look(&[], &[Subnet::parse("10.64.0.0/10").unwrap()]);
        assert!(found.verdict == Verdict::Warning && found.detail.contains("10.64.0.0/10"), "{found:?}");
    }

    #[test]
    fn a_table_that_is_too_small_is_told_with_numbers_that_fit() {
        // Two links; three peers; two gateways; two edges.
        assert_eq!(wanted_neighbours(&plan()), 2 * (2 + 3 + 2 + 6 + 2));
        let table = "entries  allocs\n0000000e 00000008\n";
        assert_eq!(entries(table), Some(14));
        assert_eq!(judge("", 1010, 14, Some((512, 1024))).verdict, Verdict::Ok);
        let found = judge("", 1200, 14, Some((512, 1024)));
        assert!(found.verdict == Verdict::Warning && found.detail.contains("gc_thresh3=4096"), "{found:?}");
    }
}

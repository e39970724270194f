//! The clusters of a local mesh: where each listens, whom it admits, and its settings.

use hopcast_protocol::DatabaseName;
use hopcast_store::{hba, settings};
use hopcast_topology::Plan;

use crate::wire;

/// The clusters of a plan, the origin first.
pub(super) fn of(plan: &Plan) -> Vec<wire::Cluster> {
    // Who deploys, and the edges' own servers, dial from the system's choice: on loopback that is 127.0.0.1.
    let here = [hba::Block::from(std::net::IpAddr::from([127, 0, 0, 1]))];
    let owner = hba::Owner {
        database: &plan.postgres.database,
        user: &plan.postgres.user,
        from: &here,
        socket: false,
    };
    let cluster = |name: &DatabaseName, listen: std::net::SocketAddr, hba: String, purpose| wire::Cluster {
        name: name.clone(),
        listen,
        user: plan.postgres.user.clone(),
        hba,
        settings: settings::text(purpose, settings::Listen::Addresses(&[listen.ip()]), Some(listen.port())),
    };
    let gateways = plan.edges.iter().map(|edge| edge.peers.len() as u32).sum();
    let purpose = settings::Purpose::Origin { edges: plan.edges.len() as u32, gateways };
    let origin = cluster(&plan.origin.name, plan.origin.local, hba::origin(&owner, &here), purpose);
    let edges = plan.edges.iter().map(|edge| {
        let addresses: Vec<_> =
            edge.peers.iter().filter_map(|peer| Some(plan.peer(peer.as_str())?.local.ip())).collect();
        let purpose = settings::Purpose::Edge { gateways: edge.peers.len() as u32 };
        cluster(&edge.name, edge.local, hba::edge(&owner, &addresses), purpose)
    });
    std::iter::once(origin).chain(edges).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn an_edge_admits_its_own_gateways_and_the_origin_no_peer() {
        let clusters = of(&plan());
        let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        assert_eq!(names, ["origin-db", "edge-db-a", "edge-db-b"]);
        assert!(!clusters[0].hba.contains("127.80.240."), "{}", clusters[0].hba);
        assert!(clusters[1].hba.contains("127.80.240.1/32") && !clusters[1].hba.contains("127.80.240.3/32"));
        assert!(clusters[2].hba.contains("127.80.240.3/32") && !clusters[2].hba.contains("127.80.240.1/32"));
        for cluster in &clusters {
            assert!(cluster.settings.contains(&format!("listen_addresses = '{}'", cluster.listen.ip())));
        }
    }
}

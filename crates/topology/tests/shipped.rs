//! The file at the top of the repository.

use hopcast_topology::{Env, Loaded, Plan, Source, init_text, load};

fn shipped(variables: &[(&str, &str)]) -> Loaded {
    let env: Env = variables.iter().copied().collect();
    load(Source::new("topology.toml", init_text()), &env)
        .unwrap_or_else(|report| panic!("{variables:?}\n{report}"))
}

fn room_names(plan: &Plan) -> Vec<&str> {
    plan.rooms.iter().map(|room| room.name.as_str()).collect()
}

#[test]
fn is_the_original_mesh() {
    let Loaded { plan, warnings } = shipped(&[]);
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(plan.peers.len(), 160);
    assert_eq!(plan.links.len(), 320);
    assert_eq!(room_names(&plan), ["rock", "soul", "jazz"]);
    let sizes: Vec<_> = plan.rooms.iter().map(|room| room.peers.len()).collect();
    assert_eq!(sizes, [100, 101, 88]);
    let first = &plan.peers[0];
    let neighbors: Vec<_> = first.neighbors.iter().map(|name| name.as_str()).collect();
    assert_eq!(neighbors, ["peer-2", "peer-5", "peer-157", "peer-160"]);
    assert_eq!(first.local.to_string(), "127.77.0.1:8080");
    assert_eq!(first.docker.to_string(), "10.77.0.2:8080");
    assert_eq!(plan.peers[159].local.to_string(), "127.77.0.160:8080");
    assert_eq!((plan.peers[0].nixos.host, plan.peers[0].nixos.port), (1, 8081));
    assert_eq!((plan.peers[159].nixos.host, plan.peers[159].nixos.port), (4, 8240));
    assert_eq!(plan.origin.local.to_string(), "127.77.255.254:5432");
    let edges: Vec<_> = plan.edges.iter().map(|edge| (edge.name.as_str(), edge.network.as_str())).collect();
    assert_eq!(edges, [("edge-db-a", "edge-a-net"), ("edge-db-b", "edge-b-net")]);
    let peers = |edge: usize| plan.edges[edge].peers.iter().map(|name| name.as_str()).collect::<Vec<_>>();
    assert_eq!(
        (peers(0)[0], peers(0)[7], peers(1)[0], peers(1)[7]),
        ("peer-1", "peer-8", "peer-20", "peer-27")
    );
    assert_eq!(plan.edges[1].local.to_string(), "127.77.255.252:5432");
    assert_eq!(plan.signalling.local.to_string(), "127.0.0.1:7080");
    assert_eq!(plan.signalling.listen.to_string(), "0.0.0.0:7080");
    assert_eq!(plan.songs.len(), 1);
    assert_eq!((plan.songs[0].name.as_str(), plan.songs[0].rooms.len()), ("demo", 3));
    assert_eq!(plan.limits.memory, 15 << 20);
    assert_eq!(plan.limits.patience_ms, 12_000);
}

#[test]
fn takes_every_count_of_the_original() {
    for count in 1..=160 {
        let Loaded { plan, .. } = shipped(&[("COUNT", &count.to_string())]);
        assert_eq!(plan.peers.len(), count);
        assert!(plan.rooms.iter().all(|room| !room.peers.is_empty()));
        assert_eq!(plan.rooms.len(), if count < 20 { 2 } else { 3 }, "COUNT={count}");
        assert_eq!(plan.edges.len(), if count < 20 { 1 } else { 2 }, "COUNT={count}");
    }
}

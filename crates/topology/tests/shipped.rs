//! The file at the top of the repository.

use hopcast_protocol::PeerName;
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
    let neighbors: Vec<_> = first.neighbors.iter().map(PeerName::as_str).collect();
    assert_eq!(neighbors, ["peer-2", "peer-5", "peer-157", "peer-160"]);
    assert_eq!(first.local.to_string(), "127.77.0.1:8080");
    assert_eq!(first.docker.to_string(), "10.77.0.2:8080");
    assert_eq!(plan.peers[159].local.to_string(), "127.77.0.160:8080");
    assert_eq!((plan.peers[0].nixos.host, plan.peers[0].nixos.port), (1, 8081));
    assert_eq!((plan.peers[159].nixos.host, plan.peers[159].nixos.port), (4, 8240));
    assert_eq!(plan.origin.local.to_string(), "127.77.255.254:5432");
    let edges: Vec<_> = plan.edges.iter().map(|edge| (edge.name.as_str(), edge.network.as_str())).collect();
    assert_eq!(edges, [("edge-db-a", "edge-a-net"), ("edge-db-b", "edge-b-net")]);
    let peers = |edge: usize| plan.edges[edge].peers.iter().map(PeerName::as_str).collect::<Vec<_>>();
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
fn takes_the_originals_example() {
    let variables = [
        ("COUNT", "80"),
        ("EDGE1_PEERS", "peer-1,peer-2,peer-3"),
        ("EDGE2_PEERS", "peer-40,peer-41,peer-42"),
    ];
    let Loaded { plan, warnings } = shipped(&variables);
    assert!(warnings.is_empty(), "{warnings}");
    let gateways: Vec<_> = plan.gateways().map(|peer| peer.number).collect();
    assert_eq!((plan.peers.len(), gateways), (80, vec![1, 2, 3, 40, 41, 42]));
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

#[test]
fn every_alternative_in_its_comments_is_right() {
    // Each commented-out key alone, in its place.
    let lines: Vec<_> = init_text().lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(key) = line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.starts_with(' '))
        else {
            continue;
        };
        if ["between", "latency", "jitter", "rate", "loss", "remove"].iter().any(|name| key.starts_with(name))
        {
            continue; // Below, with their table.
        }
        let mut changed = lines.clone();
        changed[at] = key;
        check(&changed.join("\n"));
        tried += 1;
    }
    assert!(tried >= 5, "{tried}");
    // The commented tables of links, as a whole.
    let from = init_text().find("# [[links]]").unwrap();
    let until = from + init_text()[from..].find("\n\n").unwrap();
    let tables =
        init_text()[from..until].replace("\n# ", "\n").replace("\n#\n", "\n\n").replacen("# ", "", 1);
    let plan = check(&init_text().replace(&init_text()[from..until], &tables));
    assert_eq!(plan.links.len(), 320, "one more, one less");
    // The other shapes; a random one may leave a room in pieces, but nothing else may be wrong.
    let shapes: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("#   {")).collect();
    assert_eq!(shapes.len(), 7);
    for shape in shapes {
        let inline = &shape[..=shape.find('}').unwrap()];
        let text = init_text().replace("{ shape = \"ring\", skip = [4] }", &format!("{{{inline}"));
        let graph = r#"{"nodes": [{"id": "peer-1"}], "links": [{"source": "peer-1", "target": "peer-1"}]}"#;
        let read = |_: &str, _: usize| Ok(graph.to_owned());
        if let Err(report) = load(Source::new("t", &text).with_graphs(&read), &Env::empty()) {
            assert!(report.entries().all(|entry| entry.code == "disconnected-room"), "{inline}\n{report}");
        }
    }
}

fn check(text: &str) -> Plan {
    load(Source::new("topology.toml", text), &Env::empty())
        .unwrap_or_else(|report| panic!("{text}\n{report}"))
        .plan
}

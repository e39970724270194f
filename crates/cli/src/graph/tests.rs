//! The pictures of small meshes as text, and that Graphviz takes them.

use std::collections::HashSet;

use graphviz_rust::dot_structures::{Graph, Stmt};
use hopcast_protocol::PeerName;
use hopcast_topology::{Env, Plan, Source, load};

use super::{Format, Overlay, dot, render};

/// A ring of so many peers with skip 4 (from 6 peers on). One room has them all, the other the first half; the first two peers and
/// the last are gateways.
fn plan(peers: usize) -> Plan {
    let skip = if peers > 5 { ", skip = [4]" } else { "" };
    let emulated = if peers > 5 {
        "[[links]]\nbetween = [\"peer-1\", \"peer-2\"]\nlatency = \"20ms\"\nloss = 0.01"
    } else {
        ""
    };
    let text = format!(
        r#"
[mesh]
name = "little"
[peers]
count = {peers}
links = {{ shape = "ring"{skip} }}
[[rooms]]
name = "rock"
peers = ["*"]
[[rooms]]
name = "soul"
peers = ["peer-1..peer-{half}"]
{emulated}
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1..peer-2"]
[[edges]]
name = "edge-db-b"
network = "edge-b-net"
peers = ["peer-{peers}"]
"#,
        half = peers.div_ceil(2),
    );
    match load(Source::new("topology.toml", &text), &Env::empty()) {
        Ok(loaded) => loaded.plan,
        Err(report) => panic!("{report}"),
    }
}

fn peer(n: usize) -> PeerName {
    PeerName::new(format!("peer-{n}")).expect("a name")
}

/// All but peer-4, the link 1-2 down, and a way of two hops.
fn live(peers: usize) -> Overlay {
    Overlay {
        connected: Some((1..=peers).filter(|&n| n != 4).map(peer).collect::<HashSet<_>>()),
        down: HashSet::from([(peer(2), peer(1))]),
        path: vec![peer(1), peer(5), peer(6)],
    }
}

/// The statements that declare or connect that name.
fn about<'d>(dot: &'d str, start: &str) -> Vec<&'d str> {
    dot.lines().map(str::trim).filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_small_mesh() {
    insta::assert_snapshot!(dot(&plan(6), &Overlay::default()));
}

#[test]
fn a_small_mesh_that_runs() {
    insta::assert_snapshot!(dot(&plan(6), &live(6)));
}

#[test]
fn every_peer_database_and_link_is_there_once() {
    let plan = plan(160);
    let text = dot(&plan, &Overlay::default());
    let Graph::Graph { stmts, .. } = graphviz_rust::parse(&text).expect("DOT") else { panic!("undirected") };
    let names: Vec<String> = stmts
        .iter()
        .filter_map(|statement| match statement {
            Stmt::Node(node) => {
                Some(node.id.0.to_string().trim_start_matches("esc ").trim_matches('"').to_owned())
            }
            _ => None,
        })
        .collect();
    for wanted in
        plan.peers.iter().map(|peer| peer.name.as_str()).chain(["origin-db", "edge-db-a", "edge-db-b"])
    {
        assert_eq!(names.iter().filter(|name| *name == wanted).count(), 1, "{wanted}");
    }
    for link in &plan.links {
        let statement = format!(r#""{}" -- "{}" ["#, link.a, link.b);
        assert_eq!(about(&text, &statement).len(), 1, "{statement}");
    }
}

#[test]
fn what_runs_shows() {
    let text = dot(&plan(160), &live(160));
    assert!(about(&text, r#""peer-4"["#)[0].contains("dashed"), "dead");
    assert!(!about(&text, r#""peer-5"["#)[0].contains("dashed"), "alive");
    for (a, b) in [(3, 4), (4, 5), (4, 8), (4, 160)] {
        let link = about(&text, &format!(r#""peer-{a}" -- "peer-{b}" ["#))[0];
        assert!(link.contains(super::colour::DEAD_LINK), "a dead peer's: {link}");
    }
    assert!(about(&text, r#""peer-4" -- "peer-8" ["#)[0].contains("dashed"));
    let down = about(&text, r#""peer-1" -- "peer-2" ["#)[0];
    assert!(down.contains(super::colour::DEAD), "down, whichever end comes first: {down}");
    let cut = Overlay { down: HashSet::from([(peer(9), peer(5))]), ..Overlay::default() };
    assert!(about(&dot(&plan(160), &cut), r#""peer-5" -- "peer-9" ["#)[0].contains("dashed"));
    for hop in [r#""peer-1" -- "peer-5" ["#, r#""peer-5" -- "peer-6" ["#] {
        assert!(about(&text, hop)[0].contains(super::colour::PATH), "{hop} is on the way");
    }
    assert!(!about(&text, r#""peer-6" -- "peer-7" ["#)[0].contains(super::colour::PATH));
    assert!(text.contains("159 connected · 1 dead · 1 link down"), "{text}");
    assert!(text.contains("peer-1 → peer-5 → peer-6"));
}

#[test]
fn graphviz_paints_it() {
    for peers in [1, 2, 5, 40, 160] {
        let text = dot(&plan(peers.max(2)), &live(peers));
        let svg =
            String::from_utf8(render(&text, Format::Svg).expect("Graphviz paints")).expect("SVG is text");
        assert!(svg.contains("</svg>") && svg.contains("<title>peer&#45;1</title>"), "{svg}");
        let png = render(&text, Format::Png).expect("Graphviz paints");
        assert!(png.starts_with(b"\x89PNG\r\n"));
    }
}

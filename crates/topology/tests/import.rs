//! Graphs from files.

use hopcast_topology::{Env, Loaded, MAX_GRAPH, Report, Source, load};

fn load_graph(name: &str, graph: &str, count: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let text = format!(
        "[peers]\n{count}links = {{ import = \"{name}\" }}\n[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n\
         [[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = [\"peer-1\"]\n"
    );
    let env: Env = variables.iter().copied().collect();
    let read = |path: &str, limit: usize| {
        assert_eq!((path, limit), (name, MAX_GRAPH));
        Ok(graph.to_owned())
    };
    load(Source::new("topology.toml", &text).with_graphs(&read), &env)
}

fn links(name: &str, graph: &str) -> Vec<String> {
    let plan = load_graph(name, graph, "", &[]).unwrap_or_else(|report| panic!("{report}")).plan;
    plan.links.iter().map(|link| format!("{} {}", link.a, link.b)).collect()
}

/// What `json.dumps(networkx.node_link_data(networkx.path_graph(3)))` prints, before and since networkx 3.4.
const LINKS: &str = r#"{"directed": false, "multigraph": false, "graph": {}, "nodes": [{"id": 0}, {"id": 1}, {"id": 2}], "links": [{"source": 0, "target": 1}, {"source": 1, "target": 2}]}"#;

#[test]
fn networkx_json_with_links_or_edges() {
    assert_eq!(links("g.json", LINKS), ["peer-1 peer-2", "peer-2 peer-3"]);
    assert_eq!(links("g.json", &LINKS.replace("links", "edges")), ["peer-1 peer-2", "peer-2 peer-3"]);
}

#[test]
fn names_stand_for_peers_in_order_and_self_links_and_duplicates_are_skipped() {
    let graph = r#"{"nodes": [{"id": "Oslo"}, {"id": "Rome"}, {"id": "Bonn"}], "links": [
        {"source": "Bonn", "target": "Oslo", "weight": 3}, {"source": "Oslo", "target": "Bonn"},
        {"source": "Rome", "target": "Rome"}, {"source": "Rome", "target": "Bonn"}]}"#;
    assert_eq!(links("g.JSON", graph), ["peer-1 peer-3", "peer-2 peer-3"]);
}

#[test]
fn names_of_peers_are_those_peers() {
    let csv = "peer-3,peer-1\npeer-3,peer-2\n";
    assert_eq!(links("g.csv", csv), ["peer-1 peer-3", "peer-2 peer-3"]);
    let report = load_graph("g.csv", "peer-3,peer-1\npeer-3,Bonn\n", "", &[]).unwrap_err();
    let entry = report.entries().next().unwrap();
    assert_eq!(
        (entry.file.as_deref(), entry.line, entry.column, entry.text.as_str()),
        (Some("g.csv"), 2, 8, "Bonn")
    );
}

#[test]
fn csv_with_and_without_a_header() {
    let expected = ["peer-1 peer-2", "peer-2 peer-3"];
    assert_eq!(links("g.csv", "a,b\nb,c\n"), expected);
    assert_eq!(links("g.csv", "# remark\r\nsource,target\r\na,b\r\n\r\nb,c"), expected);
    assert_eq!(links("g.csv", "weight, Target ,SOURCE\n1,a,b\n2,b,c\n").len(), 2);
    assert_eq!(links("g.csv", "\"a, b\",b,9\nb,\"c\"\"\"\n"), expected);
}

#[test]
fn the_number_of_nodes_is_the_number_of_peers_unless_given() {
    let plan = load_graph("g.json", LINKS, "", &[]).unwrap().plan;
    assert_eq!(plan.peers.len(), 3);
    let report = load_graph("g.json", LINKS, "count = 2\n", &[]).unwrap_err();
    assert!(report.to_string().contains("write `count = 3`"), "{report}");
    let report = load_graph("g.json", LINKS, "count = 4\n", &[]).unwrap_err();
    assert!(report.to_string().contains("disconnected-room"), "{report}");
    let plan = load_graph("g.json", LINKS, "", &[("COUNT", "2"), ("PREFIX", "node")]).unwrap().plan;
    assert_eq!((plan.links.len(), plan.links[0].a.as_str()), (1, "node-1"));
}

#[test]
fn what_is_wrong_with_a_graph_is_shown_in_the_graph() {
    let graph = "{\"nodes\": [{\"id\": 0}, {\"name\": \"x\"}],\n \"links\": [\n  {\"source\": 0, \"target\": 7},\n  {\"source\": null}]}";
    let report = load_graph("g.json", graph, "", &[]).unwrap_err();
    insta::assert_snapshot!(report.render(false, 120));
    let report = load_graph("g.json", "{\"nodes\": [\n  {\"id\": 0},,\n]}", "", &[]).unwrap_err();
    insta::assert_snapshot!(report.render(false, 120));
    let report = load_graph("g.csv", "a,b\nc\n,d\n", "", &[]).unwrap_err();
    insta::assert_snapshot!(report.render(false, 120));
    for (name, graph) in
        [("g.xml", "<g/>"), ("g.csv", ""), ("g.json", "[]"), ("g.json", ""), ("g.json", "{}")]
    {
        let report = load_graph(name, graph, "", &[]).unwrap_err();
        assert_eq!(report.errors(), 1, "{name} {graph:?}\n{report}");
    }
}

#[test]
fn a_number_and_a_text_are_not_taken_for_one_node() {
    let graph = |nodes: &str| format!(r#"{{"nodes": [{nodes}], "links": [{{"source": 1, "target": 2}}]}}"#);
    let report = load_graph("g.json", &graph(r#"{"id": 1}, {"id": 2}, {"id": "1"}"#), "", &[]).unwrap_err();
    assert!(report.to_string().contains("`1` is a node as a number and one as a text"), "{report}");
    // The same node twice is one, and a link may write an id either way.
    let twice = graph(r#"{"id": "1"}, {"id": 2}, {"id": "1"}"#);
    assert_eq!(load_graph("g.json", &twice, "", &[]).unwrap().plan.peers.len(), 2);
}

#[test]
fn a_graph_that_can_not_be_read_or_is_too_long() {
    let text = "[peers]\nlinks = { import = \"g.csv\", seed = 1 }\n[[rooms]]\nname = \"a\"\npeers = [\"peer-900\"]\n\
                [[edges]]\nname = \"e\"\nnetwork = \"n\"\npeers = [\"*\"]\n";
    let report = load(Source::new("t", text), &Env::empty()).unwrap_err();
    let codes: Vec<_> = report.entries().map(|entry| entry.code).collect();
    assert_eq!(
        codes,
        ["unreadable", "foreign-key"],
        "no word about peer-900: nobody knows how many there are"
    );
    let long = "a,b\n".repeat(MAX_GRAPH / 4 + 1);
    let report = load_graph("g.csv", &long, "", &[]).unwrap_err();
    assert!(report.to_string().contains("at most 16777216 are read"));
}

#[test]
fn a_byte_order_mark_is_no_name() {
    let csv = load_graph("g.csv", "\u{feff}source,target\r\na,b\r\nb,c\r\n", "", &[]).unwrap();
    assert_eq!((csv.plan.peers.len(), csv.plan.links.len()), (3, 2));
    let json = r#"{"nodes": [{"id": 1}, {"id": 2}], "links": [{"source": 1, "target": 2}]}"#;
    let json = load_graph("g.json", &format!("\u{feff}{json}"), "", &[]).unwrap();
    assert_eq!((json.plan.peers.len(), json.plan.links.len()), (2, 1));
}

#[test]
fn a_graph_has_the_limits_of_every_mesh() {
    let path = |nodes: u32| {
        (1..nodes).flat_map(|node| [node.to_string(), format!(",{}\n", node + 1)]).collect::<String>()
    };
    assert_eq!(load_graph("g.csv", &path(20_000), "", &[]).unwrap().plan.peers.len(), 20_000);
    // More than there are ports, too: nothing is said that only follows.
    for (nodes, count) in [(20_001, ""), (70_000, ""), (20_001, "count = 20000\n")] {
        let report = load_graph("g.csv", &path(nodes), count, &[]).err().unwrap();
        let codes: Vec<_> = report.entries().map(|entry| entry.code).collect();
        assert_eq!(codes, ["graph-too-large"], "{nodes} {count}\n{report}");
        assert!(report.to_string().contains("at most 20000 peers are possible"), "{report}");
    }
    // Each linked to the next 501 of 2000: no peer has too many links.
    let dense: String =
        (0..2000).flat_map(|a| (1..=501).map(move |step| format!("{a},{}\n", (a + step) % 2000))).collect();
    let report = load_graph("g.csv", &dense, "", &[]).err().unwrap();
    let codes: Vec<_> = report.entries().map(|entry| entry.code).collect();
    assert_eq!(codes, ["too-many-links"], "{report}");
    assert!(report.to_string().contains("1002000 links among 2000 peers, at most 1000000"), "{report}");
}

#[test]
fn a_mistake_in_one_long_line_is_shown_with_what_is_around_it() {
    let nodes: Vec<_> = (0..2000).map(|id| format!("{{\"id\": {id}}}")).collect();
    let graph =
        format!("{{\"nodes\": [{}], \"links\": [{{\"source\": 5, \"target\": 2000}}]}}", nodes.join(", "));
    let report = load_graph("g.json", &graph, "", &[]).unwrap_err();
    let text = report.render(false, 100);
    assert!(text.contains("\"target\": 2000"), "{text}");
    assert!(text.lines().all(|line| line.len() < 200), "{text}");
}

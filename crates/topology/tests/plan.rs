//! What a file comes to.

use hopcast_protocol::PeerName;
use hopcast_topology::{Env, Loaded, Plan, Report, Source, load};

fn loaded(text: &str, variables: &[(&str, &str)]) -> Loaded {
    let env: Env = variables.iter().copied().collect();
    load(Source::new("topology.toml", text), &env).unwrap_or_else(|report| panic!("{variables:?}\n{report}"))
}

fn refused(text: &str, variables: &[(&str, &str)]) -> Report {
    let env: Env = variables.iter().copied().collect();
    load(Source::new("topology.toml", text), &env).expect_err("taken")
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.entries().map(|entry| entry.code).collect()
}

fn links(plan: &Plan) -> Vec<String> {
    plan.links.iter().map(|link| format!("{} {}", link.a, link.b)).collect()
}

const FIVE: &str = r#"
[peers]
count = 5
links = { shape = "ring" }

[[rooms]]
name = "rock"
peers = ["*"]

[[rooms]]
name = "soul"
peers = ["peer-3..peer-5"]

[[links]]
between = ["peer-4", "peer-2"]
latency = "20ms"
jitter = "1.5ms"
rate = "10Mbit/s"
loss = 0.25

[[links]]
between = ["peer-1", "peer-5"]
remove = true

[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1", "peer-5"]

[[songs]]
path = "songs/Ode to Joy.flac"
name = "ode"
rooms = ["soul"]

[postgres]
password_file = "secret"
"#;

#[test]
fn five_peers() {
    let Loaded { plan, warnings } = loaded(FIVE, &[]);
    assert!(warnings.is_empty(), "{warnings}");
    insta::assert_json_snapshot!(plan);
}

#[test]
fn a_plan_survives_json() {
    let plan = loaded(FIVE, &[]).plan;
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

#[test]
fn count_clips_ranges_sets_links_and_drops_what_is_empty() {
    let Loaded { plan, warnings } = loaded(FIVE, &[("COUNT", "2")]);
    assert_eq!(links(&plan), ["peer-1 peer-2"]);
    assert_eq!(plan.rooms.len(), 1);
    assert_eq!(plan.edges[0].peers.len(), 1);
    assert!(plan.songs.is_empty(), "its only room is gone");
    assert_eq!(codes(&warnings), ["dropped", "dropped"]);
    // The removed link is the ring's end of five; a ring of four ends elsewhere.
    assert_eq!(
        links(&loaded(FIVE, &[("COUNT", "4")]).plan),
        ["peer-1 peer-2", "peer-1 peer-4", "peer-2 peer-3", "peer-2 peer-4", "peer-3 peer-4"]
    );
}

#[test]
fn what_count_breaks_is_a_warning_and_what_the_file_breaks_an_error() {
    let text = FIVE.replace("[\"peer-1\", \"peer-5\"]\n\n[[songs]]", "[\"peer-5\"]\n\n[[songs]]");
    loaded(&text, &[]);
    let Loaded { plan, warnings } = loaded(&text, &[("COUNT", "4")]);
    assert!(plan.edges.is_empty());
    assert_eq!(codes(&warnings), ["no-gateway", "no-gateway", "dropped"]);

    let apart = "[peers]\ncount = 4\nlinks = { shape = \"grid\", width = 2 }\n[[rooms]]\nname = \"a\"\n\
                 peers = [\"peer-1\", \"peer-3\", \"peer-4\"]\n[[edges]]\nname = \"e\"\nnetwork = \"n\"\npeers = [\"*\"]\n";
    loaded(apart, &[]);
    let warnings = loaded(apart, &[("COUNT", "160")]).warnings;
    assert!(!codes(&warnings).contains(&"disconnected-room"));
    let ring = apart.replace("shape = \"grid\", width = 2", "shape = \"ring\"").replace("\"peer-3\", ", "");
    loaded(&ring, &[]);
    let warnings = loaded(&ring, &[("COUNT", "9")]).warnings;
    assert!(codes(&warnings).contains(&"disconnected-room"), "{warnings}");
    assert_eq!(codes(&refused(&ring.replace("count = 4", "count = 9"), &[])), ["disconnected-room"]);
    // The same number as the file's clips nothing.
    assert_eq!(
        codes(&refused(&ring.replace("count = 4", "count = 9"), &[("COUNT", "9")])),
        ["disconnected-room"]
    );
}

#[test]
fn count_is_clamped() {
    let Loaded { plan, warnings } = loaded(FIVE, &[("COUNT", "200")]);
    assert_eq!(plan.peers.len(), 160);
    assert!(codes(&warnings).contains(&"clamped"));
    assert_eq!(loaded(FIVE, &[("COUNT", "200"), ("MAX_COUNT", "180")]).plan.peers.len(), 180);
    assert_eq!(loaded(FIVE, &[("MAX_COUNT", "3")]).plan.peers.len(), 3);
    assert_eq!(loaded(FIVE, &[("COUNT", "")]).plan.peers.len(), 5, "empty is unset");
    for bad in ["0", "-1", "x", "1e3", "99999999999999999999"] {
        let report = refused(FIVE, &[("COUNT", bad)]);
        assert_eq!(report.entries().next().unwrap().variable.as_deref(), Some("COUNT"), "{bad}");
    }
}

#[test]
fn prefix_renames_peers_and_references() {
    let variables = [("PREFIX", "node"), ("EDGE1_PEERS", "node-2,node-3..node-4")];
    let plan = loaded(FIVE, &variables).plan;
    assert_eq!(plan.peers[0].name.as_str(), "node-1");
    assert_eq!(
        plan.edges[0].peers.iter().map(PeerName::as_str).collect::<Vec<_>>(),
        ["node-2", "node-3", "node-4"]
    );
    assert_eq!(plan.rooms[1].peers[0].as_str(), "node-3");
    assert_eq!(codes(&refused(FIVE, &[("PREFIX", "node"), ("EDGE1_PEERS", "peer-2")])), ["not-a-peer"]);
    let report = refused(&FIVE.replace("count = 5", "count = 5\nprefix = \"x\""), &[]);
    assert_eq!(codes(&report), ["not-a-peer"; 8], "one for each reference, both ends of a range");
}

#[test]
fn the_other_variables_replace_their_keys() {
    let two =
        format!("{FIVE}\n[[edges]]\nname = \"edge-db-b\"\nnetwork = \"edge-b-net\"\npeers = [\"peer-2\"]\n");
    let plan = loaded(
        &two,
        &[
            ("PEER_NETWORK", "a"),
            ("EDGE1_NETWORK", "b"),
            ("EDGE2_NETWORK", "c"),
            ("ORIGIN_NETWORK", "d"),
            ("EDGE2_PEERS", "*"),
            ("IMAGE", "registry.local:5000/peer@sha256"),
            ("POSTGRES_DB", "db"),
            ("POSTGRES_USER", "me"),
            ("POSTGRES_PASSWORD", "a secret of mine"),
            ("SIGNAL_ADDR", ":7777"),
            ("HOME", "/nowhere"),
        ],
    )
    .plan;
    assert_eq!(plan.docker.network.as_str(), "a");
    assert_eq!((plan.edges[0].network.as_str(), plan.edges[1].network.as_str()), ("b", "c"));
    assert_eq!(plan.origin.network.as_str(), "d");
    assert_eq!(plan.edges[1].peers.len(), 5);
    assert_eq!(plan.docker.peer_image, "registry.local:5000/peer@sha256");
    assert_eq!((plan.postgres.database.as_str(), plan.postgres.user.as_str()), ("db", "me"));
    assert_eq!(plan.signalling.listen.to_string(), "0.0.0.0:7777");
    assert_eq!(plan.signalling.local.to_string(), "127.0.0.1:7777");
    assert!(!serde_json::to_string(&plan).unwrap().contains("secret of mine"));
    let env: Env = [("POSTGRES_PASSWORD", "a secret of mine")].into_iter().collect();
    assert_eq!(format!("{env:?}"), "{\"POSTGRES_PASSWORD\"}");
}

#[test]
fn the_signalling_server_listens_where_it_is_told() {
    let local = |listen: &str, local: &str| {
        let text = format!("{FIVE}\n[signalling]\nlisten = \"{listen}\"\n[local]\n{local}");
        loaded(&text, &[]).plan.signalling.local.to_string()
    };
    assert_eq!(local("0.0.0.0:7000", ""), "127.0.0.1:7000");
    assert_eq!(local("[::]:7000", ""), "127.0.0.1:7000");
    assert_eq!(local("127.0.0.9:7000", ""), "127.0.0.9:7000");
    let own = "signalling = \"0.0.0.0:7001\"";
    assert_eq!(local("0.0.0.0:7000", own), "0.0.0.0:7001");
    let both = format!("{FIVE}\n[signalling]\nlisten = \":7000\"\n[local]\n{own}");
    let plan = loaded(&both, &[("SIGNAL_ADDR", ":7002")]).plan;
    assert_eq!(plan.signalling.local.to_string(), "127.0.0.1:7002", "the variable is on top of the file");
    for taken in ["127.77.0.3:8080", "127.77.255.254:5432", "127.0.0.1:7081"] {
        let text = format!("{FIVE}\n[signalling]\nlisten = \"{taken}\"\n");
        assert_eq!(codes(&refused(&text, &[])), ["address-taken"], "{taken}");
    }
}

#[test]
fn the_door_has_a_port_of_its_own_in_a_container_too() {
    let text = |listen: &str, door: &str| {
        format!(
            "{FIVE}\n[signalling]\nlisten = \"{listen}\"\n[local]\nsignalling = \"127.0.0.1:7070\"\n{door}"
        )
    };
    loaded(&text(":7080", "door = \"127.0.0.1:7082\""), &[]);
    // On this machine the port of `[local]` keeps the two apart, elsewhere nothing does.
    for (listen, door) in [(":7080", "door = \"127.0.0.1:7080\""), ("127.0.0.9:7081", "")] {
        let report = refused(&text(listen, door), &[]);
        assert_eq!(codes(&report), ["address-taken"], "{listen}");
        let place = report.entries().next().unwrap();
        assert!(report.to_string().contains("in a container"), "{report}");
        assert_eq!(place.text, format!("\"{}\"", if door.is_empty() { listen } else { "127.0.0.1:7080" }));
    }
}

#[test]
fn networks_must_be_large_enough() {
    let with = |local: &str, docker: &str| {
        format!("{FIVE}\n[local]\nnetwork = \"{local}\"\n[docker]\nsubnet = \"{docker}\"\n")
    };
    loaded(&with("127.1.0.0/28", "10.0.0.0/23"), &[]);
    let plan = loaded(&with("127.1.0.0/28", "10.0.0.0/20"), &[]).plan;
    assert_eq!(plan.peers[4].local.to_string(), "127.1.0.5:8080");
    assert_eq!(plan.edges[0].local.to_string(), "127.1.0.13:5432");
    assert_eq!(plan.peers[0].docker.to_string(), "10.0.0.2:8080");
    assert_eq!(plan.signalling.docker.to_string(), "10.0.7.254:7080");
    assert_eq!(
        (plan.origin.docker.subnet.to_string(), plan.origin.docker.prefix),
        ("10.0.8.0".to_owned(), 26)
    );
    assert_eq!(plan.edges[0].docker.address.to_string(), "10.0.8.66:5432");
    assert_eq!(codes(&refused(&with("127.1.0.0/29", "10.0.0.0/20"), &[])), ["network-too-small"]);
    assert_eq!(codes(&refused(&with("10.1.0.0/16", "10.0.0.0/20"), &[])), ["bad-network"]);
    assert_eq!(codes(&refused(&with("127.1.0.0/16", "127.0.0.0/16"), &[])), ["bad-network"]);
    assert_eq!(
        codes(&refused(&with("127.0.0.0/16", "10.77.0.0/16"), &[])),
        ["bad-network"],
        "a peer on 127.0.0.1"
    );
}

#[test]
fn songs_are_named_after_their_paths() {
    let name = |path: &str| {
        let text = format!("{FIVE}\n[[songs]]\npath = \"{path}\"\n");
        loaded(&text, &[]).plan.songs[1].name.to_string()
    };
    assert_eq!(name("songs/demo"), "demo");
    assert_eq!(name("/music/Intro.v2.flac"), "Intro.v2");
    let twice = format!("{FIVE}\n[[songs]]\npath = \"a/ode.mp3\"\n");
    assert_eq!(codes(&refused(&twice, &[])), ["duplicate-name"]);
    assert_eq!(
        codes(&refused(&format!("{FIVE}\n[[songs]]\npath = \"Ode to Joy.mp3\"\n"), &[])),
        ["bad-name"]
    );
}

#[test]
fn a_peer_in_no_room_is_a_warning() {
    let text = FIVE
        .replace("[\"*\"]", "[\"peer-1..peer-2\"]")
        .replace("[\"peer-3..peer-5\"]", "[\"peer-4..peer-5\"]");
    let warnings = loaded(&text, &[]).warnings;
    assert_eq!(codes(&warnings), ["no-room"]);
    assert!(warnings.to_string().contains("peer-3 in no room"), "{warnings}");
}

#[test]
fn links_may_be_a_table_of_their_own() {
    let text = FIVE.replace("links = { shape = \"ring\" }", "") + "[peers.links]\nshape = \"full\"\n";
    // One of ten is removed by the file.
    assert_eq!(loaded(&text, &[]).plan.links.len(), 9);
}

#[test]
fn every_shape_takes_every_count() {
    let shapes = [
        "shape = \"ring\", skip = [2, 9, 200]",
        "shape = \"random-regular\", degree = 5",
        "shape = \"small-world\", k = 6, p = 0.3, seed = 7",
        "shape = \"erdos-renyi\", p = 0.1",
        "shape = \"grid\", width = 7",
        "shape = \"grid\"",
        "shape = \"full\"",
        "shape = \"none\"",
    ];
    for shape in shapes {
        // An even number of peers that no COUNT below is equal to.
        let text = FIVE.replace("count = 5", "count = 200").replace("shape = \"ring\"", shape);
        for count in 1..=160 {
            let plan = loaded(&text, &[("COUNT", &count.to_string())]).plan;
            assert_eq!(plan.peers.len(), count, "{shape}");
        }
    }
}

#[test]
fn what_a_variable_causes_elsewhere_names_it() {
    let small = format!("{FIVE}\n[local]\nnetwork = \"127.1.0.0/28\"\n");
    let message = |text: &str, variables: &[(&str, &str)]| refused(text, variables).to_string();
    let text = message(&small, &[("COUNT", "20")]);
    assert!(text.contains("20 peers (COUNT)"), "{text}");
    let text = message(FIVE, &[("EDGE1_PEERS", "peer-1")]);
    assert!(text.contains("room `soul`") && text.contains("EDGE1_PEERS sets an edge's peers"), "{text}");
    let text = message(&FIVE.replace("\"edge-db-a\"", "\"db-1\""), &[("PREFIX", "db")]);
    assert!(text.contains("environment variable PREFIX"), "{text}");
    let text = message(FIVE, &[("EDGE1_NETWORK", "micro-net")]);
    assert!(text.contains("environment variable EDGE1_NETWORK"), "{text}");
    let text = message(FIVE, &[("SIGNAL_ADDR", "127.0.0.1:7081")]);
    assert!(text.contains("environment variable SIGNAL_ADDR") || text.contains("SIGNAL_ADDR:1:1"), "{text}");
}

#[test]
fn seeds_and_shapes_reach_the_plan() {
    let with = |links: &str| {
        let text = FIVE.replace("count = 5", "count = 40").replace("shape = \"ring\"", links);
        load(Source::new("t", &text), &[("COUNT", "39")].into_iter().collect()).unwrap().plan.links
    };
    let one = with("shape = \"random-regular\", degree = 4, seed = 1");
    assert_eq!(one, with("shape = \"random-regular\", degree = 4"), "1 is the default");
    assert_ne!(one, with("shape = \"random-regular\", degree = 4, seed = 2"));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    for (shape, code) in [
        ("shape = \"random-regular\", degree = 5", "out-of-range"),
        ("shape = \"random-regular\", degree = 3", "out-of-range"),
        ("shape = \"random-regular\"", "missing-key"),
        ("shape = \"small-world\", k = 3, p = 0.1", "out-of-range"),
        ("shape = \"small-world\", k = 6, p = 0.1", "out-of-range"),
        ("shape = \"small-world\", k = 2", "missing-key"),
        ("shape = \"erdos-renyi\", p = 2", "out-of-range"),
        ("skip = [1]", "missing-key"),
        ("shape = \"full\", skip = [1]", "foreign-key"),
    ] {
        let report = refused(&FIVE.replace("shape = \"ring\"", shape), &[]);
        assert_eq!(codes(&report), [code], "{shape}\n{report}");
    }
    let many = FIVE.replace("count = 5", "count = 1500").replace("shape = \"ring\"", "shape = \"full\"");
    assert_eq!(codes(&refused(&many, &[])), ["too-many-links"]);
    let hub = FIVE.replace("count = 5", "count = 1100").replace("shape = \"ring\"", "shape = \"full\"");
    let report = refused(&hub, &[]);
    assert!(report.to_string().contains("neighbours, at most 1024"), "{report}");
}

#[test]
fn every_field_is_in_the_page_about_the_plan() {
    fn walk(value: &serde_json::Value, path: String, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) if !fields.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                fields.iter().for_each(|(name, value)| walk(value, format!("{path}{dot}{name}"), found));
            }
            serde_json::Value::Array(items) => {
                // A list of objects is its fields; the page has one line for the list itself, too.
                let path = format!("{path}[]");
                found.push(path.clone());
                items.iter().filter(|item| item.is_object()).for_each(|item| walk(item, path.clone(), found));
            }
            _ => found.push(path),
        }
    }
    let plan = serde_json::to_value(loaded(FIVE, &[]).plan).unwrap();
    let mut found = Vec::new();
    walk(&plan, String::new(), &mut found);
    found.sort();
    found.dedup();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plan.md")).unwrap();
    let mut written: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    written.sort_unstable();
    // The origin's network has the same fields as an edge's and is written as one line.
    found.retain(|path| !path.starts_with("origin.docker."));
    found.push("origin.docker".to_owned());
    found.sort();
    assert_eq!(found, written);
}

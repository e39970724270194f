//! Every mistake is found at once, at its place, with what to write instead.

use hopcast_topology::{Env, Report, Source, load};

fn report(text: &str, variables: &[(&str, &str)]) -> Report {
    let env: Env = variables.iter().copied().collect();
    load(Source::new("topology.toml", text), &env).expect_err("a mistake was not found")
}

/// Line and code of each problem.
fn places(report: &Report) -> Vec<(usize, &'static str)> {
    report.entries().map(|entry| (entry.line, entry.code)).collect()
}

const MANY: &str = r#"[mesh]
name = "my mesh"

[peers]
count = 20
memmory = "15MiB"
memory = "5MiB"
patience = 12
links = { shape = "rign", skip = [4] }

[[rooms]]
name = "rock"
peers = ["peer-1..peer-30"]

[[links]]
between = ["peer-3", "peer-3"]
latency = "20 parsecs"

[[edges]]
name = "edge-db-a"
network = "origin-net"
peers = ["pear-1", "peer-2"]

[local]
network = "127.77.0.0/28"
door = 127.0.0.1:7081
"#;

#[test]
fn a_dozen_mistakes_are_a_dozen_errors() {
    let report = report(MANY, &[]);
    assert_eq!(
        places(&report),
        [
            (2, "bad-name"),
            (6, "unknown-key"),
            (7, "out-of-range"),
            (8, "wrong-type"),
            (9, "unknown-shape"),
            (13, "not-a-peer"),
            (16, "self-link"),
            (17, "bad-duration"),
            (21, "overlapping-networks"),
            (22, "not-a-peer"),
            (25, "network-too-small"),
            (26, "syntax"),
        ]
    );
    insta::assert_snapshot!(report.render(false, 120));
}

#[test]
fn broken_toml_is_named_statement_by_statement() {
    let text = r#"[mesh]
name = "a
[peers]
count =
prefix = peer
port = 8080
port = 8081
cpus = 0.05.1
links = { shape = "ring" skip = [4] }
[[rooms]]
name = "rock"
peers = ["peer-1..peer-100"
[[rooms]]
name = soul music # remark
peers = [peer-1..peer-8]
[[edges]
name = "edge-db-a"
[origin
name = "origin-db"
[signalling]
listen: "0.0.0.0:7080"
"#;
    insta::assert_snapshot!(report(text, &[]).render(false, 120));
}

/// The codes of all errors and warnings, in their order.
fn codes(text: &str) -> Vec<String> {
    let rendered = report(text, &[]).render(false, 120);
    let codes =
        rendered.lines().filter_map(|line| Some(line.split_once('[')?.1.split_once("]: ")?.0.to_owned()));
    codes.collect()
}

#[test]
fn what_only_follows_from_a_slip_is_no_error_of_its_own() {
    // The one header that there is cannot be read: nothing is said about rooms, songs or edges.
    let text =
        "[[rooms]\nname = \"rock\"\npeers = [\"*\"]\n[[songs]]\npath = \"a.flac\"\nrooms = [\"rock\"]\n";
    assert_eq!(codes(text), ["syntax"]);
    assert_eq!(codes("[peers]\ncount = = 5\n"), ["syntax"]);
}

#[test]
fn a_second_room_of_a_name_is_looked_at_and_the_name_is_told_once() {
    let rooms = "[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n[[rooms]]\nname = \"rock\"\npeers = []\n";
    let edge = "[[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = [\"peer-1\"]\n";
    let song = "[[songs]]\npath = \"a.flac\"\nrooms = [\"elsewhere\"]\n";
    let text = format!("{rooms}{edge}{song}");
    assert_eq!(codes(&text), ["duplicate-name", "empty", "not-a-room"]);
    assert!(!report(&text, &[]).render(false, 120).contains("`rock`, `rock`"));
}

#[test]
fn an_edge_without_peers_is_an_error() {
    let text = "[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n[[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = []\n";
    assert!(report(text, &[]).render(false, 120).contains("edge `edge-db-a` has no peers"));
}

#[test]
fn what_count_drops_of_a_variable_is_named() {
    let text = "[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n[[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = [\"peer-1..peer-8\"]\n";
    let warned = |env: &[(&str, &str)]| {
        let env: Env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let loaded = load(Source::new("topology.toml", text), &env).unwrap();
        loaded.warnings.render(false, 120)
    };
    let warning = warned(&[("COUNT", "30"), ("EDGE1_PEERS", "peer-1,peer-40,peer-29..peer-31")]);
    assert!(
        warning.contains("beyond peer-30, the last peer, is dropped of `peer-40`, `peer-29..peer-31`"),
        "{warning}"
    );
    for count in 1..=160 {
        let warning = warned(&[("COUNT", &count.to_string())]);
        assert!(
            !warning.contains("[dropped]"),
            "the file's own ranges are clipped without a word: {warning}"
        );
    }
    let wrong = report(text, &[("COUNT", "30"), ("EDGE1_PEERS", "peer1")]).render(false, 120);
    assert!(wrong.contains("the peers are peer-1 to peer-30 "), "{wrong}");
}

const FIVE: &str = r#"[peers]
count = 5
links = { shape = "none" }
[[rooms]]
name = "rock"
peers = ["*"]
[[rooms]]
name = "soul"
peers = ["peer-4", "peer-5"]
[[links]]
between = ["peer-1", "peer-2"]
[[links]]
between = ["peer-4", "peer-5"]
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1"]
"#;

#[test]
fn a_room_in_pieces_and_a_room_without_a_gateway() {
    insta::assert_snapshot!(report(FIVE, &[]).render(false, 120));
}

#[test]
fn what_a_variable_breaks_names_the_variable() {
    let variables = [
        ("COUNT", "many"),
        ("PREFIX", "my peer"),
        ("EDGE1_PEERS", "peer-1, peer-300,nobody"),
        ("EDGE2_NETWORK", "edge-b-net"),
        ("SIGNAL_ADDR", "localhost"),
        ("POSTGRES_USER", "pg_monitor"),
        ("POSTGRES_PASSWORD", "very\nsecret"),
        ("IMAGE", "a b"),
    ];
    let connected = FIVE.replace("\"none\"", "\"full\"");
    let report = report(&connected, &variables);
    let text = report.render(false, 120);
    assert!(!text.contains("secret"));
    let named: Vec<_> = report.entries().filter_map(|entry| entry.variable).collect();
    for (name, _) in variables.iter().filter(|(name, _)| *name != "POSTGRES_PASSWORD") {
        assert!(named.iter().any(|found| found == name), "{name}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn links_that_are_written_twice_or_can_not_be() {
    let text = r#"[peers]
count = 8
links = { shape = "grid", width = 4, degree = 3 }
[[rooms]]
name = "rock"
peers = ["*"]
[[links]]
between = ["peer-1", "peer-7"]
rate = "10mbps"
[[links]]
between = ["peer-7", "peer-1"]
[[links]]
between = ["peer-1", "peer-8"]
remove = true
[[links]]
between = ["peer-1..peer-8", "peer-3"]
[[links]]
between = ["peer-1"]
[[links]]
between = ["peer-1", "peer-2"]
remove = true
loss = 5
[[links]]
between = ["peer-01", "peer-2"]
latency = "2min"
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-8..peer-1", "peer-3..5"]
[[songs]]
path = "songs/.."
[[songs]]
path = "demo"
rooms = ["rok"]
"#;
    insta::assert_snapshot!(report(text, &[]).render(false, 120));
}

#[test]
fn names_limits_and_addresses_that_do_not_go_together() {
    let text = r#"[peers]
count = 5
port = 65533
memory = "8MiB"
cache = "9MiB"
max_segment = "1KiB"
cpus = 0.001
pids = -1
[[rooms]]
name = "rock"
peers = ["*"]
[[rooms]]
name = "rock"
peers = []
[[edges]]
name = "peer-9"
network = "edge-a-net"
peers = ["*"]
[[edges]]
name = "origin-db"
network = "edge-a-net"
peers = ["*"]
[postgres]
database = "template1"
user = "pg_read"
port = 0
[local]
network = "10.0.0.1/24"
[docker]
subnet = "10.0.0.0/28"
network = "origin-net"
[nixos]
peer_hosts = 1000
"#;
    insta::assert_snapshot!(report(text, &[]).render(false, 120));
}

#[test]
fn the_json_form_has_the_same_places() {
    let json = serde_json::to_value(report("[peers]\n  cöunt = 5\n", &[])).unwrap();
    assert_eq!(json[0]["code"], "syntax");
    assert_eq!((&json[0]["file"], &json[0]["line"]), (&"topology.toml".into(), &2.into()));
    let json = serde_json::to_value(report("[peers]\n  cuont = \"ä\" \n", &[])).unwrap();
    assert_eq!(json[1]["code"], "unknown-key");
    assert_eq!(json[1]["text"], "cuont");
    assert_eq!(json[1]["help"], "did you mean `count`?");
    let twice = "[[rooms]]\nname = \"a\"\npeers = []\n[[rooms]]\nname = \"a\"\npeers = []\n";
    let related = serde_json::to_value(report(twice, &[])).unwrap()[1]["related"].clone();
    assert_eq!(
        related,
        serde_json::json!({"file": "topology.toml", "line": 2, "column": 8, "label": "here"})
    );
    let place = ["line", "column", "end_line", "end_column"].map(|key| json[1][key].as_u64().unwrap());
    assert_eq!(place, [2, 3, 2, 8]);
}

#[test]
fn a_part_that_can_not_be_read_is_one_error() {
    let rest = "\n[[rooms]]\nname = \"a\"\npeers = [\"peer-900\"]\n[[edges]]\nname = \"e\"\nnetwork = \"n\"\npeers = [\"peer-900\"]\n";
    for (begin, line, code) in [
        ("[peers\ncount = 1000", 1, "syntax"),
        ("peers = 5", 1, "wrong-type"),
        ("[peers]\ncount = \"many\"", 2, "wrong-type"),
        ("[peers]\ncount = many", 2, "syntax"),
        ("[peers]\ncount = 0", 2, "out-of-range"),
        ("[peers]\ncount = 1000\nprefix = 1", 3, "wrong-type"),
        ("[peers]\ncount = 1000\nlinks = { shape = \"rings\" }", 3, "unknown-shape"),
        ("[peers]\ncount = 1000\n[peers.links\nshape = \"none\"", 3, "syntax"),
        ("[peers]\ncount = 1000\n[[links]]\nbetween = [\"peer-1\", \"pear\"]", 4, "not-a-peer"),
    ] {
        let report = report(&format!("{begin}{rest}"), &[]);
        assert_eq!(places(&report), [(line, code)], "{begin}\n{report}");
    }
}

#[test]
fn no_database_has_the_name_of_another_process() {
    for name in ["signalling", "keeper"] {
        let text = FIVE.replace("\"none\"", "\"ring\"") + &format!("[origin]\nname = \"{name}\"\n");
        let report = report(&text, &[]);
        assert!(places(&report).iter().any(|(_, code)| *code == "duplicate-name"), "{report}");
    }
}

#[test]
fn an_address_that_is_taken_is_found_beside_other_mistakes() {
    let text =
        FIVE.replace("\"none\"", "\"full\"") + "[local]\ndoor = \"127.77.0.3:8080\"\n[nixos]\nhosts = 3\n";
    let found = places(&report(&text, &[]));
    assert_eq!(found, [(9, "no-gateway"), (19, "address-taken"), (21, "unknown-key")]);
}

#[test]
fn what_is_no_toml_at_all_is_refused_in_few_words() {
    for text in ["<html>\n".repeat(500), "x\n".repeat(100_000), "a".repeat(2 << 20), "\u{0}".repeat(9)] {
        let report = report(&text, &[]);
        assert!(report.errors() <= 65, "{}", report.errors());
        assert!(report.render(false, 80).len() < 3 << 20);
    }
    assert_eq!(places(&report("", &[])), [(1, "no-room")]);
}

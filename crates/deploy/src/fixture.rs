//! A small plan for unit tests: three peers in a line, two edges.

use hopcast_topology::{Env, Plan, Source};

const TEXT: &str = r#"
[mesh]
name = "fixture"
[peers]
count = 3
links = { shape = "none" }
[[rooms]]
name = "rock"
peers = ["*"]
[[links]]
between = ["peer-1", "peer-2"]
[[links]]
between = ["peer-2", "peer-3"]
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1"]
[[edges]]
name = "edge-db-b"
network = "edge-b-net"
peers = ["peer-3"]
[origin]
name = "origin-db"
network = "origin-net"
[signalling]
listen = "127.0.0.1:17890"
[local]
network = "127.80.240.0/24"
door = "127.0.0.1:17891"
"#;

pub(crate) fn plan() -> Plan {
    match hopcast_topology::load(Source::new("fixture.toml", TEXT), &Env::default()) {
        Ok(loaded) => loaded.plan,
        Err(report) => panic!("{}", report.render(false, 100)),
    }
}

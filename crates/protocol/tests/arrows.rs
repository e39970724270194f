//! Which crate may know which: the list of docs/ARCHITECTURE.md, held against `cargo metadata`.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// From, and what it may depend on. Every arrow that is not in the design has its reason in docs/ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("topology", &["protocol"]),
    ("routing", &[]),
    ("store", &["protocol"]),
    ("signalling", &["topology", "routing", "protocol"]),
    ("peer", &["protocol", "store"]),
    ("deploy", &["topology", "protocol", "store"]),
    ("verify", &["topology", "protocol"]),
    ("bench", &["topology", "routing", "protocol"]),
    ("cli", &["topology", "routing", "protocol", "store", "deploy", "verify", "bench"]),
];

fn name(value: &Value) -> Option<String> {
    value["name"].as_str()?.strip_prefix("hopcast-").map(str::to_owned)
}

/// Every arrow between our crates; those of tests are not asked about (a test may start anything).
fn arrows(metadata: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let Some(from) = name(package) else { continue };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"] != "dev"
                && let Some(to) = name(dependency)
            {
                found.insert((from.clone(), to));
            }
        }
    }
    found
}

#[test]
fn no_crate_knows_one_that_it_must_not() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let found = arrows(&metadata);
    assert!(found.contains(&("peer".into(), "protocol".into())), "it sees arrows at all: {found:?}");
    let allowed: BTreeSet<_> = ARROWS
        .iter()
        .flat_map(|(from, to)| to.iter().map(|to| ((*from).to_owned(), (*to).to_owned())))
        .collect();
    let forbidden: Vec<_> = found.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "arrows that docs/ARCHITECTURE.md does not have: {forbidden:?}");
    let crates: BTreeSet<_> =
        metadata["packages"].as_array().expect("packages").iter().filter_map(name).collect();
    let listed: BTreeSet<_> = ARROWS.iter().map(|(from, _)| (*from).to_owned()).collect();
    assert_eq!(crates, listed, "every crate is in the list");
}

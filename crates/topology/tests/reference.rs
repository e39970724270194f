//! docs/topology.md is what the program's doc comments say.

use hopcast_topology::reference;

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/topology.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/topology.md differs: run UPDATE_DOCS=1 cargo test -p hopcast-topology --test reference"
    );
}

//! Several peers over loopback: every one a whole peer on a thread of its own, with real sockets between them.
//!
//! Signalling is a small stub (`support::signalling`) that does what docs/protocol.md says and can be told to
//! misbehave; `process` runs the real programs. Each test has its own network 127.78.<n>.0.

mod cache;
mod faults;
mod players;
mod process;
mod relay;
mod shortcuts;
mod signal;
mod support;

#[test]
fn each_test_has_a_network_of_its_own() {
    let sources = [
        include_str!("cache.rs"),
        include_str!("faults.rs"),
        include_str!("players.rs"),
        include_str!("process.rs"),
        include_str!("relay.rs"),
        include_str!("shortcuts.rs"),
        include_str!("signal.rs"),
    ]
    .concat();
    // What `process` starts without a `Mesh` has 74.
    let mut used = std::collections::BTreeSet::from([74]);
    for makes in ["Mesh::new(", "Mesh::with_song(", " far(", " mesh(", " slow_square("] {
        for behind in sources.split(makes).skip(1) {
            let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap();
            // No digits: the number is an argument of the function around it.
            let Ok(net) = behind[..digits].parse::<u8>() else { continue };
            assert!(used.insert(net), "127.78.{net}.0 is used twice");
        }
    }
    assert!(used.len() > 40, "the sources are not read as they are written: {used:?}");
}

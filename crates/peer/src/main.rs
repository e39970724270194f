//! The `hopcast-peer` program.
fn main() {}

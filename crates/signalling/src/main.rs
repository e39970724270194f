//! The `hopcast-signalling` program.
fn main() {}

//! The `hopcast` command.
fn main() {}

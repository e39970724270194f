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

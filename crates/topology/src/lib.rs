//! `topology.toml` in, one resolved and validated [`Plan`] out.
//!
//! Pure: no network, no clock; file contents and the environment are arguments. Every consumer (signalling server,
//! backends, graph, verifier) reads the plan and nothing else.

pub mod plan;

pub use plan::Plan;

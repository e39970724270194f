//! The topology file as typed tables: what may be written, with its documentation, defaults and limits.
//!
//! The doc comments of [`file`] are the reference (`docs/topology.md`) and the JSON Schema's descriptions, so they are
//! written for the file's author. Reading never stops at a mistake: it reports it and goes on. What needs more than one
//! key to judge is left to `resolve`.

pub(crate) mod file;
pub(crate) mod read;
pub(crate) mod syntax;
pub(crate) mod table;
pub(crate) mod value;

pub(crate) use file::File;
pub(crate) use table::{At, Maybe};

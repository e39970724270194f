//! One module for each command, or for a group that shares its means. A command reads its arguments, calls the crate
//! that does the work, and says what came of it; it decides nothing that another crate could.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod fetch;
pub(crate) mod generate;
pub(crate) mod graph;
pub(crate) mod healthy;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod keeper;
pub(crate) mod logs;
pub(crate) mod path;
pub(crate) mod pipe;
pub(crate) mod plan;
pub(crate) mod populate;
pub(crate) mod probe;
pub(crate) mod schema;
pub(crate) mod songs;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod verify;

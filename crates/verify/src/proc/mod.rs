//! The kernel's view of the mesh, from `/proc` (proc(5)): sockets, who owns them, memory. Reads only.

pub(crate) mod memory;
pub(crate) mod owners;
pub(crate) mod sockets;

//! The kernel's view of the mesh, from `/proc` (proc(5)) and the control groups: sockets, who owns them, addresses, memory.
//! Reads only.

pub(crate) mod addresses;
pub(crate) mod cgroup;
pub(crate) mod memory;
pub(crate) mod owners;
pub(crate) mod sockets;

//! How who operates a mesh reaches its parts. It holds secrets: never printed, never in an answer of a command.

use std::net::SocketAddr;

use hopcast_protocol::{DatabaseAccess, MeshSecret};

/// The operator's keys and addresses, as seen from this machine.
#[derive(Debug, Clone)]
pub struct Access {
    /// From it come link keys, tokens, database passwords and the manifest key.
    pub secret: MeshSecret,
    /// The origin, as its superuser.
    pub origin: DatabaseAccess,
    /// The edges as their superuser, in the plan's order.
    pub edges: Vec<DatabaseAccess>,
    /// The signalling server's HTTP address.
    pub signalling: SocketAddr,
    /// The door.
    pub door: Option<SocketAddr>,
}

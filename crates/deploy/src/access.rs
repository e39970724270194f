//! How who operates a mesh reaches its parts. It holds secrets: never printed, never in an answer of a command.

use std::{fmt, net::SocketAddr, sync::Arc};

use hopcast_protocol::{DatabaseAccess, MeshSecret};

use crate::docker::tunnel::Tunnel;

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
    /// What holds the way to the databases open, where they can't be reached without ([`crate::Backend::open`]). The last of
    /// its owners closes it.
    pub way: Option<Arc<Tunnel>>,
}

/// Where a player on this machine reaches a peer: a peer's own address, or the door and the way through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayerAddress {
    /// What to connect to.
    pub to: SocketAddr,
    /// What stands before the path of every request: empty, or `/p/peer-62`.
    pub prefix: String,
}

impl fmt::Display for PlayerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.to, self.prefix)
    }
}

impl Access {
    /// Closes the way to the databases and waits for its end, unless somebody else still uses it.
    pub async fn close(self) {
        if let Some(tunnel) = self.way.and_then(Arc::into_inner) {
            tunnel.close().await;
        }
    }
}

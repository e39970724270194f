//! The configuration files that `deploy` writes and that peers and the signalling server read: JSON, mode 0400.
//!
//! A peer or server knows nothing of topology.toml. SIGHUP rereads its file; a bad file keeps the old one.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    emulation::Emulation,
    keys::{LinkKey, ManifestPublicKey, Token, TokenKey},
    name::{DatabaseName, MeshName, PeerName, RoomName},
};

/// The version of both files that this program writes and reads.
pub const CONFIG_VERSION: u32 = 1;

/// What one peer needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// [`CONFIG_VERSION`].
    pub version: u32,
    /// The mesh, for labels.
    pub mesh: MeshName,
    /// This peer.
    pub name: PeerName,
    /// Where it listens, for players and neighbours alike.
    pub listen: SocketAddr,
    /// The source address of everything it dials; absent: the system's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_from: Option<IpAddr>,
    /// `ws://host:port/ws`, without a query.
    pub signal_url: String,
    /// The rooms it is in, in the file's order.
    pub rooms: Vec<RoomMembership>,
    /// Its neighbours, over all rooms.
    pub neighbors: Vec<NeighborConfig>,
    /// Bounds.
    pub limits: PeerLimits,
    /// The edges it is a gateway of; tried in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseAccess>,
    /// Checks manifests; absent (a peer started by hand): no songs are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<ManifestPublicKey>,
    /// First and last address of the mesh's peers: from these no player's request is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addresses: Option<(IpAddr, IpAddr)>,
}

/// Membership of one room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomMembership {
    /// The room.
    pub name: RoomName,
    /// Sent as `Authorization: Bearer`; absent: the server is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighborConfig {
    /// The neighbour.
    pub name: PeerName,
    /// `host:port`; a host name is resolved at each connect.
    pub endpoint: String,
    /// The link's key; left out where it comes from a file of its own ([`crate::credentials`]).
    #[serde(default = "LinkKey::none", skip_serializing_if = "LinkKey::is_none")]
    pub key: LinkKey,
    /// The rooms that both ends are in.
    pub rooms: Vec<RoomName>,
    /// What the link feels like.
    #[serde(default, skip_serializing_if = "Emulation::is_none")]
    pub emulation: Emulation,
}

/// The bounds of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerLimits {
    /// Bytes of segments it keeps.
    pub cache: u64,
    /// Longest segment, and longest manifest, in bytes.
    pub max_segment: u64,
    /// How long a player's request is held while ways are tried, in milliseconds.
    pub patience_ms: u64,
    /// SO_SNDBUF of its connections, in bytes (the kernel doubles it); absent: the kernel sizes it by itself, up to some MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<u32>,
    /// SO_RCVBUF of connections to neighbours, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_buffer: Option<u32>,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            cache: 4 << 20,
            max_segment: 1 << 20,
            patience_ms: 12_000,
            send_buffer: None,
            receive_buffer: None,
        }
    }
}

/// How a gateway reaches an edge database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseAccess {
    /// The edge.
    pub name: DatabaseName,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// The gateways' role: it may read segments and manifests, nothing more.
    pub user: String,
    /// Its password; left out where it comes from a file of its own ([`crate::credentials`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
}

impl std::fmt::Debug for DatabaseAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseAccess({} at {}:{})", self.name, self.host, self.port)
    }
}

/// What the signalling server of a mesh needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignallingConfig {
    /// [`CONFIG_VERSION`].
    pub version: u32,
    /// The mesh, for labels.
    pub mesh: MeshName,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Checks the peers' tokens; absent: every client is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_key: Option<TokenKey>,
    /// The rooms, with their seed links.
    pub rooms: Vec<RoomConfig>,
    /// The peers that may say that they hold everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<PeerName>,
    /// The door, where it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<DoorConfig>,
}

/// A room of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomConfig {
    /// The room.
    pub name: RoomName,
    /// Who may enter.
    pub peers: Vec<PeerName>,
    /// The links between them; no other may be announced.
    pub links: Vec<(PeerName, PeerName)>,
}

/// The door: `/p/<peer>/...` reaches any peer as a player would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Every peer's endpoint, `host:port`.
    pub peers: Vec<(PeerName, String)>,
}

//! The names, messages, headers, keys and files that hopcast's programs exchange.
//!
//! Everything here is pure: no sockets, no files, no clock. Time and bytes are arguments. Two programs that agree on
//! this crate's version can talk; `docs/protocol.md` is the same contract in prose.

pub mod auth;
pub mod config;
pub mod content;
pub mod credentials;
pub mod emulation;
pub mod keys;
pub mod limits;
pub mod manifest;
pub mod message;
pub mod name;

pub use auth::{AuthError, RelayAuth};
pub use config::{DatabaseAccess, NeighborConfig, PeerConfig, PeerLimits, RoomMembership, SignallingConfig};
pub use content::{ContentId, Sha256};
pub use credentials::{Credentials, SignallingCredentials};
pub use emulation::Emulation;
pub use keys::{LinkKey, ManifestKey, ManifestPublicKey, MeshSecret, Token};
pub use manifest::{Manifest, ManifestError, Rendition, Segment, SignedManifest};
pub use message::{ClientMessage, ErrorCode, ServerMessage};
pub use name::{
    DatabaseName, MeshName, NameError, NetworkName, NodeName, PeerName, RenditionName, RoomName, RouteId,
    SongName,
};

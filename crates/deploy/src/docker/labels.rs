//! Labels: how everything that is ours is found again, without a file.
//!
//! Every container, network and volume of a mesh carries [`MESH`], and `down` removes exactly those. Images belong to no
//! mesh and carry [`IMAGE`] and [`CONTENT`] instead.

use std::collections::HashMap;

use hopcast_protocol::MeshName;

/// The mesh's name.
pub const MESH: &str = "io.hopcast.mesh";
/// One of [`Role`].
pub const ROLE: &str = "io.hopcast.role";
/// The node that an object is, or belongs to: `peer-7`, `edge-db-a`; a network's or volume's own name.
pub const NODE: &str = "io.hopcast.node";
/// What the object was made from; where it differs from what is wanted, the object is replaced.
pub const CONFIG: &str = "io.hopcast.config";
/// On volumes: the major version of PostgreSQL whose data it holds.
pub const MAJOR: &str = "io.hopcast.postgres";
/// On images: `peer`, `signalling` or `postgres`.
pub const IMAGE: &str = "io.hopcast.image";
/// On images: the SHA-256 of all that the image was made from, in hexadecimal digits.
pub const CONTENT: &str = "io.hopcast.content";

/// What an object is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A peer's container.
    Peer,
    /// A database's container.
    Database,
    /// The signalling server's container.
    Signalling,
    /// A short-lived container of the operator's.
    Helper,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Role {
    /// Its label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Database => "database",
            Self::Signalling => "signalling",
            Self::Helper => "helper",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }

    /// The role of a label's value.
    pub fn parse(value: &str) -> Option<Self> {
        [Self::Peer, Self::Database, Self::Signalling, Self::Helper, Self::Network, Self::Volume]
            .into_iter()
            .find(|role| role.as_str() == value)
    }
}

/// The labels of an object of a mesh.
pub fn of(mesh: &MeshName, role: Role, node: &str) -> HashMap<String, String> {
    HashMap::from([
        (MESH.to_owned(), mesh.to_string()),
        (ROLE.to_owned(), role.as_str().to_owned()),
        (NODE.to_owned(), node.to_owned()),
    ])
}

/// The labels of a database's volume.
pub fn of_volume(mesh: &MeshName, node: &str, major: Option<u32>) -> HashMap<String, String> {
    let mut labels = of(mesh, Role::Volume, node);
    labels.extend(major.map(|major| (MAJOR.to_owned(), major.to_string())));
    labels
}

/// The filter with which the engine lists a mesh's objects, of every kind.
pub fn filter(mesh: &MeshName) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{MESH}={mesh}")])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back() {
        for role in [Role::Peer, Role::Database, Role::Signalling, Role::Helper, Role::Network, Role::Volume]
        {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("Peer"), None);
    }

    #[test]
    fn the_filter_asks_for_what_of_writes() {
        let mesh = MeshName::new("m").unwrap();
        let labels = of(&mesh, Role::Peer, "peer-1");
        let wanted = format!("{MESH}={}", labels[MESH]);
        assert_eq!(filter(&mesh)["label"], [wanted]);
    }

    #[test]
    fn a_volume_says_what_made_its_data_where_that_is_known() {
        let mesh = MeshName::new("m").unwrap();
        assert_eq!(of_volume(&mesh, "edge-db-a", Some(15))[MAJOR], "15");
        assert_eq!(of_volume(&mesh, "edge-db-a", None), of(&mesh, Role::Volume, "edge-db-a"));
    }
}

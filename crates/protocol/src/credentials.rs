//! The secret part of a configuration, for deployments where the rest may be read by everybody (the Nix store): a second
//! file, `--keys`, beside `--config`.
//!
//! A configuration holds its keys itself, or none of them and they come from that file; never some of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    config::{CONFIG_VERSION, PeerConfig, SignallingConfig},
    keys::{LinkKey, ManifestPublicKey, Token, TokenKey},
    name::{DatabaseName, PeerName, RoomName},
};

/// What a [`PeerConfig`] has of the mesh's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// [`CONFIG_VERSION`].
    pub version: u32,
    /// Whose they are.
    pub name: PeerName,
    /// Checks manifests. No secret, but made from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<ManifestPublicKey>,
    /// By room.
    pub tokens: BTreeMap<RoomName, Token>,
    /// By neighbour.
    pub links: BTreeMap<PeerName, LinkKey>,
    /// Passwords by edge database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<DatabaseName, Password>,
}

/// What a [`SignallingConfig`] has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignallingCredentials {
    /// [`CONFIG_VERSION`].
    pub version: u32,
    /// Checks the peers' tokens.
    pub token_key: TokenKey,
}

/// A database password. It stays out of logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The version is another than this program's.
fn other_version(version: u32) -> Option<String> {
    (version != CONFIG_VERSION)
        .then(|| format!("version {version} is not {CONFIG_VERSION}, the one this program reads"))
}

impl Credentials {
    /// Takes everything secret out of a configuration; what is left may be read by everybody.
    pub fn take(config: &mut PeerConfig) -> Self {
        let tokens = config.rooms.iter_mut();
        let links = config.neighbors.iter_mut();
        let databases = config.databases.iter_mut();
        Self {
            version: CONFIG_VERSION,
            name: config.name.clone(),
            public_key: config.public_key.take(),
            tokens: tokens.filter_map(|room| Some((room.name.clone(), room.token.take()?))).collect(),
            links: links
                .map(|link| (link.name.clone(), std::mem::replace(&mut link.key, LinkKey::NONE)))
                .collect(),
            databases: databases
                .map(|at| (at.name.clone(), Password(std::mem::take(&mut at.password))))
                .collect(),
        }
    }

    /// Puts them into a configuration that was written without; everything that does not fit is told.
    pub fn give(self, config: &mut PeerConfig) -> Result<(), Vec<String>> {
        let mut problems: Vec<String> = other_version(self.version).into_iter().collect();
        if self.name != config.name {
            problems
                .push(format!("these are the keys of {}, the configuration is {}'s", self.name, config.name));
        }
        let Self { public_key, mut tokens, mut links, mut databases, .. } = self;
        config.public_key = public_key;
        for room in &mut config.rooms {
            match tokens.remove(&room.name) {
                Some(token) => room.token = Some(token),
                None => problems.push(format!("there is no token for room {}", room.name)),
            }
        }
        for neighbor in &mut config.neighbors {
            match links.remove(&neighbor.name) {
                Some(key) => neighbor.key = key,
                None => problems.push(format!("there is no key for the link to {}", neighbor.name)),
            }
        }
        for at in &mut config.databases {
            match databases.remove(&at.name) {
                Some(password) => at.password = password.0,
                None => problems.push(format!("there is no password for {}", at.name)),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl SignallingCredentials {
    /// Takes the key out of a configuration that has one.
    pub fn take(config: &mut SignallingConfig) -> Option<Self> {
        Some(Self { version: CONFIG_VERSION, token_key: config.token_key.take()? })
    }

    /// Puts it into a configuration that was written without.
    pub fn give(self, config: &mut SignallingConfig) -> Result<(), Vec<String>> {
        if let Some(problem) = other_version(self.version) {
            return Err(vec![problem]);
        }
        config.token_key = Some(self.token_key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DatabaseAccess, NeighborConfig, PeerLimits, RoomMembership},
        keys::MeshSecret,
    };

    fn config() -> PeerConfig {
        let secret = MeshSecret([7; 32]);
        let peer = |name: &str| PeerName::new(name).unwrap();
        let room = RoomName::new("rock").unwrap();
        PeerConfig {
            version: CONFIG_VERSION,
            mesh: crate::MeshName::new("m").unwrap(),
            name: peer("peer-1"),
            listen: "0.0.0.0:8081".parse().unwrap(),
            dial_from: None,
            signal_url: "ws://192.0.2.1:7080/ws".into(),
            rooms: vec![RoomMembership {
                name: room.clone(),
                token: Some(secret.token_key().token(&peer("peer-1"), &room)),
            }],
            neighbors: vec![NeighborConfig {
                name: peer("peer-2"),
                endpoint: "192.0.2.2:8082".into(),
                key: secret.link_key(&peer("peer-1"), &peer("peer-2")),
                rooms: vec![room],
                emulation: crate::Emulation::default(),
            }],
            limits: PeerLimits::default(),
            databases: vec![DatabaseAccess {
                name: DatabaseName::new("edge-db-a").unwrap(),
                host: "192.0.2.3".into(),
                port: 5432,
                database: "hls".into(),
                user: "hopcast_gateway".into(),
                password: "hunter2".into(),
            }],
            public_key: Some(secret.manifest_key().public()),
            peer_addresses: None,
        }
    }

    #[test]
    fn a_configuration_and_its_keys_are_what_they_were() {
        let (whole, mut public) = (config(), config());
        let keys = Credentials::take(&mut public);
        let text = serde_json::to_string(&public).unwrap();
        for secret in ["token", "\"key\"", "password", "public_key", "hunter2"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let mut read: PeerConfig = serde_json::from_str(&text).unwrap();
        let keys: Credentials = serde_json::from_str(&serde_json::to_string(&keys).unwrap()).unwrap();
        keys.give(&mut read).unwrap();
        assert_eq!(read, whole);
        assert!(!format!("{:?}", Credentials::take(&mut read)).contains("hunter2"));
    }

    #[test]
    fn all_that_is_missing_is_told() {
        let (mut public, mut other) = (config(), config());
        Credentials::take(&mut public);
        other.name = PeerName::new("peer-9").unwrap();
        other.rooms.clear();
        other.neighbors.clear();
        other.databases.clear();
        let problems = Credentials::take(&mut other).give(&mut public).unwrap_err().join("\n");
        for part in ["keys of peer-9", "room rock", "link to peer-2", "password for edge-db-a"] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }
}

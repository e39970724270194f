//! The mesh secret, and every key that is derived from it (HKDF-SHA256, RFC 5869; the label says what for).
//!
//! Only who deploys or verifies a mesh knows the secret. A peer gets the keys of its own links, its own tokens and the
//! public half of the manifest key.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    content::{from_hex, serde_as_text, to_hex},
    name::{PeerName, RoomName},
};

macro_rules! key_bytes {
    ($($(#[$doc:meta])* $type:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $type(pub [u8; 32]);

        // Keys stay out of logs.
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        }

        /// 64 hexadecimal digits. It writes a secret: into a config file, never into a log.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::content::HexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                from_hex(text).map(Self)
            }
        }

        serde_as_text!($type);
    )*};
}

key_bytes! {
    /// The one secret of a mesh: `<state>/<mesh>/secret`, 64 hexadecimal digits.
    MeshSecret;
    /// The key of one link, known to its two ends.
    LinkKey;
    /// What the signalling server checks tokens with.
    TokenKey;
    /// Admits one peer to one room: `Authorization: Bearer <token>`.
    Token;
}

impl LinkKey {
    /// What stands for the key of a link that has none: nothing is relayed over it.
    pub const NONE: Self = Self([0; 32]);

    /// [`LinkKey::NONE`].
    pub(crate) fn none() -> Self {
        Self::NONE
    }

    /// True for [`LinkKey::NONE`].
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl MeshSecret {
    /// A new random secret.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    fn derive(&self, label: &str, parts: &[&str]) -> [u8; 32] {
        let mut info = Vec::from(label);
        for part in parts {
            info.push(0); // no name contains it, so no two lists of parts give the same info
            info.extend_from_slice(part.as_bytes());
        }
        let mut key = [0; 32];
        Hkdf::<sha2::Sha256>::new(Some(b"hopcast.1"), &self.0)
            .expand(&info, &mut key)
            .expect("32 bytes are within HKDF-SHA256's 8160");
        key
    }

    /// The key of the link between two peers; the order does not matter.
    pub fn link_key(&self, a: &PeerName, b: &PeerName) -> LinkKey {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        LinkKey(self.derive("link", &[low.as_str(), high.as_str()]))
    }

    /// The key that the signalling server checks tokens with.
    pub fn token_key(&self) -> TokenKey {
        TokenKey(self.derive("token", &[]))
    }

    /// The bearer token of the operator's own requests to the signalling server (`DELETE /api/routes/<id>`).
    pub fn operator_token(&self) -> Token {
        self.token_key().operator_token()
    }

    /// The key that signs manifests.
    pub fn manifest_key(&self) -> ManifestKey {
        ManifestKey(SigningKey::from_bytes(&self.derive("manifest", &[])))
    }

    /// A database role's password, 64 hexadecimal digits.
    pub fn password(&self, database: &str, role: &str) -> String {
        to_hex(&self.derive("password", &[database, role]))
    }
}

impl TokenKey {
    /// The token of one peer in one room.
    pub fn token(&self, peer: &PeerName, room: &RoomName) -> Token {
        Token(MeshSecret(self.0).derive("peer", &[peer.as_str(), room.as_str()]))
    }

    /// The operator's token.
    pub fn operator_token(&self) -> Token {
        Token(MeshSecret(self.0).derive("operator", &[]))
    }
}

impl Token {
    /// Compares without telling by its time how much of a guess was right.
    pub fn matches(&self, text: &str) -> bool {
        from_hex::<32>(text)
            .is_ok_and(|guess| guess.iter().zip(self.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0)
    }
}

/// Signs manifests (Ed25519, RFC 8032).
#[derive(Clone)]
pub struct ManifestKey(SigningKey);

impl fmt::Debug for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManifestKey(..)")
    }
}

impl ManifestKey {
    /// The half that every peer knows.
    pub fn public(&self) -> ManifestPublicKey {
        ManifestPublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

/// Checks manifests. In files 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ManifestPublicKey(VerifyingKey);

impl ManifestPublicKey {
    pub(crate) fn verify(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for ManifestPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for ManifestPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key in 64 hexadecimal digits")]
pub struct PublicKeyError;

impl std::str::FromStr for ManifestPublicKey {
    type Err = PublicKeyError;
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = from_hex(text).map_err(|_| PublicKeyError)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| PublicKeyError)
    }
}

serde_as_text!(ManifestPublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerName {
        PeerName::new(name).unwrap()
    }

    #[test]
    fn both_ends_of_a_link_and_nobody_else_have_its_key() {
        let secret = MeshSecret([7; 32]);
        let key = secret.link_key(&peer("peer-1"), &peer("peer-2"));
        assert_eq!(key, secret.link_key(&peer("peer-2"), &peer("peer-1")));
        assert_ne!(key, secret.link_key(&peer("peer-1"), &peer("peer-3")));
        assert_ne!(key, MeshSecret([8; 32]).link_key(&peer("peer-1"), &peer("peer-2")));
    }

    #[test]
    fn a_token_is_for_one_peer_in_one_room() {
        let key = MeshSecret([7; 32]).token_key();
        let rock = RoomName::new("rock").unwrap();
        let token = key.token(&peer("peer-1"), &rock);
        assert!(token.matches(&token.to_string()));
        for other in [
            key.token(&peer("peer-2"), &rock),
            key.token(&peer("peer-1"), &RoomName::new("soul").unwrap()),
            key.operator_token(),
        ] {
            assert!(!token.matches(&other.to_string()));
        }
        assert!(!token.matches("") && !token.matches("00"));
    }

    #[test]
    fn debug_output_shows_no_key() {
        assert_eq!(format!("{:?}", MeshSecret([7; 32])), "MeshSecret(..)");
        assert_eq!(format!("{:?}", MeshSecret([7; 32]).manifest_key()), "ManifestKey(..)");
    }
}

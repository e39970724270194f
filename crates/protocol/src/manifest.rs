//! A song's signed manifest: what the song consists of, and the SHA-256 of each part.
//!
//! As bytes: 128 hexadecimal digits (the Ed25519 signature of everything after the newline), a newline, the manifest as
//! JSON. A peer checks it once and makes its playlists from it.

use serde::{Deserialize, Serialize};

use crate::{
    content::{Sha256, from_hex, to_hex},
    keys::{ManifestKey, ManifestPublicKey},
    name::{RenditionName, RoomName, SongName},
};

/// What a song consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this structure: 1.
    pub version: u32,
    /// The song.
    pub song: SongName,
    /// Grows with each ingest of the song; of two manifests the one with the larger revision is the newer.
    pub revision: u64,
    /// The rooms that may hear it, in the file's order.
    pub rooms: Vec<RoomName>,
    /// Best first or not: players choose by bandwidth.
    pub renditions: Vec<Rendition>,
}

/// One encoding of a song.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendition {
    /// `128k`; one segment of a URL.
    pub name: RenditionName,
    /// Peak bits a second, for `BANDWIDTH` (RFC 8216 4.3.4.2).
    pub bandwidth: u64,
    /// `mp4a.40.2`, for `CODECS` (RFC 6381).
    pub codecs: String,
    /// File name extension of the segments, which also says their media type: `ts`, `m4s`, `mp4` or `aac`.
    pub extension: String,
    /// `#EXT-X-TARGETDURATION`, whole seconds.
    pub target_duration: u64,
    /// The first segment's `#EXT-X-MEDIA-SEQUENCE`.
    pub first_sequence: u64,
    /// The initialisation section of fMP4 (`#EXT-X-MAP`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Blob>,
    /// In the order of play.
    pub segments: Vec<Segment>,
}

/// Bytes that are known by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Of all the bytes.
    pub sha256: Sha256,
    /// How many there are.
    pub length: u32,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Of all the bytes.
    pub sha256: Sha256,
    /// How many there are.
    pub length: u32,
    /// In microseconds.
    pub duration_us: u64,
    /// `#EXT-X-DISCONTINUITY` stands before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discontinuity: bool,
}

/// Why bytes are not a manifest to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No signature line.
    #[error("no signature line")]
    Malformed,
    /// Signed by another key, or changed since.
    #[error("the signature does not hold")]
    Signature,
    /// Signed, but not in a form that this program knows.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Signed, but of another version.
    #[error("manifest version {0}, this program knows 1")]
    Version(u32),
}

/// A manifest and its signed bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedManifest {
    /// What was signed.
    pub manifest: Manifest,
    /// Signature line and JSON, as it is stored and sent.
    pub bytes: Vec<u8>,
}

impl SignedManifest {
    /// Signs a manifest.
    pub fn sign(manifest: Manifest, key: &ManifestKey) -> Self {
        let json = serde_json::to_vec(&manifest).expect("names, numbers and lists always serialise");
        let mut bytes = to_hex(&key.sign(&json)).into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&json);
        Self { manifest, bytes }
    }

    /// Checks signature and form.
    pub fn verify(bytes: Vec<u8>, key: &ManifestPublicKey) -> Result<Self, ManifestError> {
        let (signature, json) = bytes.split_at_checked(129).ok_or(ManifestError::Malformed)?;
        let signature = std::str::from_utf8(signature)
            .ok()
            .and_then(|line| line.strip_suffix('\n'))
            .and_then(|hex| from_hex::<64>(hex).ok())
            .ok_or(ManifestError::Malformed)?;
        if !key.verify(json, &signature) {
            return Err(ManifestError::Signature);
        }
        let manifest: Manifest = serde_json::from_slice(json)?;
        if manifest.version != 1 {
            return Err(ManifestError::Version(manifest.version));
        }
        Ok(Self { manifest, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::MeshSecret;

    fn sample() -> Manifest {
        Manifest {
            version: 1,
            song: SongName::new("demo").unwrap(),
            revision: 1,
            rooms: vec![RoomName::new("rock").unwrap()],
            renditions: vec![Rendition {
                name: RenditionName::new("128k").unwrap(),
                bandwidth: 140_000,
                codecs: "mp4a.40.2".into(),
                extension: "ts".into(),
                target_duration: 4,
                first_sequence: 0,
                init: None,
                segments: vec![Segment {
                    sha256: Sha256::of(b"a"),
                    length: 1,
                    duration_us: 4_000_000,
                    discontinuity: false,
                }],
            }],
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = MeshSecret([3; 32]).manifest_key();
        let signed = SignedManifest::sign(sample(), &key);
        assert_eq!(SignedManifest::verify(signed.bytes.clone(), &key.public()).unwrap(), signed);
        for at in 0..signed.bytes.len() {
            let mut bytes = signed.bytes.clone();
            bytes[at] ^= 1;
            assert!(SignedManifest::verify(bytes, &key.public()).is_err(), "byte {at}");
        }
        assert!(matches!(SignedManifest::verify(vec![], &key.public()), Err(ManifestError::Malformed)));
        let other = MeshSecret([4; 32]).manifest_key().public();
        assert!(matches!(SignedManifest::verify(signed.bytes, &other), Err(ManifestError::Signature)));
    }
}

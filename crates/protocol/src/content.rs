//! What a peer can hold: a blob by its SHA-256, or the newest manifest of a song.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::name::SongName;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} hexadecimal digits in lower case")]
pub struct HexError(pub usize);

/// Reads exactly `N` bytes of lower-case hexadecimal.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(HexError(2 * N)),
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(HexError(2 * N));
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// Writes bytes as lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    // Not through the formatter: a relay writes a MAC for every request.
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = HexError;
    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text).map(Self)
    }
}

/// Something that peers hold and ask for. In messages `sha256:<hex>` or `manifest:<song>`, in relay paths with `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentId {
    /// A segment or an init segment.
    Blob(Sha256),
    /// The newest signed manifest of a song. Only gateways hold it.
    Manifest(SongName),
}

/// A text that names no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `sha256:<64 hexadecimal digits>` or `manifest:<song>`")]
pub struct ContentError;

impl ContentId {
    /// The content's part of a relay path: `sha256/<hex>` or `manifest/<song>`.
    pub fn path(&self) -> String {
        self.to_string().replacen(':', "/", 1)
    }

    /// Reads [`ContentId::path`].
    pub fn from_path(path: &str) -> Result<Self, ContentError> {
        Self::parse(path, '/')
    }

    fn parse(text: &str, separator: char) -> Result<Self, ContentError> {
        match text.split_once(separator).ok_or(ContentError)? {
            ("sha256", hex) => hex.parse().map(Self::Blob).map_err(|_| ContentError),
            ("manifest", song) => SongName::new(song).map(Self::Manifest).map_err(|_| ContentError),
            _ => Err(ContentError),
        }
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(sha256) => write!(f, "sha256:{sha256}"),
            Self::Manifest(song) => write!(f, "manifest:{song}"),
        }
    }
}

impl FromStr for ContentId {
    type Err = ContentError;
    fn from_str(text: &str) -> Result<Self, ContentError> {
        Self::parse(text, ':')
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;
serde_as_text!(Sha256, ContentId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_one_of_fips_180() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(Sha256::of(b"abc")));
        assert_eq!(abc.to_uppercase().parse::<Sha256>(), Err(HexError(64)));
    }

    #[test]
    fn content_has_one_text_in_messages_and_one_in_paths() {
        let blob = ContentId::Blob(Sha256::of(b"abc"));
        assert_eq!(blob.to_string().parse(), Ok(blob.clone()));
        assert_eq!(ContentId::from_path(&blob.path()), Ok(blob));
        assert_eq!(ContentId::from_path("manifest/demo").unwrap().to_string(), "manifest:demo");
        for bad in ["", "sha256:", "sha256:00", "manifest:a/b", "manifest:", "demo"] {
            assert_eq!(bad.parse::<ContentId>(), Err(ContentError), "{bad}");
        }
    }
}

//! Newtypes for everything that has a name, so that a room can't be passed for a peer.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::NAME_BYTES;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a {0} name is empty")]
    Empty(&'static str),
    /// The text is longer than [`NAME_BYTES`].
    #[error("a {kind} name has {len} bytes, at most {NAME_BYTES} are allowed")]
    TooLong {
        /// What it should name.
        kind: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// A character that would need quoting in a URL, a container name or a systemd unit.
    #[error(
        "`{name}` is not a {kind} name: `{found}` at byte {at}; use letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    Character {
        /// What it should name.
        kind: &'static str,
        /// The text.
        name: String,
        /// The first character that does not fit.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

fn check(kind: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if name.len() > NAME_BYTES {
        return Err(NameError::TooLong { kind, len: name.len() });
    }
    let bad = name
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'))));
    match bad {
        Some((at, found)) => Err(NameError::Character { kind, name: name.to_owned(), found, at }),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the text: 1 to 63 letters, digits, `.`, `_`, `-`, the first a letter or digit.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                check($kind, name.as_ref())?;
                Ok(Self(name.as_ref().into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                Self::new(&*text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// A mesh: label, and name of its state directory.
    MeshName = "mesh";
    /// A peer, `peer-1`.
    PeerName = "peer";
    /// A room, the original's "interest".
    RoomName = "room";
    /// An edge or origin database.
    DatabaseName = "database";
    /// What is no peer and no database, but runs: a container of the signalling server.
    NodeName = "node";
    /// A network of a container engine.
    NetworkName = "network";
    /// A song: one path segment of a URL.
    SongName = "song";
    /// A rendition of a song, `128k`: one path segment of a URL.
    RenditionName = "rendition";
    /// A route: `<random epoch of the server's start>-<counter>`.
    RouteId = "route";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_a_url_and_a_container_name() {
        for ok in ["peer-1", "a", "0", "Rock_n.Roll", &"x".repeat(63)] {
            assert_eq!(PeerName::new(ok).unwrap().as_str(), ok);
        }
    }

    #[test]
    fn refuses_the_rest_and_says_where() {
        assert_eq!(PeerName::new(""), Err(NameError::Empty("peer")));
        assert_eq!(PeerName::new("x".repeat(64)), Err(NameError::TooLong { kind: "peer", len: 64 }));
        for (bad, at) in [("-a", 0), ("a/b", 1), ("pe er", 2), ("müsli", 1), ("..", 0)] {
            let Err(NameError::Character { at: found, .. }) = RoomName::new(bad) else {
                panic!("{bad} taken")
            };
            assert_eq!(found, at, "{bad}");
        }
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<PeerName>("\"a b\"").is_err());
        assert_eq!(serde_json::to_string(&PeerName::new("peer-1").unwrap()).unwrap(), "\"peer-1\"");
    }
}

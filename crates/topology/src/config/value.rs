//! The types of single values: what each accepts, and what to write instead of what it does not.

mod address;
mod measure;
mod number;
mod shape;

use std::borrow::Cow;

use hopcast_protocol::{DatabaseName, MeshName, NameError, NetworkName, NodeName, RoomName, SongName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::{
    read::Reader,
    table::{At, FromToml},
};
use crate::{report::Problem, source::Span};

pub(crate) use address::{Listen, Net};
pub(crate) use measure::{Rate, Size, Time};
pub(crate) use number::{Cpus, Int, Port, Share};
pub(crate) use shape::ShapeName;

/// Why a text is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Mistake {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    pub(crate) fn problem(self, code: &'static str, span: Span) -> Problem {
        Problem::error(code, span, self.message).help(self.help)
    }
}

/// A type that is written as a string.
pub(crate) trait Word: Sized {
    /// Name of the type in the schema.
    const NAME: &'static str;
    /// Completes "where ... belongs".
    const EXPECTED: &'static str;
    /// What is wrong with a text of this type.
    const CODE: &'static str;
    /// A pattern that every right text has, for editors.
    const PATTERN: &'static str;
    /// A right text.
    const EXAMPLE: &'static str;
    fn parse(text: &str) -> Result<Self, Mistake>;
}

impl<T: Word> FromToml for T {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        let Some(text) = value.as_str() else {
            to.wrong_type(value, span, T::EXPECTED);
            return None;
        };
        T::parse(text).map_err(|mistake| to.report(mistake.problem(T::CODE, span))).ok()
    }
}

macro_rules! word_schema {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl $($generics)* JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                <Self as Word>::NAME.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": <Self as Word>::PATTERN,
                    "examples": [<Self as Word>::EXAMPLE],
                })
            }
        }
    )*};
}

word_schema!(
    [<N: NameKind>] Name<N>, [] Prefix, [] Size, [] Time, [] Rate, [] Net, [] Listen, [] Identifier, [] Image,
    [] FilePath, [] Selector,
);

/// A name type of `protocol`.
pub(crate) trait NameKind: Sized {
    const KIND: &'static str;
    const EXAMPLE: &'static str;
    fn make(text: &str) -> Result<Self, NameError>;
}

macro_rules! name_kinds {
    ($($type:ident $kind:literal $example:literal)*) => {$(
        impl NameKind for $type {
            const KIND: &'static str = $kind;
            const EXAMPLE: &'static str = $example;
            fn make(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    )*};
}
name_kinds!(
    MeshName "the name of a mesh" "hopcast"
    RoomName "the name of a room" "rock"
    DatabaseName "the name of a database" "edge-db-a"
    NodeName "the name of a container" "signalling"
    NetworkName "the name of a network" "micro-net"
    SongName "the name of a song" "demo"
);

/// A name: 1 to 63 letters, digits, `.`, `_` and `-`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name<N>(pub(crate) N);

const NAME_RULE: &str = "use 1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter or digit";

impl<N: NameKind> Word for Name<N> {
    const NAME: &'static str = "Name";
    const EXPECTED: &'static str = N::KIND;
    const CODE: &'static str = "bad-name";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
    const EXAMPLE: &'static str = N::EXAMPLE;

    fn parse(text: &str) -> Result<Self, Mistake> {
        N::make(text).map(Self).map_err(|error| {
            let shown = text.escape_default();
            let message = match error {
                NameError::Empty(_) => format!("{} is empty", N::KIND),
                NameError::TooLong { len, .. } => format!("{len} bytes are too long for {}", N::KIND),
                NameError::Character { found, .. } => {
                    format!("`{shown}` can't be {}: it has a `{}`", N::KIND, found.escape_default())
                }
            };
            Mistake::new(message, NAME_RULE)
        })
    }
}

/// The beginning of every peer's name; `-` and the number follow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prefix(pub(crate) String);

impl Word for Prefix {
    const NAME: &'static str = "Prefix";
    const EXPECTED: &'static str = "the prefix of the peers' names";
    const CODE: &'static str = "bad-name";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,55}$";
    const EXAMPLE: &'static str = "peer";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let rule =
            "use 1 to 56 letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`";
        let fits = RoomName::new(text).is_ok() && text.len() <= 56 && !text.contains("..");
        if fits { Ok(Self(text.to_owned())) } else { Err(Mistake::new("not a prefix of peers' names", rule)) }
    }
}

/// A name inside PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifier(pub(crate) String);

impl Word for Identifier {
    const NAME: &'static str = "Identifier";
    const EXPECTED: &'static str = "a PostgreSQL name";
    const CODE: &'static str = "bad-name";
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_-]{0,62}$";
    const EXAMPLE: &'static str = "hls";

    fn parse(text: &str) -> Result<Self, Mistake> {
        // NAMEDATALEN - 1 bytes, PostgreSQL manual 4.1.1.
        let fits = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let help = "use 1 to 63 letters, digits, `_` and `-`, beginning with a letter or `_`";
        Err(Mistake::new(format!("`{}` is not a PostgreSQL name", text.escape_default()), help))
    }
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image(pub(crate) String);

impl Word for Image {
    const NAME: &'static str = "Image";
    const EXPECTED: &'static str = "an image such as \"peer-node:latest\"";
    const CODE: &'static str = "bad-image";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}$";
    const EXAMPLE: &'static str = "peer-node:latest";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let fits = (1..=255).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:/@-".contains(c))
            && !text.ends_with([':', '/', '@']);
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let help = "write name:tag, such as \"peer-node:latest\"";
        Err(Mistake::new(format!("`{}` is not the name of an image", text.escape_default()), help))
    }
}

/// A path of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) String);

impl Word for FilePath {
    const NAME: &'static str = "Path";
    const EXPECTED: &'static str = "a path";
    const CODE: &'static str = "bad-path";
    const PATTERN: &'static str = "^[^\\u0000]+$";
    const EXAMPLE: &'static str = "songs/demo";

    fn parse(text: &str) -> Result<Self, Mistake> {
        if text.trim().is_empty() || text.contains('\0') {
            return Err(Mistake::new(
                "this is not a path",
                "write the path of a file, such as \"songs/demo\"",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One name, a range of peers, or `*`; what it selects is for `resolve` to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(pub(crate) String);

impl Word for Selector {
    const NAME: &'static str = "Selector";
    const EXPECTED: &'static str = "a name";
    const CODE: &'static str = "bad-name";
    const PATTERN: &'static str = r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]*)$";
    const EXAMPLE: &'static str = "peer-1..peer-8";

    fn parse(text: &str) -> Result<Self, Mistake> {
        Ok(Self(text.to_owned()))
    }
}

/// The two ends of a link. Their number is checked with the rest of the link, so that a wrong one has its own message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ends(pub(crate) Vec<At<Selector>>);

impl FromToml for Ends {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        FromToml::from_toml(value, span, to).map(Self)
    }
}

impl JsonSchema for Ends {
    fn schema_name() -> Cow<'static, str> {
        "Ends".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let end = generator.subschema_for::<Selector>();
        json_schema!({
            "type": "array",
            "items": end,
            "minItems": 2,
            "maxItems": 2,
            "examples": [["peer-1", "peer-90"]],
        })
    }
}

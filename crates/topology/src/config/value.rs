//! The scalar types of the file: what each accepts, and what to write instead of what it does not.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, SocketAddr},
};

use hopcast_protocol::{DatabaseName, MeshName, NameError, NetworkName, RoomName, SongName};
use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use toml::de::DeValue;

use super::{
    read::Reader,
    table::{At, FromToml},
};
use crate::{report::Problem, source::Span};

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

/// Splits `1.5MiB` into its number, as digits and how many of them are decimals, and its unit.
fn quantity(text: &str) -> Option<(u128, u32, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    // 12 digits each: no unit makes that overflow 128 bits.
    if whole.is_empty() || whole.len() > 12 || decimals.len() > 12 || number.ends_with('.') {
        return None;
    }
    let digits = format!("{whole}{decimals}").parse().ok()?;
    Some((digits, decimals.len() as u32, unit.trim_start()))
}

/// A quantity in its smallest unit, by a table of units.
fn measure(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    let (digits, decimals, unit) = quantity(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(digits * factor / 10u128.pow(decimals)).ok()
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl Word for Size {
    const NAME: &'static str = "Size";
    const EXPECTED: &'static str = "a size such as \"15MiB\"";
    const CODE: &'static str = "bad-size";
    const PATTERN: &'static str = r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(B|kB|KiB|MB|MiB|GB|GiB)$";
    const EXAMPLE: &'static str = "15MiB";

    fn parse(text: &str) -> Result<Self, Mistake> {
        const UNITS: &[(&str, u128)] = &[
            ("B", 1),
            ("kB", 1000),
            ("KiB", 1 << 10),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("GiB", 1 << 30),
        ];
        measure(text, UNITS).map(Self).ok_or_else(|| {
            let units = "write a number and one of B, kB, KiB, MB, MiB, GB, GiB, such as \"15MiB\"";
            Mistake::new(format!("`{}` is not a size", text.escape_default()), units)
        })
    }
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) u64);

impl Word for Time {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration such as \"20ms\"";
    const CODE: &'static str = "bad-duration";
    const PATTERN: &'static str = r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(us|ms|s|min)$";
    const EXAMPLE: &'static str = "20ms";

    fn parse(text: &str) -> Result<Self, Mistake> {
        const UNITS: &[(&str, u128)] = &[("us", 1), ("ms", 1000), ("s", 1_000_000), ("min", 60_000_000)];
        measure(text, UNITS).map(Self).ok_or_else(|| {
            let units = "write a number and one of us, ms, s, min, such as \"20ms\"";
            Mistake::new(format!("`{}` is not a duration", text.escape_default()), units)
        })
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(pub(crate) u64);

impl Word for Rate {
    const NAME: &'static str = "Rate";
    const EXPECTED: &'static str = "a rate such as \"10Mbit/s\"";
    const CODE: &'static str = "bad-rate";
    const PATTERN: &'static str =
        r"^[0-9]{1,12}(\.[0-9]{1,12})? ?(bit/s|kbit/s|Mbit/s|Gbit/s|B/s|kB/s|KiB/s|MB/s|MiB/s)$";
    const EXAMPLE: &'static str = "10Mbit/s";

    fn parse(text: &str) -> Result<Self, Mistake> {
        // In bits, so that every unit is whole.
        const UNITS: &[(&str, u128)] = &[
            ("bit/s", 1),
            ("kbit/s", 1000),
            ("Mbit/s", 1_000_000),
            ("Gbit/s", 1_000_000_000),
            ("B/s", 8),
            ("kB/s", 8000),
            ("KiB/s", 8 << 10),
            ("MB/s", 8_000_000),
            ("MiB/s", 8 << 20),
        ];
        measure(text, UNITS).map(|bits| Self(bits / 8)).ok_or_else(|| {
            let units = "write a number and one of bit/s, kbit/s, Mbit/s, Gbit/s, B/s, kB/s, KiB/s, MB/s, MiB/s, such as \
                         \"10Mbit/s\" (`mbps` means bits to some tools and bytes to others)";
            Mistake::new(format!("`{}` is not a rate", text.escape_default()), units)
        })
    }
}

/// An IPv4 network, written as its first address and prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Net(pub(crate) Ipv4Net);

impl Word for Net {
    const NAME: &'static str = "Network";
    const EXPECTED: &'static str = "a network such as \"127.77.0.0/16\"";
    const CODE: &'static str = "bad-network";
    const PATTERN: &'static str = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$";
    const EXAMPLE: &'static str = "127.77.0.0/16";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let help = "write its first address, `/` and the prefix length, such as \"127.77.0.0/16\"";
        let net: Ipv4Net = text
            .parse()
            .map_err(|_| Mistake::new(format!("`{}` is not an IPv4 network", text.escape_default()), help))?;
        if net.trunc() != net {
            let message = format!("`{text}` is an address inside a network, not the network");
            return Err(Mistake::new(message, format!("write \"{}\"", net.trunc())));
        }
        Ok(Self(net))
    }
}

/// An address to listen at. `:7080` means every address of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl Word for Listen {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an address such as \"127.0.0.1:7080\"";
    const CODE: &'static str = "bad-address";
    const PATTERN: &'static str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\])?:[0-9]{1,5}$";
    const EXAMPLE: &'static str = "127.0.0.1:7080";

    fn parse(text: &str) -> Result<Self, Mistake> {
        let help =
            "write an IP address, `:` and a port, such as \"127.0.0.1:7080\"; \":7080\" is every address";
        let address: Option<SocketAddr> = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port: u16| (Ipv4Addr::UNSPECIFIED, port).into()),
            None => text.parse().ok(),
        };
        match address {
            Some(address) if address.port() != 0 => Ok(Self(address)),
            Some(_) => Err(Mistake::new("port 0 is not a port", "write a port from 1 to 65535")),
            None => {
                Err(Mistake::new(format!("`{}` is not an address with a port", text.escape_default()), help))
            }
        }
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

/// An integer from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(pub(crate) i64);

/// A port.
pub(crate) type Port = Int<1, 65535>;

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    /// The value; `MIN` of every type in use is not negative.
    pub(crate) fn get(self) -> u64 {
        self.0.unsigned_abs()
    }

    pub(crate) fn check(number: Option<i64>) -> Result<Self, Mistake> {
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            Some(number) if number < MIN => {
                Err(Mistake::new(format!("at least {MIN} is needed here"), format!("write {MIN} or more")))
            }
            _ => Err(Mistake::new(format!("at most {MAX} is possible here"), format!("write {MAX} or less"))),
        }
    }
}

impl<const MIN: i64, const MAX: i64> FromToml for Int<MIN, MAX> {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        let Some(integer) = value.as_integer() else {
            to.wrong_type(value, span, "an integer");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let negative = integer.as_str().starts_with('-');
        Self::check(number.or(negative.then_some(i64::MIN)))
            .map_err(|mistake| to.report(mistake.problem("out-of-range", span)))
            .ok()
    }
}

impl<const MIN: i64, const MAX: i64> JsonSchema for Int<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Int{MIN}To{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

fn number(
    value: &DeValue<'_>,
    range: std::ops::RangeInclusive<f64>,
    span: Span,
    to: &mut Reader,
) -> Option<f64> {
    let number: f64 = match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64)
        }
        _ => {
            to.wrong_type(value, span, &format!("a number from {} to {}", range.start(), range.end()));
            return None;
        }
    }
    .unwrap_or(f64::NAN);
    if range.contains(&number) {
        return Some(number);
    }
    let message = format!("not a number from {} to {}", range.start(), range.end());
    to.report(Problem::error("out-of-range", span, message).help(format!(
        "write {} to {}",
        range.start(),
        range.end()
    )));
    None
}

/// A probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl FromToml for Share {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        number(value, 0.0..=1.0, span, to).map(Self)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// CPUs; the engine's smallest share is a hundredth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cpus(pub(crate) f64);

impl FromToml for Cpus {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        number(value, 0.01..=1024.0, span, to).map(Self)
    }
}

impl JsonSchema for Cpus {
    fn schema_name() -> Cow<'static, str> {
        "Cpus".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0.01, "maximum": 1024 })
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        let truth = value.as_bool();
        if truth.is_none() {
            to.wrong_type(value, span, "true or false");
        }
        truth
    }
}

/// How links are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShapeName {
    Ring,
    RandomRegular,
    SmallWorld,
    ErdosRenyi,
    Grid,
    Full,
    None,
}

impl ShapeName {
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("ring", Self::Ring),
        ("random-regular", Self::RandomRegular),
        ("small-world", Self::SmallWorld),
        ("erdos-renyi", Self::ErdosRenyi),
        ("grid", Self::Grid),
        ("full", Self::Full),
        ("none", Self::None),
    ];
}

impl FromToml for ShapeName {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        let Some(text) = value.as_str() else {
            to.wrong_type(value, span, "the name of a shape");
            return None;
        };
        let shape = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, shape)| *shape);
        if shape.is_none() {
            let names = Self::ALL.iter().map(|(name, _)| *name);
            to.report(
                Problem::error(
                    "unknown-shape",
                    span,
                    format!("there is no shape `{}`", text.escape_default()),
                )
                .help(crate::suggest::instead(text, names, "the shapes are")),
            );
        }
        shape
    }
}

impl JsonSchema for ShapeName {
    fn schema_name() -> Cow<'static, str> {
        "Shape".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::ALL.iter().map(|(name, _)| json!(name)).collect();
        json_schema!({ "type": "string", "enum": names })
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

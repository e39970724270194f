//! How tables are declared: one macro makes the struct, its schema and its reader, so the three can't disagree.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::read::Reader;
use crate::{report::Problem, source::Span, suggest};

/// A value with the place where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
    /// Something in it could not be read: it is a default, or incomplete.
    pub(crate) bad: bool,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span, bad: false }
    }
}

/// A value that may be absent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Maybe<T> {
    pub(crate) at: Option<At<T>>,
    /// It was written, but something in it could not be read.
    pub(crate) bad: bool,
}

impl<T> Maybe<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.at.as_ref().map(|at| &at.value)
    }

    /// Where it was written.
    pub(crate) fn span(&self) -> Span {
        self.at.as_ref().map_or(Span::NONE, |at| at.span)
    }
}

/// A type that a TOML value can have.
pub(crate) trait FromToml: Sized {
    /// Reads the value; on a mistake reports it and returns `None`.
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self>;
}

/// A key as the macro declares it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    /// As TOML.
    pub(crate) default: Option<&'static str>,
}

/// A struct that the macro made.
pub(crate) trait Table {
    const KEYS: &'static [Key];
}

/// A struct's field: [`At`] or [`Maybe`].
pub(crate) trait Field: Sized {
    const OPTIONAL: bool;
    fn field(table: &DeTable<'_>, place: &Place, key: &Key, to: &mut Reader) -> Option<Self>;
}

/// Where a table is, for complaints about what it lacks.
#[derive(Debug)]
pub(crate) struct Place {
    text: u16,
    header: Span,
    lost: Vec<String>,
}

impl<T: FromToml> Field for At<T> {
    const OPTIONAL: bool = false;

    fn field(table: &DeTable<'_>, place: &Place, key: &Key, to: &mut Reader) -> Option<Self> {
        let lost = place.lost.iter().any(|lost| lost == key.name);
        if let Some(value) = table.get(key.name) {
            let span = Span::new(place.text, value.span());
            let before = to.dirt();
            let read = T::from_toml(value.get_ref(), span, to);
            let bad = to.dirt() != before || lost;
            return match read {
                Some(value) => Some(At { value, span, bad }),
                None => Some(At { value: default(key)?, span, bad }),
            };
        }
        if let Some(value) = default(key) {
            return Some(At { value, span: Span::NONE, bad: lost });
        }
        if !lost {
            let message = format!("the key `{}` is missing", key.name);
            to.report(
                Problem::error("missing-key", place.header, message)
                    .help(format!("add `{} = ...`", key.name)),
            );
        }
        None
    }
}

impl<T: FromToml> Field for Maybe<T> {
    const OPTIONAL: bool = true;

    fn field(table: &DeTable<'_>, place: &Place, key: &Key, to: &mut Reader) -> Option<Self> {
        let Some(value) = table.get(key.name) else {
            return Some(Self { at: None, bad: place.lost.iter().any(|lost| lost == key.name) });
        };
        let span = Span::new(place.text, value.span());
        let before = to.dirt();
        let value = T::from_toml(value.get_ref(), span, to);
        let bad = to.dirt() != before;
        Some(Self { at: value.map(|value| At { value, span, bad }), bad })
    }
}

/// The declared default, read like a written value.
fn default<T: FromToml>(key: &Key) -> Option<T> {
    let (value, errors) = DeValue::parse_recoverable(key.default?);
    let mut scratch = Reader::default();
    let read = T::from_toml(value.get_ref(), Span::NONE, &mut scratch);
    debug_assert!(errors.is_empty() && scratch.problems.is_empty(), "default of `{}`", key.name);
    read
}

impl<T: FromToml> FromToml for Vec<At<T>> {
    fn from_toml(value: &DeValue<'_>, span: Span, to: &mut Reader) -> Option<Self> {
        let Some(items) = value.as_array() else {
            to.wrong_type(value, span, "a list");
            return None;
        };
        let read = |item: &Spanned<DeValue<'_>>| {
            let span = Span::new(span.text, item.span());
            let before = to.dirt();
            let value = T::from_toml(item.get_ref(), span, to)?;
            Some(At { value, span, bad: to.dirt() != before })
        };
        Some(items.iter().filter_map(read).collect())
    }
}

/// The table itself and its place; reports another type and every key that it doesn't know.
pub(crate) fn open<'a, 'i>(
    value: &'a DeValue<'i>,
    span: Span,
    keys: &[Key],
    to: &mut Reader,
) -> Option<(&'a DeTable<'i>, Place)> {
    let Some(table) = value.as_table() else {
        to.wrong_type(value, span, "a table");
        return None;
    };
    for key in table.keys() {
        let name = key.get_ref();
        if keys.iter().all(|known| known.name != name) {
            let names = keys.iter().map(|key| key.name);
            let problem = Problem::error(
                "unknown-key",
                Span::new(span.text, key.span()),
                format!("unknown key `{name}`"),
            )
            .help(suggest::instead(name, names, "the keys here are"));
            to.report(problem);
        }
    }
    let lost = to.lost_keys(span.start, span.start == span.end);
    Some((table, Place { text: span.text, header: span, lost }))
}

/// Finishes a struct's schema: which keys are required, and what the others are when absent.
pub(crate) fn finish<T: Table>(schema: &mut Schema) {
    let required: Vec<_> = T::KEYS.iter().filter(|key| key.required).map(|key| key.name).collect();
    schema.remove("required");
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::from(required));
    }
    let order: Vec<_> = T::KEYS.iter().map(|key| key.name).collect();
    schema.insert(crate::schema::ORDER.to_owned(), Value::from(order));
    if let Some(description) = schema.get_mut("description") {
        unwrap_lines(description);
    }
    for key in T::KEYS {
        let pointer = format!("/properties/{}", key.name);
        let Some(property) = schema.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
        if let Some(description) = property.get_mut("description") {
            unwrap_lines(description);
        }
        // That a table or list may be absent is all that an empty default says.
        if let Some(default) = key.default.filter(|default| !matches!(*default, "{}" | "[]")).and_then(json) {
            property.insert("default".to_owned(), default);
        }
    }
}

/// A doc comment is wrapped for the source; an editor wraps for itself. A line that begins with a backquoted word and a
/// colon begins an item of a list and stays a line.
fn unwrap_lines(description: &mut Value) {
    let Value::String(text) = description else { return };
    let mut unwrapped = String::with_capacity(text.len());
    for line in text.lines() {
        let item = line.strip_prefix('`').is_some_and(|rest| rest.find("`:") == rest.find('`'));
        if !unwrapped.is_empty() {
            unwrapped.push(if item { '\n' } else { ' ' });
        }
        unwrapped.push_str(line);
    }
    *text = unwrapped;
}

/// A TOML value as JSON.
fn json(toml: &str) -> Option<Value> {
    fn convert(value: &DeValue<'_>) -> Option<Value> {
        Some(match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => Value::from(number.as_str().parse::<i64>().ok()?),
            DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().ok()?),
            DeValue::Boolean(truth) => Value::from(*truth),
            DeValue::Datetime(_) => return None,
            DeValue::Array(items) => {
                items.iter().map(|item| convert(item.get_ref())).collect::<Option<Vec<_>>>()?.into()
            }
            DeValue::Table(table) => {
                let entries = table
                    .iter()
                    .map(|(key, value)| Some((key.get_ref().to_string(), convert(value.get_ref())?)));
                Value::Object(entries.collect::<Option<Map<_, _>>>()?)
            }
        })
    }
    convert(DeValue::parse(toml).ok()?.get_ref())
}

/// [`At`] and [`Maybe`] look like what is inside them.
macro_rules! transparent {
    ($($wrapper:ident)*) => {$(
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                T::schema_name()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
            fn inline_schema() -> bool {
                T::inline_schema()
            }
        }
    )*};
}
transparent!(At Maybe);

/// Declares tables. `key: At<T>` is required, `key: At<T> = default` has a default, `key: Maybe<T>` may be absent.
macro_rules! tables {
    ($(
        $(#[$meta:meta])*
        struct $name:ident {
            $( $(#[$doc:meta])* $key:ident : $type:ty $(= $default:tt)? ,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, transform = $crate::config::table::finish::<$name>)]
        pub(crate) struct $name {
            $( $(#[$doc])* pub(crate) $key: $type, )*
        }

        impl $crate::config::table::Table for $name {
            const KEYS: &'static [$crate::config::table::Key] = &[$({
                let defaults: &[&'static str] = &[$(stringify!($default))?];
                $crate::config::table::Key {
                    name: stringify!($key),
                    required: defaults.is_empty() && !<$type as $crate::config::table::Field>::OPTIONAL,
                    default: if defaults.is_empty() { None } else { Some(defaults[0]) },
                }
            },)*];
        }

        impl $crate::config::table::FromToml for $name {
            fn from_toml(
                value: &toml::de::DeValue<'_>,
                span: $crate::source::Span,
                to: &mut $crate::config::read::Reader,
            ) -> Option<Self> {
                let keys = <Self as $crate::config::table::Table>::KEYS;
                let (table, place) = $crate::config::table::open(value, span, keys, to)?;
                let mut keys = keys.iter();
                $(
                    let $key = keys.next().and_then(|key| {
                        <$type as $crate::config::table::Field>::field(table, &place, key, to)
                    });
                )*
                Some(Self { $( $key: $key?, )* })
            }
        }
    )*};
}
pub(crate) use tables;

//! Numbers and truths.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::Mistake;
use crate::{
    config::{read::Reader, table::FromToml},
    report::Problem,
    source::Span,
};

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

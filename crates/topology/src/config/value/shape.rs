//! The names of link shapes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use toml::de::DeValue;

use crate::{
    config::{read::Reader, table::FromToml},
    report::Problem,
    source::Span,
    suggest,
};

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
                .help(suggest::instead(text, names, "the shapes are")),
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

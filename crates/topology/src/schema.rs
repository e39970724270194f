//! The JSON Schema of the file, for editors: draft-07, which Taplo and Even Better TOML take.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::File;

/// In what order a table declares its keys. Only between the tables and whoever walks them: not part of the schema.
pub(crate) const ORDER: &str = "x-order";

/// The JSON Schema of `topology.toml`, draft-07, without references to anything outside of it.
///
/// It knows every key, type, pattern and range. What needs more than one key to judge is [`crate::load`]'s to say.
pub fn schema() -> Value {
    let mut schema = ordered();
    clean(&mut schema);
    schema
}

/// The schema with [`ORDER`] in each table.
pub(crate) fn ordered() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), Value::from("topology.toml"));
    schema.to_value()
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove(ORDER);
            object.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

//! The JSON Schema says about a file what the program says, as far as a schema can.

use hopcast_topology::{init_text, schema};
use serde_json::Value;

fn as_json(toml: &str) -> Value {
    let table: toml::Table = toml.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

fn complaints(toml: &str) -> Vec<String> {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let file = as_json(toml);
    validator.iter_errors(&file).map(|error| format!("{} {error}", error.instance_path())).collect()
}

#[test]
fn is_a_draft_07_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(jsonschema::draft7::meta::is_valid(&schema));
    println!("{}", serde_json::to_string_pretty(&schema).unwrap());
}

#[test]
fn takes_the_shipped_file_and_its_commented_alternatives() {
    assert_eq!(complaints(init_text()), Vec::<String>::new());
}

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
    let lines: Vec<_> = init_text().lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        // A key alone, in its place; or a shape in place of the one that is there.
        let (mut changed, shape) = (lines.clone(), line.strip_prefix("#   {"));
        let text = if let Some(shape) = shape {
            let inline = format!("{{{}", &shape[..=shape.find('}').unwrap()]);
            init_text().replace("{ shape = \"ring\", skip = [4] }", &inline)
        } else {
            let key = line.strip_prefix("# ").filter(|key| key.contains(" = ") && !key.starts_with(' '));
            let of_links = ["between", "latency", "jitter", "rate", "loss", "remove"];
            let Some(key) = key.filter(|key| !of_links.iter().any(|name| key.starts_with(name))) else {
                continue;
            };
            changed[at] = key;
            changed.join("\n")
        };
        assert_eq!(complaints(&text), Vec::<String>::new(), "{line}");
        tried += 1;
    }
    assert!(tried >= 12, "{tried}");
}

#[test]
fn refuses_what_the_program_refuses() {
    let good = "[peers]\ncount = 5\n";
    assert!(complaints(good).is_empty());
    for bad in [
        "[peers]\ncuont = 5\n",
        "[peers]\ncount = 0\n",
        "[peers]\ncount = 20001\n",
        "[peers]\nmemory = 5\n",
        "[peers]\nmemory = \"5 megs\"\n",
        "[peers]\nlinks = { shape = \"rign\" }\n",
        "[peers]\nlinks = { degree = \"4\" }\n",
        "[[rooms]]\nname = \"a\"\n",
        "[[rooms]]\nname = \"a b\"\npeers = []\n",
        "[[links]]\nbetween = [\"peer-1\"]\n",
        "[[links]]\nbetween = [\"peer-1\", \"peer-2\"]\nloss = 1.5\n",
        "[signalling]\nlisten = \"localhost:7080\"\n",
        "[local]\nnetwork = \"127.0.0.0\"\n",
        "[postgres]\nport = 70000\n",
        "[rooms]\nname = \"a\"\n",
    ] {
        assert!(!complaints(bad).is_empty(), "{bad}");
        let loaded =
            hopcast_topology::load(hopcast_topology::Source::new("t", bad), &hopcast_topology::Env::empty());
        let codes: Vec<_> = loaded.unwrap_err().entries().map(|entry| entry.code).collect();
        assert!(codes.iter().any(|code| *code != "no-room" && *code != "no-gateway"), "{bad} {codes:?}");
    }
}

#[test]
fn every_key_is_described() {
    fn walk(value: &Value, path: &str) {
        let Some(object) = value.as_object() else { return };
        for (name, key) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}/{name}");
            assert!(key["description"].as_str().is_some_and(|text| text.len() > 10), "{path}");
            walk(key, &path);
            walk(&key["items"], &path);
        }
    }
    walk(&schema(), "");
}

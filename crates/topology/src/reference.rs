//! The reference of the file as Markdown, made from the same doc comments as the schema.
//!
//! `docs/topology.md` is this text; a test holds them equal.

use std::fmt::Write;

use serde_json::Value;

use crate::{env::VARIABLES, schema};

const INTRODUCTION: &str = "\
# topology.toml

One file describes a mesh: its peers, rooms, links, databases and songs. `hopcast check` says whether a file is right and,
where it is not, all that is wrong with it; `hopcast plan` prints what it means; `hopcast init` writes a commented one to
begin with. This page is made from the program's own doc comments.

`hopcast schema` prints a JSON Schema (draft-07) with which editors complete and check the file. With Taplo or Even Better
TOML: `hopcast schema > topology.schema.json`, and as the first line of the file `#:schema ./topology.schema.json`.

Every key is optional unless it says *required*. An unknown key is an error.

| Written as | Means |
|---|---|
| a size | `\"15MiB\"`: a number and B, kB, KiB, MB, MiB, GB or GiB |
| a duration | `\"20ms\"`: a number and us, ms, s or min |
| a rate | `\"10Mbit/s\"`: a number and bit/s, kbit/s, Mbit/s, Gbit/s, B/s, kB/s, KiB/s, MB/s or MiB/s |
| a name | 1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter or digit |
| peers | a list of names (`\"peer-3\"`), ranges (`\"peer-1..peer-8\"`), or `\"*\"` for all |
| an address | `\"127.0.0.1:7080\"`; `\":7080\"` is every address of the machine |
| a network | `\"127.77.0.0/16\"`: its first address and prefix length |
";

const SEEDS: &str = "
## What a seed means

The random shapes draw from SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), started with the seed. A number below a bound is
the high half of a 128-bit product (Lemire, 2019); a probability is compared with 53 bits. Nothing else decides, so the same
seed gives the same links on every machine and in every version.

- `random-regular`: Steger and Wormald's pairing (1999): each peer's `degree` stubs, shuffled and joined; stubs that would give
  a link twice or to itself are shuffled again.
- `small-world`: Watts and Strogatz (1998): for each distance 1 to `k/2`, for each peer in order, its link that far on moves its
  far end with probability `p` to a peer drawn until it fits.
- `erdos-renyi`: for each pair, in order, one draw with probability `p`.

## Imported graphs

A graph is one of two forms, by the file's extension:

- `.json`: node-link JSON, as networkx writes it: `{\"nodes\": [{\"id\": 0}], \"links\": [{\"source\": 0, \"target\": 1}]}`; `edges` instead of
  `links` is taken too. Ids are strings or numbers.
- `.csv`: a link in each line, `source,target`. A header that names the columns `source` and `target` (or `from` and `to`) lets
  them stand anywhere; without one they are the first two. Lines that begin with `#` are skipped.

If any node is named like a peer (`peer-7`), all must be, and each is that peer. Otherwise the nodes stand for peer-1, peer-2, ...
in the order in which the file first has them. Self-links, duplicates and directions are dropped. At most 16 MiB are read.

## Limits

At most 20000 peers, 1000000 links, 1024 neighbours of one peer, 31 edges; a file of 1 MiB.
";

const VARIABLES_TITLE: &str = "
## Environment variables

These go on top of the file, for `hopcast` and for the scripts. An empty one counts as unset. What one of them breaks is
reported with its name. Where `COUNT` changes the number of peers, a room that falls apart or loses all its gateways is a
warning, not an error.

| Variable | Meaning |
|---|---|
";

/// The whole page.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let schema = schema::ordered();
    let root = &schema["properties"];
    for name in order(&schema) {
        let key = &root[name];
        if key["type"] == "array" {
            table(&mut page, &format!("[[{name}]]"), &key["items"], &key["description"]);
        } else {
            table(&mut page, &format!("[{name}]"), key, &key["description"]);
        }
        let links = &key["properties"]["links"];
        if links.is_object() {
            table(&mut page, &format!("{name}.links"), links, &links["description"]);
        }
    }
    page.push_str(SEEDS);
    page.push_str(VARIABLES_TITLE);
    for (name, meaning) in VARIABLES {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}

fn order(table: &Value) -> impl Iterator<Item = &str> {
    table[schema::ORDER].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn table(page: &mut String, title: &str, table: &Value, summary: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // Writing to a String can't fail.
    let _ = writeln!(page, "\n## `{title}`\n\n{}\n", text(summary));
    if table["description"] != *summary {
        let _ = writeln!(page, "{}\n", text(&table["description"]));
    }
    let required: Vec<_> =
        table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let _ = writeln!(page, "| Key | Type | Default | Meaning |\n|---|---|---|---|");
    for name in order(table) {
        let key = &table["properties"][name];
        let default = match &key["default"] {
            _ if required.contains(&name) => "*required*".to_owned(),
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        let meaning = text(&key["description"]).replace('\n', "<br>").replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | {} | {default} | {meaning} |", kind(key));
    }
}

/// A key's type in words.
fn kind(key: &Value) -> String {
    let range = match (&key["minimum"], &key["maximum"]) {
        (Value::Null, _) | (_, Value::Null) => String::new(),
        (least, most) if most.as_i64() == Some(i64::MAX) => format!(" from {least}"),
        (least, most) => format!(" {least} to {most}"),
    };
    match key["type"].as_str() {
        Some("array") => format!("list of {}", plural(&key["items"])),
        Some("string") if key["enum"].is_array() => "name of a shape".to_owned(),
        Some("string") => "string".to_owned(),
        Some("object") => "table".to_owned(),
        Some(other) => format!("{other}{range}"),
        None => String::new(),
    }
}

fn plural(items: &Value) -> &'static str {
    match items["type"].as_str() {
        Some("integer") => "integers",
        Some("object") => "tables",
        _ => "strings",
    }
}

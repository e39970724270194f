//! Quoting, for the statements that take no parameters (all DDL), and libpq's connection strings. Pure.

use std::fmt::Write as _;

/// An identifier, quoted (PostgreSQL manual 4.1.1).
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant; with a backslash in it in the `E''` form, which means the same whatever
/// `standard_conforming_strings` says (PostgreSQL manual 4.1.2).
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A libpq connection string (PostgreSQL manual 34.1.1).
pub(crate) fn conninfo(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = write!(text, "{}{key}='{value}'", if text.is_empty() { "" } else { " " });
    }
    text
}

/// What makes the options of a foreign server or user mapping (`key=value`, as the catalogue has them) the wanted ones:
/// the inside of `ALTER ... OPTIONS (...)`, or `None` where nothing differs.
pub(crate) fn alter_options(current: &[String], wanted: &[(&str, &str)]) -> Option<String> {
    let current: Vec<(&str, &str)> = current.iter().filter_map(|option| option.split_once('=')).collect();
    let mut changes = Vec::new();
    for (key, value) in wanted {
        match current.iter().find(|(existing, _)| existing == key) {
            Some((_, existing)) if existing == value => {}
            Some(_) => changes.push(format!("SET {key} {}", literal(value))),
            None => changes.push(format!("ADD {key} {}", literal(value))),
        }
    }
    for (key, _) in &current {
        if !wanted.iter().any(|(wanted, _)| wanted == key) {
            changes.push(format!("DROP {key}"));
        }
    }
    (!changes.is_empty()).then(|| changes.join(", "))
}

/// The inside of `OPTIONS (...)` at creation.
pub(crate) fn options(wanted: &[(&str, &str)]) -> String {
    wanted.iter().map(|(key, value)| format!("{key} {}", literal(value))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_would_end_the_quote() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(conninfo(&[("host", "h"), ("password", "a'b\\c")]), "host='h' password='a\\'b\\\\c'");
    }

    #[test]
    fn alters_only_what_differs() {
        let current = ["host=a".to_owned(), "port=1".to_owned(), "old=x=y".to_owned()];
        assert_eq!(
            alter_options(&current, &[("host", "a"), ("port", "2"), ("dbname", "d")]).unwrap(),
            "SET port '2', ADD dbname 'd', DROP old"
        );
        assert_eq!(alter_options(&current, &[("host", "a"), ("port", "1"), ("old", "x=y")]), None);
    }
}

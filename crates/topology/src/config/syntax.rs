//! TOML with as many syntax errors reported as there are broken statements.
//!
//! The parser recovers by guessing, and one missing bracket makes it complain about everything after. So each broken
//! statement is reported once, by its first error, then blanked, and the rest is parsed anew: the tree that remains
//! holds every statement that is whole, at its true place.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, Error},
};

use crate::{report::Problem, source::Span};

/// So many broken statements are looked for; past that the file is something else than TOML.
const ROUNDS: usize = 64;
/// So many bytes are parsed for that in all: a large file has fewer rounds.
const WORK: usize = 16 << 20;

/// A statement that could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Where the header of its table begins; 0 before the first.
    pub(crate) table: usize,
    /// Its key; where a header is broken, the name in it.
    pub(crate) key: String,
    /// A header: the whole table is lost.
    pub(crate) header: bool,
}

/// What could be read.
pub(crate) struct Parsed {
    /// The text with its broken statements blanked.
    pub(crate) text: String,
    /// It parses without errors now.
    pub(crate) whole: bool,
    pub(crate) problems: Vec<Problem>,
    pub(crate) lost: Vec<Lost>,
}

/// Finds every broken statement of the text, whose number is `id`.
pub(crate) fn parse(id: u16, text: &str) -> Parsed {
    let mut parsed = Parsed { text: text.to_owned(), whole: false, problems: Vec::new(), lost: Vec::new() };
    for _ in 0..ROUNDS.min(WORK / (text.len() + 1) + 1) {
        let (_, mut errors) = DeTable::parse_recoverable(&parsed.text);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        let Some(error) = errors.into_iter().next() else {
            parsed.whole = true;
            break;
        };
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let statements = statements(&parsed.text);
        let (index, isolated) = culprit(&parsed.text, &statements, at);
        let Some(statement) = statements.get(index) else {
            parsed.problems.push(problem(id, text, &error, 0));
            break;
        };
        parsed.problems.push(match &isolated {
            Some(isolated) => problem(id, text, isolated, statement.range.start),
            None => problem(id, text, &error, 0),
        });
        // Without its header a table's keys would count as the previous table's: they go with it.
        let mut end = statement.range.end;
        if statement.header {
            end = statements[index + 1..].iter().find(|s| s.header).map_or(text.len(), |s| s.range.start);
        }
        parsed.lost.push(Lost {
            table: statement.table,
            key: statement.key.clone(),
            header: statement.header,
        });
        blank(&mut parsed.text, statement.range.start..end);
    }
    parsed
}

/// The tree of a text.
pub(crate) fn tree(text: &str) -> Spanned<DeTable<'_>> {
    DeTable::parse_recoverable(text).0
}

struct Statement {
    range: Range<usize>,
    header: bool,
    table: usize,
    key: String,
}

/// The statements of a text, by the look of its lines: a header, or a key with `=`. Only asked for broken files; in a
/// whole one the parser alone decides.
fn statements(text: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut table = 0;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let header = line.starts_with('[') && looks_like_header(trimmed);
        let key = key_of(trimmed);
        let begins = header || key.is_some();
        if begins || (statements.is_empty() && !trimmed.is_empty() && !trimmed.starts_with('#')) {
            if header {
                table = start;
            }
            let key = key.unwrap_or_else(|| trimmed.trim_matches(|c| "[] \r\n".contains(c)).to_owned());
            statements.push(Statement { range: start..start, header, table, key });
        }
        start += line.len();
        if let Some(last) = statements.last_mut() {
            last.range.end = start;
        }
    }
    statements
}

fn looks_like_header(line: &str) -> bool {
    let inner = line.trim_start_matches('[');
    let name_end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.\" '".contains(c)));
    // `[peers`, `[[rooms]`, `[peers] # remark`, but not `["peer-1", ...` or `[1, 2]`, the inside of a list.
    inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name_end.is_none_or(|end| matches!(inner.as_bytes()[end], b']' | b'#' | b'\r' | b'\n'))
}

fn key_of(line: &str) -> Option<String> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let first = key.chars().next()?;
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-. \"'".contains(c);
    (first != '\'' && first != '"' && key.chars().all(bare)).then(|| key.to_owned())
}

/// The statement that is to blame for an error at `at`, with its own first error when it is parsed alone.
///
/// An open bracket or quote is only noticed at the beginning of a later line, so where the statement at `at` is fine by
/// itself, the one before it may not be.
fn culprit(text: &str, statements: &[Statement], at: usize) -> (usize, Option<Error>) {
    let here = statements.iter().rposition(|s| s.range.start <= at).unwrap_or(0);
    let alone = |index: usize| {
        let statement = statements.get(index)?;
        let (_, mut errors) = DeTable::parse_recoverable(text.get(statement.range.clone())?);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        errors.into_iter().next()
    };
    if statements.get(here).is_some_and(|s| s.range.start == at)
        && let Some(before) = here.checked_sub(1)
        && let Some(error) = alone(before)
    {
        return (before, Some(error));
    }
    (here, alone(here))
}

/// An error of the parser in our words; `base` is where the text that it speaks of begins.
fn problem(id: u16, text: &str, error: &Error, base: usize) -> Problem {
    let range = error.span().unwrap_or(0..0);
    let mut span = Span::new(id, base + range.start..base + range.end);
    if error.message() == "duplicate key" {
        let message = format!("`{}` is there twice", text.get(span.start..span.end).unwrap_or_default());
        return Problem::error("syntax", span, message).help("keep one of the two");
    }
    // The parser takes a bare word for the beginning of whatever it resembles: a float, a date, `nan`.
    if let Some(value) = bare_value(text, span.start) {
        let word = &text[value.clone()];
        let message = format!("`{word}` is not a value");
        let number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let or = if number { "write a plain number, or text in quotes" } else { "write text in quotes" };
        return Problem::error("syntax", Span::new(id, value), message).help(format!("{or}: \"{word}\""));
    }
    // An error at a line's end points at the line's last character rather than at nothing.
    if span.start == span.end {
        let before = text.get(..span.start).unwrap_or(text).trim_end();
        let last = before.chars().next_back().map_or(0, char::len_utf8);
        span = Span::new(id, before.len() - last..before.len());
    }
    let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let word = text.get(span.start..span.end).unwrap_or_default();
    if message.contains("must be quoted") {
        let Some(word) = Some(word).filter(|word| *word != "=") else {
            return Problem::error("syntax", span, "the value is missing")
                .help("write a value, or remove the line");
        };
        let message = format!("`{word}` is not a value");
        return Problem::error("syntax", span, message).help(format!("write text in quotes: \"{word}\""));
    }
    let label = if expected.is_empty() || expected == "nothing" {
        String::new()
    } else {
        format!("expected {expected}")
    };
    let help = if message.contains("key") { "write `key = value`" } else { "" };
    Problem::error("syntax", span, message).label(label).help(help)
}

/// Where the value of the line around `at` lies, if it is a single bare word.
fn bare_value(text: &str, at: usize) -> Option<Range<usize>> {
    let line_start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next()?;
    key_of(line.trim_start())?;
    let value_start = line_start + line.find('=')? + 1;
    let value = text[value_start..line_start + line.len()].split('#').next()?;
    let word = value.trim();
    let start = value_start + value.find(word)?;
    let bare = !word.is_empty() && !word.contains(['"', '\'', '[', ']', '{', '}', '=', ',']);
    (bare && (start..=start + word.len()).contains(&at)).then(|| start..start + word.len())
}

/// Overwrites all but line ends with spaces, byte by byte, so that every offset stays true.
fn blank(text: &mut String, range: Range<usize>) {
    let Some(part) = text.get(range.clone()) else { return };
    let spaces: String =
        part.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { byte as char } else { ' ' }).collect();
    text.replace_range(range, &spaces);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<(usize, String)> {
        let parsed = parse(0, text);
        assert_eq!(parsed.text.len(), text.len());
        let line = |span: Span| text[..span.start].matches('\n').count() + 1;
        parsed.problems.iter().map(|p| (line(p.span), p.message.clone())).collect()
    }

    #[test]
    fn a_whole_file_has_none() {
        let text = "a = [\n  [1, 2],\n  { b = 1 },\n]\n[t]\nc = \"\"\"\nx = 1\n[y]\n\"\"\"\n";
        assert_eq!(errors(text), []);
    }

    #[test]
    fn each_broken_statement_is_named_once() {
        let text = "[mesh]\nname = \"a\n[peers]\ncount =\nprefix = peer\nport = 1\nport = 2\nx = [1, 2\n[[rooms]]\n\
                    name = \"rock\"\n[origin\nname = \"o\"\n[signalling]\nlisten = 'a'\n";
        let found = errors(text);
        let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 5, 7, 8, 11], "{found:?}");
        let parsed = parse(0, text);
        let tree = tree(&parsed.text);
        let keys: Vec<_> = tree.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
        assert_eq!(keys, ["mesh", "peers", "rooms", "signalling"]);
    }

    #[test]
    fn anything_ends() {
        for text in ["]", "= = =", "\u{0}", "[[[[", "a = \"\"\"", "x\ny\nz", "é"] {
            assert!(!errors(text).is_empty(), "{text:?}");
        }
    }
}

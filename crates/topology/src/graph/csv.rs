//! CSV: a link in each line, its two ends first, further columns ignored.
//!
//! A first line whose first two cells are `source,target` (or `from,to`, in any case) is a header; its columns may then
//! come in any order. Empty lines and lines that begin with `#` are skipped. Cells may be quoted.

use super::{Graph, Mistake, Mistakes};
use crate::source::Span;

/// Adds the links of the text, whose number is `id`.
pub(super) fn read(text: &str, id: u16, graph: &mut Graph) -> Mistakes {
    let mut mistakes = Vec::new();
    let mut columns = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let base = start;
        start += line.len();
        let line = line.trim_end();
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let cells = cells(line);
        let (source, target) = match columns {
            Some(columns) => columns,
            None => match header(&cells) {
                Some(found) => {
                    columns = Some(found);
                    continue;
                }
                None => *columns.insert((0, 1)),
            },
        };
        let cell = |index: usize| cells.get(index).filter(|(name, _)| !name.is_empty());
        let (Some(a), Some(b)) = (cell(source), cell(target)) else {
            let mistake = Mistake::new("a line without a source and a target", "write `source,target`");
            mistakes.push((mistake, Span::new(id, base..base + line.len())));
            continue;
        };
        let span = |at: &std::ops::Range<usize>| Span::new(id, base + at.start..base + at.end);
        let a = graph.node(&a.0, span(&a.1));
        let b = graph.node(&b.0, span(&b.1));
        graph.edges.push((a, b));
    }
    mistakes
}

/// Which columns hold the ends, if this is a header.
fn header(cells: &[(String, std::ops::Range<usize>)]) -> Option<(usize, usize)> {
    let find =
        |names: [&str; 2]| cells.iter().position(|(cell, _)| names.contains(&cell.to_lowercase().as_str()));
    find(["source", "from"]).zip(find(["target", "to"]))
}

/// The cells of a line with their places, spaces around them and quotes taken off.
fn cells(line: &str) -> Vec<(String, std::ops::Range<usize>)> {
    let mut cells = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let ends = line.char_indices().filter(move |(_, c)| {
        quoted ^= *c == '"';
        *c == ',' && !quoted
    });
    for end in ends.map(|(at, _)| at).chain([line.len()]) {
        let cell = &line[start..end];
        let trimmed = cell.trim();
        let at = start + (cell.len() - cell.trim_start().len());
        let range = at.min(end)..at.min(end) + trimmed.len();
        let content = match trimmed.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
            Some(inner) => inner.replace("\"\"", "\""),
            None => trimmed.to_owned(),
        };
        cells.push((content, range));
        start = end + 1;
    }
    cells
}

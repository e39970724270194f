//! The texts that a problem can point into: the topology file, imported graphs, environment variables.
//!
//! A span names its text by number, so that values read from different texts can meet in one check.

use std::ops::Range;

/// What kind of text it is; decides how a position is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The topology file or an imported graph.
    File,
    /// The value of an environment variable; its name is the text's name.
    Variable,
}

/// One text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub(crate) kind: Kind,
    /// File name as given, or the variable's name.
    pub(crate) name: String,
    pub(crate) content: String,
}

impl Text {
    /// Line and column of a byte offset, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.content[..self.boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The offset, moved down into the text and onto a character's boundary.
    pub(crate) fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.content.len());
        while !self.content.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// A piece of one of the [`Texts`]; [`Span::NONE`] for what was written nowhere (a default).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) text: u16,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// Written nowhere.
    pub(crate) const NONE: Self = Self { text: u16::MAX, start: 0, end: 0 };

    pub(crate) fn new(text: u16, range: Range<usize>) -> Self {
        Self { text, start: range.start, end: range.end }
    }

    pub(crate) fn is_none(self) -> bool {
        self.text == u16::MAX
    }
}

/// All texts of one load; the first is the topology file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Texts(pub(crate) Vec<Text>);

impl Texts {
    /// Adds a text and returns its number.
    pub(crate) fn add(&mut self, kind: Kind, name: &str, text: &str) -> u16 {
        self.0.push(Text { kind, name: name.to_owned(), content: text.to_owned() });
        // A load has the file, one graph, and a dozen variables.
        u16::try_from(self.0.len() - 1).unwrap_or(u16::MAX)
    }

    pub(crate) fn get(&self, span: Span) -> Option<&Text> {
        self.0.get(usize::from(span.text))
    }

    /// The text under a span.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.get(span).and_then(|text| text.content.get(span.start..span.end)).unwrap_or_default()
    }

    /// The variable that a span lies in.
    pub(crate) fn variable(&self, span: Span) -> Option<&str> {
        self.get(span).filter(|text| text.kind == Kind::Variable).map(|text| text.name.as_str())
    }

    /// The part of a string value that `range` of its content covers; the whole span where the value was written with
    /// escapes, so that content and text differ.
    pub(crate) fn part(&self, span: Span, content: &str, range: Range<usize>) -> Span {
        let written = self.slice(span);
        let at = if written == content {
            0
        } else if written.len() == content.len() + 2 && written.get(1..=content.len()) == Some(content) {
            1
        } else {
            return span;
        };
        Span { text: span.text, start: span.start + at + range.start, end: span.start + at + range.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = Text { kind: Kind::File, name: "f".into(), content: "a\nößb\n".into() };
        assert_eq!(text.position(0), (1, 1));
        assert_eq!(text.position(2), (2, 1));
        assert_eq!(text.position(6), (2, 3));
        assert_eq!(text.position(3), (2, 1), "inside a character counts as its beginning");
        assert_eq!(text.position(99), (3, 1));
    }

    #[test]
    fn a_part_of_a_quoted_value_is_found_unless_it_has_escapes() {
        let mut texts = Texts::default();
        let id = texts.add(Kind::File, "f", r#"x = "abc" "a\tc""#);
        let part = texts.part(Span::new(id, 4..9), "abc", 1..2);
        assert_eq!(texts.slice(part), "b");
        let whole = Span::new(id, 10..16);
        assert_eq!(texts.part(whole, "a\tc", 1..2), whole);
    }
}

//! The state of one reading: where problems go, and what syntax errors made unreadable.

use toml::de::DeValue;

use super::syntax::Lost;
use crate::{
    report::{Problem, Severity},
    source::{Span, Texts},
};

/// Collects what is wrong while a file is read and resolved.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) texts: Texts,
    pub(crate) problems: Vec<Problem>,
    /// Statements that could not be parsed.
    pub(crate) lost: Vec<Lost>,
    /// Grows with every error and every statement that was lost: equal before and after means that all was read.
    dirt: usize,
}

impl Reader {
    pub(crate) fn report(&mut self, problem: Problem) {
        self.dirt += usize::from(problem.severity == Severity::Error);
        self.problems.push(problem);
    }

    pub(crate) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    pub(crate) fn dirt(&self) -> usize {
        self.dirt
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong_type(&mut self, value: &DeValue<'_>, span: Span, expected: &str) {
        let found = match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("{found} where {expected} belongs");
        self.report(Problem::error("wrong-type", span, message).label(format!("expected {expected}")));
    }

    /// The names of lost keys of the table whose header begins at `start`; of lost tables, for the file itself (`root`).
    /// Counts them as dirt.
    pub(crate) fn lost_keys(&mut self, start: usize, root: bool) -> Vec<String> {
        let ours = |lost: &&Lost| if lost.header { root } else { !root && lost.table == start };
        let keys: Vec<_> = self.lost.iter().filter(ours).map(|lost| lost.key.clone()).collect();
        self.dirt += keys.len();
        keys
    }
}

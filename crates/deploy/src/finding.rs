//! What `hopcast doctor` finds: one look at one thing that a mesh needs, and what to do where it is not there.

use serde::Serialize;

/// How one look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// `hopcast up` works, but something optional is missing, or the mesh will not be at its best.
    Warning,
    /// `hopcast up` would fail.
    Missing,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, or what is wrong and what to do.
    pub detail: String,
}

impl Finding {
    /// All is well.
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, detail: detail.into() }
    }

    /// Not as it should be; the detail says what to do.
    pub fn warning(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Warning, detail: detail.into() }
    }

    /// Needed and not there; the detail says what to do.
    pub fn missing(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Missing, detail: detail.into() }
    }

    /// An error says what is missing and what to do.
    pub fn of<T, E: ToString>(
        what: &'static str,
        found: Result<T, E>,
        text: impl FnOnce(T) -> String,
    ) -> Self {
        match found {
            Ok(found) => Self::ok(what, text(found)),
            Err(error) => Self::missing(what, error.to_string()),
        }
    }

    /// For what the mesh can do without.
    #[must_use]
    pub fn optional(self) -> Self {
        let verdict = if self.verdict == Verdict::Missing { Verdict::Warning } else { self.verdict };
        Self { verdict, ..self }
    }
}

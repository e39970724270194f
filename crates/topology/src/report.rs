//! What is wrong with a topology, all of it at once, each with its place and what to write instead.
//!
//! [`Report::render`] writes it for people, in the manner of rustc; its `Serialize` is the list for programs.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};
use serde::{Serialize, Serializer};

use crate::source::{Kind, Span, Texts};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no plan.
    Error,
    /// There is a plan, but probably not the one that was meant.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    /// Short and stable, `unknown-key`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) span: Span,
    /// Beside the caret.
    pub(crate) label: String,
    /// What to write instead.
    pub(crate) help: String,
    /// A second place that explains the first.
    pub(crate) related: Option<(Span, String)>,
}

impl Problem {
    pub(crate) fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            label: String::new(),
            help: String::new(),
            related: None,
        }
    }

    pub(crate) fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        if !span.is_none() {
            self.related = Some((span, label.into()));
        }
        self
    }
}

/// A problem with its place written out, as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of mistake it is; short and stable, `unknown-key`.
    pub code: &'static str,
    /// What is wrong, in one sentence without the place.
    pub message: String,
    /// More about the offending text; may be empty.
    pub label: String,
    /// What to write instead; may be empty.
    pub help: String,
    /// The file that holds the offending text; absent where a variable does, or nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The environment variable that holds the offending text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Column of its first character, from 1, in characters.
    pub column: usize,
    /// Line of the first character after it.
    pub end_line: usize,
    /// Column of the first character after it.
    pub end_column: usize,
    /// The offending text.
    pub text: String,
    /// A second place that explains the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
}

/// A place that explains another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Related {
    /// The file, or the environment variable.
    pub file: String,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Column of its first character, from 1, in characters.
    pub column: usize,
    /// What is there.
    pub label: String,
}

/// Everything that is wrong with a topology; as an error it has at least one problem of [`Severity::Error`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub(crate) texts: Texts,
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// True without errors and warnings.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Each problem for programs, in the order in which [`Report::render`] writes them.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.problems.iter().map(|problem| self.entry(problem))
    }

    fn entry(&self, problem: &Problem) -> Entry {
        let text = self.texts.get(problem.span);
        let (start, end) = text.map_or(((1, 1), (1, 1)), |text| {
            (text.position(problem.span.start), text.position(problem.span.end))
        });
        let name = |kind| text.filter(|text| text.kind == kind).map(|text| text.name.clone());
        Entry {
            severity: problem.severity,
            code: problem.code,
            message: problem.message.clone(),
            label: problem.label.clone(),
            help: problem.help.clone(),
            file: name(Kind::File).or_else(|| {
                let file = self.texts.0.first().map(|file| file.name.clone());
                file.filter(|_| problem.span.is_none())
            }),
            variable: name(Kind::Variable),
            line: start.0,
            column: start.1,
            end_line: end.0,
            end_column: end.1,
            text: self.texts.slice(problem.span).to_owned(),
            related: problem.related.as_ref().and_then(|(span, label)| {
                let text = self.texts.get(*span)?;
                let (line, column) = text.position(span.start);
                Some(Related { file: text.name.clone(), line, column, label: label.clone() })
            }),
        }
    }

    /// Writes every problem with the offending line and a caret below it, `width` columns wide at most.
    pub fn render(&self, color: bool, width: usize) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(width.max(40));
        let mut out = String::new();
        for problem in &self.problems {
            out.push_str(&self.render_one(&renderer, problem));
            out.push_str("\n\n");
        }
        out.truncate(out.trim_end().len());
        out
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = problem.message.clone();
        let mut group = {
            if let Some(name) = self.texts.variable(problem.span) {
                title = format!("{title} (environment variable {name})");
            }
            let title = level.primary_title(title).id(problem.code);
            match self.snippet(problem.span, problem) {
                Some(snippet) => title.element(snippet),
                None => annotate_snippets::Group::with_title(title),
            }
        };
        if let Some((span, label)) =
            problem.related.as_ref().filter(|(span, _)| span.text != problem.span.text)
            && let Some(text) = self.texts.get(*span)
        {
            let annotation = AnnotationKind::Context.span(self.range(*span)).label(label.as_str());
            group = group.element(
                Snippet::source(text.content.as_str()).path(text.name.as_str()).annotation(annotation),
            );
        }
        if !problem.help.is_empty() {
            group = group.element(Level::HELP.message(problem.help.as_str()));
        }
        renderer.render(&[group])
    }

    fn snippet<'a>(
        &'a self,
        span: Span,
        problem: &'a Problem,
    ) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let text = self.texts.get(span)?;
        let mut primary = AnnotationKind::Primary.span(self.range(span));
        if !problem.label.is_empty() {
            primary = primary.label(problem.label.as_str());
        }
        let mut snippet = Snippet::source(text.content.as_str()).path(text.name.as_str()).annotation(primary);
        if let Some((other, label)) = problem.related.as_ref().filter(|(other, _)| other.text == span.text) {
            snippet =
                snippet.annotation(AnnotationKind::Context.span(self.range(*other)).label(label.as_str()));
        }
        Some(snippet)
    }

    /// The span on character boundaries and inside its text, whatever a parser said.
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let Some(text) = self.texts.get(span) else { return 0..0 };
        let start = text.boundary(span.start);
        start..text.boundary(span.end).max(start)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false, 120))
    }
}

impl std::error::Error for Report {}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.entries())
    }
}

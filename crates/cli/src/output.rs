//! What the user sees: people's lines on stdout, or with `--json` one object as the last line of stdout and everything
//! else on stderr.
//!
//! A reader that goes away (`hopcast status | head -1`) is no error: nothing more is written, nothing panics. What cannot
//! be written for another reason (a full disk) is one, told at the end.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;

use crate::exit::{self, Failure};

/// The two forms of output.
pub(crate) struct Output {
    json: bool,
    closed: AtomicBool,
    lost: OnceLock<io::Error>,
}

impl Output {
    /// `json`: the `--json` of the command line.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, closed: AtomicBool::new(false), lost: OnceLock::new() }
    }

    /// True under `--json`.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// True once nobody reads stdout any more: what prints until it is interrupted ends then.
    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Why some of stdout was lost, if it was; not because its reader went away.
    pub(crate) fn lost(&self) -> Option<&io::Error> {
        self.lost.get()
    }

    /// True where colours and cursor movements have a point.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// A line for people: on stdout, under `--json` on stderr.
    pub(crate) fn line(&self, line: impl Display) {
        self.text(format_args!("{line}\n"));
    }

    /// Text for people that brings its own line ends.
    pub(crate) fn text(&self, text: impl Display) {
        if self.json {
            // Nowhere is left to report that stderr is gone.
            let _ = write!(io::stderr(), "{text}");
        } else {
            self.stdout(text);
        }
    }

    /// What people read instead of the object: nothing under `--json`.
    pub(crate) fn human(&self, text: impl Display) {
        if !self.json {
            self.stdout(text);
        }
    }

    /// A line beside the result: on stderr in both forms.
    #[expect(
        clippy::unused_self,
        reason = "what is written goes through this type, so that one place decides"
    )]
    pub(crate) fn note(&self, line: impl Display) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// The object of `--json`; nothing otherwise. The last thing a command does.
    pub(crate) fn result(&self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            let line = serde_json::to_string(value)?; // keeps the order of the fields
            self.stdout(format_args!("{line}\n"));
        }
        Ok(())
    }

    /// An object on stdout, whatever was asked for.
    pub(crate) fn object(&self, value: &serde_json::Value) {
        self.stdout(format_args!("{value}\n"));
    }

    /// How an error ends the program: its text on stderr, under `--json` also its object on stdout.
    pub(crate) fn failure(&self, error: &anyhow::Error) {
        let failure = error.downcast_ref::<Failure>();
        if !failure.is_some_and(|failure| failure.printed) {
            self.note(format_args!("error: {}", chain(error)));
        }
        if self.json {
            let mut object = failure.map(|failure| failure.details.clone()).unwrap_or_default();
            object.insert(
                "error".into(),
                serde_json::json!({ "code": exit::code(error), "message": chain(error) }),
            );
            self.object(&object.into());
        }
    }

    /// Bytes that somebody asked for on stdout, all of them written when this returns.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.write(|stdout| stdout.write_all(bytes));
    }

    fn stdout(&self, text: impl Display) {
        self.write(|stdout| write!(stdout, "{text}"));
    }

    fn write(&self, write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        if self.closed() {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = write(&mut stdout).and_then(|()| stdout.flush()) {
            self.closed.store(true, Ordering::Relaxed);
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = self.lost.set(error);
            }
        }
    }
}

/// What the libraries tell goes to stderr, too: warnings, and more where it was asked for. A program that goes on in the
/// background (`daemon`) writes a log instead: what it does, and when.
pub(crate) fn log_to_stderr(verbose: u8, daemon: bool) {
    let level = match verbose + u8::from(daemon) {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::TRACE,
    };
    let lines =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    if daemon { lines.with_ansi(false).init() } else { lines.without_time().init() }
}

/// An error and its causes in one line; a cause that the text before it has told already is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Columns of text, each as wide as its widest cell; the last one is not padded.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1 peer`, `3 peers`, `2 processes`.
pub(crate) fn count(number: usize, one: &str) -> String {
    let ending = match number {
        1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {one}{ending}")
}

/// Bytes as people read them: `960 B`, `14.2 KiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let rows = [["a".into(), "bb".into()], ["ccc".into(), String::new()]];
        assert_eq!(table(&rows), "a    bb\nccc\n");
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug)]
        struct Told(io::Error);
        impl Display for Told {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "failed to read x: {}", self.0)
            }
        }
        impl std::error::Error for Told {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = anyhow::Error::new(Told(io::Error::other("gone"))).context("no plan");
        assert_eq!(chain(&error), "no plan: failed to read x: gone");
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(count(1, "peer"), "1 peer");
        assert_eq!(count(0, "peer"), "0 peers");
        assert_eq!(count(2, "process"), "2 processes");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(14_541), "14.2 KiB");
        assert_eq!(bytes(5 << 40), "5120.0 GiB");
    }
}

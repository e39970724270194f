//! Exit codes: the one list that `--help`, the README and the tests are held to, and the error that carries one.
//!
//! Codes from 64 on are those of sysexits.h.

use std::fmt;

/// What was asked for was done, and what was checked holds.
pub(crate) const OK: u8 = 0;
/// What was checked does not hold, or what was asked for failed.
pub(crate) const FAILED: u8 = 1;
/// The command line itself is wrong (clap's own code), or names what the mesh does not have.
pub(crate) const USAGE: u8 = 2;
/// The topology file, or a variable on top of it, is wrong (`EX_USAGE`).
pub(crate) const TOPOLOGY: u8 = 64;
/// A file that should be read is not there (`EX_NOINPUT`).
pub(crate) const NO_INPUT: u8 = 66;
/// The mesh, one of its parts or a program that is needed is not there (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// A file cannot be written (`EX_CANTCREAT`).
pub(crate) const CANNOT_WRITE: u8 = 73;
/// Interrupted by Ctrl-C (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;
/// Asked to end (128 + SIGTERM).
pub(crate) const TERMINATED: u8 = 143;

/// The list that `hopcast --help` ends with.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; what was checked holds
  1    what was checked does not hold, or what was asked for failed
  2    wrong command line, or a peer or room in it that the mesh does not have
  64   topology.toml, or a variable on top of it, is wrong
  66   a file to be read is not there
  69   the mesh, one of its parts or a program that is needed is not there
  73   a file cannot be written
  129  a bench ended by SIGHUP
  130  ended by Ctrl-C
  143  ended by SIGTERM

The file: --file, else topology.toml in this directory or the nearest one above it.";

/// An error with the code that the program ends with. Every other error ends it with [`FAILED`].
#[derive(Debug)]
pub(crate) struct Failure {
    /// One of the constants above.
    pub code: u8,
    /// What, where, and what to do.
    pub message: String,
    /// Further fields of the JSON object, for programs.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// The message has been printed already, in a form of its own.
    pub printed: bool,
}

impl Failure {
    /// A failure that is printed as `error: <message>`.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: serde_json::Map::new(), printed: false }
    }

    /// One whose text the command has printed itself.
    pub(crate) fn printed(code: u8, message: impl Into<String>) -> Self {
        Self { printed: true, ..Self::new(code, message) }
    }

    /// Adds a field to the JSON object.
    pub(crate) fn with(mut self, key: &str, value: impl serde::Serialize) -> Self {
        // A value that has no JSON form is left out: the message says what matters.
        if let Ok(value) = serde_json::to_value(value) {
            self.details.insert(key.to_owned(), value);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The failure of a file that cannot be written.
pub(crate) fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> anyhow::Error {
    // A temporary file's error ends with its name, which tells nobody anything: it stands for `path`.
    let error = error.to_string();
    let why = error.split_once(" at path \"").map_or(error.as_str(), |(why, _)| why);
    Failure::new(CANNOT_WRITE, format!("cannot write {}: {why}", path.display())).into()
}

/// The code of an error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    use hopcast_deploy::Error::{Missing, NoEngine, NoInput, NotRunning, Store, Unknown};
    use hopcast_store::SourceError::NoFfmpeg;
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.code;
    }
    match error.downcast_ref() {
        _ if matches!(error.downcast_ref(), Some(NoFfmpeg { .. })) => UNAVAILABLE,
        Some(NoInput { .. }) => NO_INPUT,
        Some(
            Missing(_)
            | NoEngine { .. }
            | NotRunning(_)
            | Store(hopcast_store::Error::Source(NoFfmpeg { .. })),
        ) => UNAVAILABLE,
        Some(Unknown(_)) => USAGE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        for code in
            [OK, FAILED, USAGE, TOPOLOGY, NO_INPUT, UNAVAILABLE, CANNOT_WRITE, INTERRUPTED, TERMINATED]
        {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
        }
    }

    #[test]
    fn no_temporary_name_is_shown() {
        let named = tempfile::NamedTempFile::new_in("/no/such/folder").err().unwrap();
        let text = cannot_write(std::path::Path::new("/no/such/folder/x"), &named).to_string();
        assert_eq!(text, "cannot write /no/such/folder/x: No such file or directory (os error 2)");
    }

    #[test]
    fn a_failure_keeps_its_code_under_a_context() {
        let error = anyhow::Error::new(Failure::new(TOPOLOGY, "bad file")).context("cannot start");
        assert_eq!(code(&error), TOPOLOGY);
        assert_eq!(code(&anyhow::anyhow!("something else")), FAILED);
        assert_eq!(code(&hopcast_deploy::Error::Missing("no PostgreSQL".into()).into()), UNAVAILABLE);
        assert_eq!(code(&hopcast_deploy::Error::Unknown("no peer-9".into()).into()), USAGE);
        let no_ffmpeg = || hopcast_store::SourceError::NoFfmpeg { file: "a.mp3".into() };
        assert_eq!(code(&no_ffmpeg().into()), UNAVAILABLE);
        let in_up = hopcast_deploy::Error::Store(no_ffmpeg().into());
        assert_eq!(code(&in_up.into()), UNAVAILABLE);
    }
}

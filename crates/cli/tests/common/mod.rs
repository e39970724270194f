//! Runs the built `hopcast` in a directory of its own, with an environment of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// A place to run in. Removed when dropped.
pub(crate) struct Hopcast {
    folder: tempfile::TempDir,
}

/// What came of a run.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Hopcast {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::Builder::new()
            // The databases' user must be able to enter it.
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        Self { folder }
    }

    /// Writes a file into the directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with nothing of this process's environment but PATH.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopcast"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("HOPCAST_STATE", self.path("state"));
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::from(self.command(arguments).output().unwrap())
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("ended by itself, not by a signal"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// The one object that `--json` promises as the last line of stdout. The only line, too: the rest belongs on stderr.
pub(crate) fn json(run: &Run) -> serde_json::Value {
    let mut lines = run.stdout.lines();
    let line = lines.next_back().expect("a line on stdout");
    assert_eq!(lines.count(), 0, "more than the object on stdout: {}", run.stdout);
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert!(value.is_object(), "{line}");
    value
}

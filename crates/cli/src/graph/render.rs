//! Graphviz as a program: DOT in, picture out. The only part that touches the machine.

use std::{
    io::{self, Read as _, Write as _},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};

use crate::exit::{self, Failure};

/// The program; looked for in PATH.
const PROGRAM: &str = "dot";
/// Even thousands of peers take seconds.
const DEADLINE: Duration = Duration::from_secs(120);
/// What is kept of its complaints.
const COMPLAINT: u64 = 2048;

/// What Graphviz paints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Scalable, with names under the pointer.
    Svg,
    /// Pixels.
    Png,
}

impl Format {
    /// For `dot -T` and for file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
        }
    }
}

/// Paints DOT.
pub(crate) fn render(dot: &str, format: Format) -> anyhow::Result<Vec<u8>> {
    run(Command::new(PROGRAM).arg(format!("-T{}", format.name())), dot, DEADLINE)
}

fn run(command: &mut Command, dot: &str, deadline: Duration) -> anyhow::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let message = format!(
                    "`{PROGRAM}` is not in PATH: install Graphviz (Debian: apt install graphviz), or write DOT, which needs no \
                     program"
                );
                Failure::new(exit::UNAVAILABLE, message).into()
            }
            _ => anyhow!(error).context(format!("failed to start Graphviz's `{PROGRAM}`")),
        })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut stdin, mut stdout, mut stderr) = stdin
        .zip(stdout)
        .zip(stderr)
        .map(|((stdin, stdout), stderr)| (stdin, stdout, stderr))
        .expect("all three were asked to be pipes");
    let dot = dot.to_owned();
    // All three pipes at once: a full one that nobody empties would stop the program.
    thread::spawn(move || {
        // If it stops reading, its exit status says why.
        let _ = stdin.write_all(dot.as_bytes());
    });
    let complaint = thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.by_ref().take(COMPLAINT).read_to_string(&mut text);
        let _ = io::copy(&mut stderr, &mut io::sink());
        text
    });
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut picture = Vec::new();
        let read = stdout.read_to_end(&mut picture).map(|_| picture);
        // Nobody waits for it any more after the deadline.
        let _ = send.send(read);
    });
    let Ok(picture) = receive.recv_timeout(deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("Graphviz's `{PROGRAM}` was stopped after {} s: try SVG, or DOT", deadline.as_secs());
    };
    let status = child.wait()?;
    let picture = picture.with_context(|| format!("failed to read from Graphviz's `{PROGRAM}`"))?;
    if status.success() && !picture.is_empty() {
        return Ok(picture);
    }
    let complaint = complaint.join().unwrap_or_default();
    Err(anyhow!("Graphviz's `{PROGRAM}` failed ({status}): {}", complaint.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error =
            run(&mut Command::new("hopcast-no-such-dot"), "graph {}", DEADLINE).expect_err("not installed");
        assert!(error.to_string().contains("install Graphviz"), "{error}");
    }

    #[test]
    fn a_syntax_error_is_passed_on() {
        let error = render("graph {", Format::Svg).expect_err("no DOT");
        assert!(error.to_string().contains("syntax error"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let mut hangs = Command::new("sleep");
        let error = run(hangs.arg("1000"), "", Duration::from_millis(50)).expect_err("no picture");
        assert!(error.to_string().contains("was stopped"), "{error}");
    }
}

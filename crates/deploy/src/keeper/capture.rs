//! What pg-embed's programs print. pg-embed's errors are bare; the text of a failure goes to the `log` crate only, so the
//! keeper listens there and keeps the last lines.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use log::{LevelFilter, Log, Metadata, Record};

/// Lines kept.
const LINES: usize = 64;
/// How long the last words of a program may take to come.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

struct Capture(Mutex<VecDeque<String>>);

static CAPTURE: Capture = Capture(Mutex::new(VecDeque::new()));

impl Log for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pg_embed")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line: String = record.args().to_string().chars().take(500).collect();
            tracing::debug!(%line, "pg-embed");
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn flush(&self) {}
}

/// Listens from now on. Somebody else's logger stays; then failures are told without their text.
pub(super) fn install() {
    if log::set_logger(&CAPTURE).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// What was said since the last call that sounds like a reason. pg-embed reads its programs' output only after their end,
/// so it may come a little later.
pub(super) async fn reasons() -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut seen = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let mut lines = CAPTURE.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (lines.len() == seen && seen > 0) || tokio::time::Instant::now() > deadline {
            let all: Vec<String> = lines.drain(..).collect();
            return pick(&all);
        }
        seen = lines.len();
    }
}

/// The lines that name an error; the last three where none does.
fn pick(lines: &[String]) -> String {
    let said =
        |line: &&String| ["FATAL", "ERROR", "PANIC", "error:", "HINT"].iter().any(|word| line.contains(word));
    let named: Vec<_> = lines.iter().filter(said).map(|line| line.trim()).collect();
    let chosen = if named.is_empty() {
        lines.iter().rev().take(3).rev().map(|line| line.trim()).collect()
    } else {
        named
    };
    chosen.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_reason() {
        let lines =
            ["waiting for server to start....", "FATAL:  could not create lock file", "stopped waiting"];
        assert_eq!(pick(&lines.map(String::from)), "FATAL:  could not create lock file");
        assert_eq!(pick(&["a", "b", "c", "d"].map(String::from)), "b; c; d");
        assert_eq!(pick(&[]), "");
    }
}

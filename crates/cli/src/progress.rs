//! Progress of whatever takes over a second: a bar for each step on a terminal, plain lines elsewhere; always on stderr.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The steps of one work; several may go on at the same time, and from several threads.
pub(crate) struct Progress {
    /// `None`: plain lines.
    bars: Option<MultiProgress>,
    steps: Mutex<HashMap<String, Step>>,
}

/// What has been shown of a step.
struct Step {
    bar: Option<ProgressBar>,
    /// The quarter that was last printed.
    quarter: u64,
    /// `done == total` was shown.
    complete: bool,
    /// When something was shown.
    told: Instant,
}

/// Steps shorter than this are not worth lines on the way.
const LONG: u64 = 20;
/// Between two lines of a step whose total is not known.
const EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// Draws nothing yet.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { bars, steps: Mutex::default() }
    }

    /// `done` of `total` of a step that is known by its label. A total of 0 means that it is not known yet.
    pub(crate) fn step(&self, label: &str, done: u64, total: u64) {
        let mut steps = self.steps();
        let step = steps.entry(label.to_owned()).or_insert_with(|| Step {
            bar: self.bars.as_ref().map(|bars| bars.add(new_bar(label))),
            quarter: 0,
            complete: false,
            told: Instant::now(),
        });
        let complete = total > 0 && done >= total;
        if let Some(bar) = &step.bar {
            bar.set_length(total);
            bar.set_position(done);
            if complete && !step.complete {
                bar.finish();
            }
        } else if complete && !step.complete {
            line(format_args!("{label}: {done}/{total}"));
        } else if let Some(quarter) = (done * 4).checked_div(total)
            && total >= LONG
            && quarter > step.quarter
            && !complete
        {
            step.quarter = quarter;
            line(format_args!("{label}: {done}/{total}"));
        } else if total == 0 && step.told.elapsed() >= EVERY {
            step.told = Instant::now();
            line(format_args!("{label}: {done}"));
        }
        step.complete = complete;
    }

    /// Something begins that does not tell how far it is.
    pub(crate) fn begin(&self, label: &str) {
        match &self.bars {
            Some(_) => self.step(label, 0, 0),
            None => line(format_args!("{label} ...")),
        }
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        match &self.bars {
            // Fails only where stderr is gone, and then nobody misses it.
            Some(bars) => drop(bars.println(text)),
            None => line(format_args!("{text}")),
        }
    }

    fn steps(&self) -> MutexGuard<'_, HashMap<String, Step>> {
        // Nothing between lock and unlock leaves the map half-changed.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            // What stays is what the command prints afterwards.
            let _ = bars.clear();
        }
    }
}

impl hopcast_deploy::Progress for Progress {
    fn step(&self, step: hopcast_deploy::Step, done: u64, total: u64) {
        Self::step(self, &step.to_string(), done, total);
    }

    fn note(&self, text: &str) {
        Self::note(self, text);
    }
}

/// When a step of a work was first and last told of, in seconds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Told {
    step: hopcast_deploy::Step,
    from: f64,
    to: f64,
}

/// A progress that remembers when what was told.
pub(crate) struct Timed<'a> {
    shown: &'a Progress,
    begin: Instant,
    told: Mutex<Vec<Told>>,
}

impl<'a> Timed<'a> {
    /// Counts from now on.
    pub(crate) fn new(shown: &'a Progress) -> Self {
        Self { shown, begin: Instant::now(), told: Mutex::default() }
    }

    /// In the order of their first word.
    pub(crate) fn steps(self) -> Vec<Told> {
        self.told.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hopcast_deploy::Progress for Timed<'_> {
    fn step(&self, step: hopcast_deploy::Step, done: u64, total: u64) {
        let now = self.begin.elapsed().as_secs_f64();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.iter_mut().find(|one| one.step == step) {
            Some(one) => one.to = now,
            None => told.push(Told { step, from: now, to: now }),
        }
        drop(told);
        self.shown.step(&step.to_string(), done, total);
    }

    fn note(&self, text: &str) {
        self.shown.note(text);
    }
}

fn new_bar(label: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_style(style()).with_message(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg:20} [{bar:32}] {pos}/{len} {elapsed}")
        .expect("the template is a constant that a test parses")
        .progress_chars("=> ")
}

fn line(line: std::fmt::Arguments<'_>) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_parses() {
        let _ = style();
    }

    #[test]
    fn a_step_is_complete_once() {
        let progress = Progress { bars: None, steps: Mutex::default() };
        for done in 0..=40 {
            progress.step("x", done, 40);
        }
        let steps = progress.steps();
        assert!(steps["x"].complete);
        assert_eq!(steps["x"].quarter, 3);
    }
}

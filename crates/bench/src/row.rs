//! One line of a report: what was measured, beside what it is compared with, and whether that is as wished.
//!
//! Sides are measured in turn, round by round; a figure is the median of the rounds, a ratio that of the medians, and its
//! spread runs from the smallest to the largest ratio within one round.

use std::fmt;

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};

use crate::median;

/// Whether the target was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not; the ratio says by how much.
    Short,
}

/// What the ratio is of, and where it should lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// ours / limit, at most.
    OverLimit(f64),
    /// ours / theirs, at most.
    OverTheirs(f64),
    /// ours / theirs, at least: for what should be large.
    AboveTheirs(f64),
    /// theirs / ours, at least: so many times less.
    UnderTheirs(f64),
    /// ours over another figure of ours, at most.
    OverOwn(&'static str, f64),
    /// ours over another figure of ours, at least.
    AboveOwn(&'static str, f64),
    /// ours itself, at most, in the row's unit; the ratio is the share of it that is used.
    AtMost(f64),
}

impl Target {
    /// Where the ratio should lie, and whether that is the least it should be.
    fn bound(self) -> (f64, bool) {
        match self {
            Self::OverLimit(bound) | Self::OverTheirs(bound) | Self::OverOwn(_, bound) => (bound, false),
            Self::AboveTheirs(bound) | Self::UnderTheirs(bound) | Self::AboveOwn(_, bound) => (bound, true),
            Self::AtMost(_) => (1.0, false),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverLimit(bound) => write!(f, "ours/limit <= {bound}"),
            Self::OverTheirs(bound) => write!(f, "ours/theirs <= {bound}"),
            Self::AboveTheirs(bound) => write!(f, "ours/theirs >= {bound}"),
            Self::UnderTheirs(bound) => write!(f, "theirs/ours >= {bound}"),
            Self::OverOwn(what, bound) => write!(f, "ours/{what} <= {bound}"),
            Self::AboveOwn(what, bound) => write!(f, "ours/{what} >= {bound}"),
            Self::AtMost(bound) => write!(f, "ours <= {bound}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `row.metric`.
    pub name: String,
    /// What it was measured on.
    pub size: String,
    /// hopcast's figure.
    pub ours: f64,
    /// The figure of what one would use instead.
    pub theirs: Option<f64>,
    /// The figure of the least that could do the work.
    pub limit: Option<f64>,
    /// Of the three.
    pub unit: &'static str,
    /// What the target is about, left of its sign.
    pub ratio: f64,
    /// Its smallest and largest value within one round.
    pub ratio_spread: [f64; 2],
    /// Where the ratio should lie.
    pub target: Target,
    /// Whether it does.
    pub verdict: Verdict,
    /// How many rounds.
    pub rounds: usize,
}

/// The figures of all rounds: equal places of the lists belong to one round.
#[derive(Debug, Clone)]
pub struct Figures {
    name: String,
    size: String,
    unit: &'static str,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    limit: Vec<f64>,
    own: Vec<f64>,
}

impl Figures {
    /// What hopcast took.
    pub fn new(name: impl Into<String>, size: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            size: size.into(),
            unit,
            ours,
            theirs: Vec::new(),
            limit: Vec::new(),
            own: Vec::new(),
        }
    }

    /// What another program took.
    #[must_use]
    pub fn theirs(mut self, theirs: Vec<f64>) -> Self {
        self.theirs = theirs;
        self
    }

    /// What the least took that could do the work.
    #[must_use]
    pub fn limit(mut self, limit: Vec<f64>) -> Self {
        self.limit = limit;
        self
    }

    /// Another figure of ours, for [`Target::OverOwn`].
    #[must_use]
    pub fn own(mut self, own: Vec<f64>) -> Self {
        self.own = own;
        self
    }

    /// The row. An error where the target needs a side that was not measured.
    pub fn row(self, target: Target) -> Result<Row> {
        let wanted = [match target {
            Target::AtMost(bound) => bound,
            _ => 1.0,
        }];
        let (over, under): (&[f64], &[f64]) = match target {
            Target::OverLimit(_) => (&self.ours, &self.limit),
            Target::OverTheirs(_) | Target::AboveTheirs(_) => (&self.ours, &self.theirs),
            Target::UnderTheirs(_) => (&self.theirs, &self.ours),
            Target::OverOwn(..) | Target::AboveOwn(..) => (&self.ours, &self.own),
            Target::AtMost(_) => (&self.ours, &wanted),
        };
        let middle = |values: &[f64]| {
            median(values).with_context(|| format!("{} was not measured on all its sides", self.name))
        };
        let ratio = middle(over)? / middle(under)?;
        // A figure that is not of rounds (a constant) goes with each round of the other.
        let rounds = over.len().max(under.len());
        let at = |values: &[f64], round: usize| values[round.min(values.len() - 1)];
        let ratios: Vec<_> = (0..rounds).map(|round| at(over, round) / at(under, round)).collect();
        let spread =
            ratios.iter().fold([f64::MAX, f64::MIN], |[low, high], &one| [low.min(one), high.max(one)]);
        let (bound, least) = target.bound();
        let met = if least { ratio >= bound } else { ratio <= bound };
        Ok(Row {
            ours: middle(&self.ours)?,
            theirs: median(&self.theirs),
            limit: median(&self.limit),
            unit: self.unit,
            ratio,
            ratio_spread: spread,
            target,
            verdict: if met { Verdict::Met } else { Verdict::Short },
            rounds: self.ours.len(),
            name: self.name,
            size: self.size,
        })
    }
}

impl Row {
    /// Heads of [`Row::cells`].
    pub const HEADS: [&str; 9] =
        ["row", "size", "ours", "theirs", "limit", "unit", "ratio (spread)", "target", "verdict"];

    /// The row for people.
    pub fn cells(&self) -> [String; 9] {
        let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let [low, high] = self.ratio_spread;
        [
            self.name.clone(),
            self.size.clone(),
            figure(self.ours),
            some(self.theirs),
            some(self.limit),
            self.unit.to_owned(),
            format!("{} ({}..{})", figure(self.ratio), figure(low), figure(high)),
            self.target.to_string(),
            match self.verdict {
                Verdict::Met => "met".to_owned(),
                Verdict::Short => format!("short by {}", figure(self.missing())),
            },
        ]
    }

    /// How many times the ratio is off its bound; 1: just met.
    pub fn missing(&self) -> f64 {
        let (bound, least) = self.target.bound();
        if least { bound / self.ratio } else { self.ratio / bound }
    }
}

/// Three digits that count, as people read them.
pub fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.0095 => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}

/// The machine that a report is of.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// In GiB.
    pub memory_gib: f64,
    /// As the kernel calls itself.
    pub kernel: String,
    /// How many wanted a processor during the last minute before the bench: others disturb.
    pub load: f64,
}

impl Machine {
    /// This one; what cannot be read is empty.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let kib = after(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = kib.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib / 104_857.6).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }
}

/// What a bench prints: the rows of one or of all.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Reduced sizes.
    pub quick: bool,
    /// Where.
    pub machine: Machine,
    /// Of this program.
    pub version: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What was measured.
    pub rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_medians_its_spread_of_rounds_and_the_verdict_of_the_ratio() {
        let figures = Figures::new("path.p50", "1k", "us", vec![1.0, 3.0, 2.0]).limit(vec![2.0, 2.0, 1.0]);
        let row = figures.clone().row(Target::OverLimit(1.0)).unwrap();
        assert_eq!((row.ours, row.limit, row.theirs), (2.0, Some(2.0), None));
        assert_eq!((row.ratio, row.ratio_spread, row.verdict), (1.0, [0.5, 2.0], Verdict::Met));
        let row = figures.clone().row(Target::OverLimit(0.5)).unwrap();
        assert_eq!((row.verdict, row.missing()), (Verdict::Short, 2.0));
        assert_eq!(row.cells()[8], "short by 2.00");
        let row = figures.clone().row(Target::AtMost(4.0)).unwrap();
        assert_eq!((row.ratio, row.verdict), (0.5, Verdict::Met));
        let row = figures.clone().theirs(vec![10.0]).row(Target::UnderTheirs(6.0)).unwrap();
        assert_eq!((row.ratio, row.verdict), (5.0, Verdict::Short));
        // Never a verdict without the side that it is about.
        assert!(figures.row(Target::AboveTheirs(1.0)).is_err());
        let json = serde_json::to_value(row).unwrap();
        assert_eq!((&json["verdict"], &json["target"]), (&"short".into(), &"theirs/ours >= 6".into()));
    }
}

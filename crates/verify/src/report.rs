//! What was checked, and what came of it.
//!
//! The JSON form is one flat object of numbers, with the checks as a list: what `hopcast verify --json` prints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most failures of one check that are kept as text; the rest is counted.
pub const FAILURES_KEPT: usize = 50;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that was looked at held.
    Passed,
    /// Something did not.
    Failed,
    /// It could not be found out. That is no success.
    NotRun,
}

impl Outcome {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not_run",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `sockets`.
    pub name: String,
    /// One sentence: what holds where it passed, and in brackets what was left out.
    pub claim: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How many things were looked at.
    pub checked: u64,
    /// What was wrong, or why it could not be found out. At most [`FAILURES_KEPT`], and one that counts the rest.
    pub failures: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// The numbers of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Peers of the plan that answered.
    pub peers: u64,
    /// Rooms of the plan.
    pub rooms: u64,
    /// Paths that were compared with an independent search.
    pub paths_checked: u64,
    /// Peers through which a segment was fetched with the manifest's SHA-256.
    pub segments_checked: u64,
    /// Of those, how many came over a route from another peer.
    pub segments_over_routes: u64,
    /// The longest of these routes.
    pub max_hops: u64,
    /// Checked segments whose `Via` equals the broadcast path reversed (one entry where the peer itself had it).
    pub via_matches: u64,
    /// Stored segments that were read from the edges and hashed.
    pub stored_segments_checked: u64,
    /// Refused attempts over the five kinds of shortcut.
    pub shortcuts_refused: u64,
    /// Different connections of the mesh's processes that were looked at.
    pub sockets_audited: u64,
    /// The largest resident size of a peer.
    pub peer_rss_max_kb: u64,
    /// The largest private size of a peer.
    pub peer_private_max_kb: u64,
    /// What the peer with the largest resident size has in its cache.
    pub peer_cache_bytes: u64,
    /// The most that a peer's container takes, kernel memory and file pages included, as `docker stats` counts it; absent
    /// where peers are no containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_container_max_kb: Option<u64>,
    /// Refused attempts to reach a database or more of it than allowed, and of strangers at peers.
    pub isolation_refused: u64,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The mesh.
    pub mesh: String,
    /// The backend.
    pub backend: String,
    /// True where every check ran and held.
    pub passed: bool,
    /// The numbers, beside the other fields.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
    /// The checks that this backend has no place for, each with the reason. Nothing is claimed about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// How long all of it took.
    pub seconds: f64,
}

impl Report {
    /// 0 where every check ran and held, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.passed)
    }

    /// The report as JUnit XML, for CI servers.
    pub fn junit(&self) -> String {
        crate::junit::document(self)
    }

    /// The check of that name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// The names of the checks that did not pass.
    pub fn not_passed(&self) -> Vec<&str> {
        let bad = self.checks.iter().filter(|check| check.outcome != Outcome::Passed);
        bad.map(|check| check.name.as_str()).collect()
    }
}

/// `1 room`, `3 rooms`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// For people: a line a check, its failures below it, the numbers at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let mark = match check.outcome {
                Outcome::Passed => "ok     ",
                Outcome::Failed => "FAILED ",
                Outcome::NotRun => "NOT RUN",
            };
            let Check { name, claim, checked, seconds, .. } = check;
            writeln!(f, "{mark} {name:<10} {checked:>6}  {seconds:>6.1} s  {claim}")?;
            for failure in &check.failures {
                writeln!(f, "          - {failure}")?;
            }
        }
        for text in &self.left_out {
            writeln!(f, "left out {text}")?;
        }
        let n = &self.numbers;
        writeln!(
            f,
            "{} in {}; {}, {} over routes of up to {}, {} with the Via that was broadcast",
            count(n.peers, "peer"),
            count(n.rooms, "room"),
            count(n.segments_checked, "segment"),
            n.segments_over_routes,
            count(n.max_hops, "hop"),
            n.via_matches
        )?;
        writeln!(
            f,
            "{} refused, {} audited, {} on databases and by strangers refused",
            count(n.shortcuts_refused, "shortcut"),
            count(n.sockets_audited, "connection"),
            count(n.isolation_refused, "attempt")
        )?;
        // What was not looked at has no size.
        if self.left_out.is_empty() {
            let container =
                n.peer_container_max_kb.map_or(String::new(), |kb| format!("; largest container: {kb} kB"));
            writeln!(
                f,
                "largest peer: {} kB resident, {} kB private, {} bytes of it cached segments{container}",
                n.peer_rss_max_kb, n.peer_private_max_kb, n.peer_cache_bytes
            )?;
        }
        let verdict = if self.passed { "verified" } else { "NOT verified" };
        write!(f, "{} ({}): {verdict} in {:.1} s", self.mesh, self.backend, self.seconds)
    }
}

/// A check while it runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) checked: u64,
    texts: Vec<String>,
    more: u64,
    failed: bool,
    /// What was left out, so that the claim says no more than what was checked.
    scope: Option<String>,
}

impl Tally {
    /// The claim holds for less than it says: this is added to it.
    pub(crate) fn only(&mut self, scope: impl Into<String>) {
        self.scope = Some(scope.into());
    }

    fn note(&mut self, text: String) {
        // The same words again say nothing new.
        if self.texts.len() < FAILURES_KEPT && !self.texts.contains(&text) {
            self.texts.push(text);
        } else {
            self.more += 1;
        }
    }

    /// Something was wrong.
    pub(crate) fn fail(&mut self, text: impl Into<String>) {
        self.failed = true;
        self.note(text.into());
    }

    /// It, or a part of it, can't be found out. Where something is wrong as well, the check has failed.
    pub(crate) fn not_run(&mut self, why: impl fmt::Display) {
        self.note(format!("not run: {why}"));
    }

    /// One more thing that was looked at, good or bad.
    pub(crate) fn outcome(&mut self, result: Result<(), String>) {
        self.checked += 1;
        if let Err(text) = result {
            self.fail(text);
        }
    }

    pub(crate) fn finish(mut self, name: &str, claim: &str, seconds: f64) -> Check {
        if self.checked == 0 && self.texts.is_empty() {
            self.not_run("there was nothing to check");
        }
        let outcome = match (self.failed, self.texts.is_empty()) {
            (true, _) => Outcome::Failed,
            (false, false) => Outcome::NotRun,
            (false, true) => Outcome::Passed,
        };
        if self.more > 0 {
            self.texts.push(format!("and {} more", self.more));
        }
        Check {
            name: name.into(),
            claim: self.scope.map_or_else(|| claim.to_owned(), |scope| format!("{claim} ({scope})")),
            outcome,
            checked: self.checked,
            failures: self.texts,
            seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fill: impl FnOnce(&mut Tally)) -> Outcome {
        let mut tally = Tally::default();
        fill(&mut tally);
        tally.finish("x", "y", 0.0).outcome
    }

    #[test]
    fn only_what_ran_and_held_passes() {
        assert_eq!(outcome(|t| t.outcome(Ok(()))), Outcome::Passed);
        assert_eq!(outcome(|_| ()), Outcome::NotRun);
        assert_eq!(outcome(|t| t.outcome(Err("bad".into()))), Outcome::Failed);
        let partly = |t: &mut Tally| {
            t.outcome(Ok(()));
            t.not_run("no permission");
        };
        assert_eq!(outcome(partly), Outcome::NotRun);
        let both = |t: &mut Tally| {
            t.not_run("no permission");
            t.outcome(Err("bad".into()));
        };
        assert_eq!(outcome(both), Outcome::Failed);
    }

    #[test]
    fn texts_are_bounded_and_the_rest_is_counted() {
        let mut tally = Tally::default();
        for i in 0..FAILURES_KEPT + 7 {
            tally.fail(i.to_string());
        }
        let check = tally.finish("x", "y", 0.0);
        assert_eq!(check.failures.len(), FAILURES_KEPT + 1);
        assert_eq!(check.failures.last().unwrap(), "and 7 more");
    }

    #[test]
    fn json_is_one_flat_object_of_numbers() {
        let report = Report {
            mesh: "m".into(),
            backend: "local".into(),
            passed: true,
            numbers: Numbers { peers: 160, ..Numbers::default() },
            checks: vec![],
            left_out: vec![],
            seconds: 1.0,
        };
        let json = serde_json::to_value(&report).unwrap();
        let wanted = [
            "peers",
            "rooms",
            "segments_checked",
            "max_hops",
            "via_matches",
            "shortcuts_refused",
            "sockets_audited",
            "peer_rss_max_kb",
            "peer_private_max_kb",
            "peer_cache_bytes",
        ];
        for name in wanted {
            assert!(json[name].is_number(), "{name}");
        }
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}

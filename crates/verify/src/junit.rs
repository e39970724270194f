//! The report as JUnit XML (the form that CI servers read): one test case a check.

use std::fmt::Write as _;

use crate::report::{Outcome, Report};

/// Escapes text for an element or a quoted attribute; characters that XML 1.0 has no form for become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => _ = write!(out, "&#{};", c as u32),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The whole document.
pub(crate) fn document(report: &Report) -> String {
    let count = |outcome| report.checks.iter().filter(|check| check.outcome == outcome).count();
    let (failed, not_run) = (count(Outcome::Failed), count(Outcome::NotRun));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escape(&format!("hopcast verify {} ({})", report.mesh, report.backend));
    let total = report.checks.len();
    let _ = writeln!(
        xml,
        "<testsuites>\n  <testsuite name=\"{name}\" tests=\"{total}\" failures=\"{failed}\" errors=\"{not_run}\" \
         skipped=\"0\" time=\"{:.3}\">",
        report.seconds
    );
    for check in &report.checks {
        let (case, claim) = (escape(&check.name), escape(&check.claim));
        let seconds = check.seconds;
        let _ = writeln!(
            xml,
            "    <testcase classname=\"hopcast.verify\" name=\"{case}\" time=\"{seconds:.3}\">"
        );
        // What could not be found out is an error, not a skip: a skip counts as success.
        let element = match check.outcome {
            Outcome::Passed => None,
            Outcome::Failed => Some("failure"),
            Outcome::NotRun => Some("error"),
        };
        if let Some(element) = element {
            let first = escape(check.failures.first().map_or("", String::as_str));
            let all = escape(&check.failures.join("\n"));
            let _ = writeln!(xml, "      <{element} message=\"{first}\">{all}</{element}>");
        }
        let _ = writeln!(xml, "      <system-out>{claim} ({} checked)</system-out>", check.checked);
        xml.push_str("    </testcase>\n");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Check, Numbers};

    #[test]
    fn failures_and_what_did_not_run_both_count() {
        let check = |name: &str, outcome, failures: &[&str]| Check {
            name: name.into(),
            claim: "a < b".into(),
            outcome,
            checked: 3,
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            seconds: 0.25,
        };
        let report = Report {
            mesh: "m".into(),
            backend: "local".into(),
            passed: false,
            numbers: Numbers::default(),
            checks: vec![
                check("paths", Outcome::Passed, &[]),
                check("via", Outcome::Failed, &["peer-1 & \"peer-2\"", "<two>\u{1}"]),
                check("sockets", Outcome::NotRun, &["not run: /proc/1/fd"]),
            ],
            left_out: vec![],
            seconds: 1.5,
        };
        let xml = document(&report);
        assert!(
            xml.contains("tests=\"3\" failures=\"1\" errors=\"1\" skipped=\"0\" time=\"1.500\""),
            "{xml}"
        );
        assert!(xml.contains("<failure message=\"peer-1 &amp; &quot;peer-2&quot;\">"), "{xml}");
        assert!(xml.contains("&#10;&lt;two&gt;\u{fffd}</failure>"), "{xml}");
        assert!(xml.contains("<error message=\"not run: /proc/1/fd\">"), "{xml}");
        assert_eq!(xml.matches("<testcase").count(), xml.matches("</testcase>").count());
    }
}

//! The report as tests that passed, failed or were skipped: what JUnit and KTAP have in common.
//!
//! Each rule is a group. A hazard is a case of its rule's group that failed; a rule that found nothing is a case that
//! passed. Whether everything was seen is a group of its own, so that nobody takes a capture with losses for a clean one.

use lazymmu_hazard::rules::RULES;

use crate::finding::Finding;
use crate::text;
use crate::{Report, Word, figures};

/// The name of the group that fails if something was not seen.
pub(crate) const COMPLETE: &str = "nothing-missed";

/// What belongs together.
pub(crate) struct Group<'a> {
    /// The rule's name, or [`COMPLETE`].
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case<'a>>,
}

/// One test.
pub(crate) struct Case<'a> {
    pub(crate) name: String,
    pub(crate) result: Outcome,
    /// What to say of it; empty if nothing.
    pub(crate) text: String,
    /// The finding that it is about.
    pub(crate) finding: Option<&'a Finding>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// There is a hazard.
    Failed(String),
    /// Something was not seen.
    Missed(Word),
    /// There is a hazard that does not count, and this is why.
    Skipped(String),
}

impl Group<'_> {
    pub(crate) fn failed(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.result, Outcome::Failed(_) | Outcome::Missed(_)))
    }

    /// Whether there is something to see, and all of it does not count.
    pub(crate) fn skipped(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| matches!(case.result, Outcome::Skipped(_)))
    }
}

/// The report as groups, the same for the same report.
pub(crate) fn groups(report: &Report) -> Vec<Group<'_>> {
    let rules = RULES.iter().map(|rule| Group {
        name: rule.info.name,
        title: rule.info.title,
        cases: of_rule(report, rule.info.name),
    });
    rules.chain([complete(report)]).collect()
}

fn of_rule<'a>(report: &'a Report, rule: &str) -> Vec<Case<'a>> {
    let findings = report.findings.iter().filter(|finding| finding.rule == rule).map(found);
    let suppressed = report.suppressed.iter().filter(|entry| entry.finding.rule == rule).map(|entry| {
        let why = entry.why();
        Case { result: Outcome::Skipped(format!("suppressed: {why}")), ..found(&entry.finding) }
    });
    let gone = report.baseline.iter().flat_map(|baseline| {
        let gone = baseline.gone.iter().filter(|gone| gone.rule == rule);
        gone.map(|gone| Case {
            name: format!("{} [{}]", gone.what, gone.fingerprint),
            result: Outcome::Passed,
            text: format!(
                "{}: it is in the baseline, first seen on {}\n",
                baseline.gone_word(),
                gone.first_seen
            ),
            finding: None,
        })
    });
    findings.chain(suppressed).chain(gone).collect()
}

fn found(finding: &Finding) -> Case<'_> {
    let seen = figures::times(finding.count);
    let known = finding.baseline.as_ref().filter(|baseline| baseline.is_known());
    let result = if let Some(known) = known {
        Outcome::Skipped(known.words())
    } else if finding.is_error() {
        Outcome::Failed(format!("{}: {}; {}, seen {seen}", finding.rule, finding.title, finding.state))
    } else {
        Outcome::Passed
    };
    let name = format!("{} [{}]", finding.in_words(), finding.fingerprint);
    Case { name, result, text: text::finding(finding), finding: Some(finding) }
}

fn complete(report: &Report) -> Group<'static> {
    let case = |reason: &crate::Reason| Case {
        name: reason.kind.to_string(),
        result: Outcome::Missed(reason.kind.clone()),
        text: format!("{}\n", reason.text),
        finding: None,
    };
    Group {
        name: COMPLETE,
        title: "everything that matters was seen",
        cases: report.reasons.iter().map(case).collect(),
    }
}

/// What the report is about, in one line.
pub(crate) fn subject(report: &Report) -> String {
    let target = &report.target;
    format!("Linux {} {} on {}", target.release, target.version, target.architecture)
}

/// Whether a character can stand in a line of text: what would move a cursor, end a line or be no character of XML
/// cannot.
pub(crate) fn printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// One line, whatever the text has.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if printable(c) { c } else { '?' }).collect()
}

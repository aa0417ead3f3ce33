//! Every scenario of the corpus gives what it expects: the bugs are found, their correct twins stay silent.

#![allow(clippy::panic, clippy::unwrap_used)]

#[cfg(test)]
#[path = "corpus_support/mod.rs"]
mod corpus;

use corpus::{Judged, TWIN};
use lazymmu_hazard::rules::{RULES, Severity};
use lazymmu_report::expectation::Met;
use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::scenario::Expected;

/// The bugs that the corpus must have.
const BUGS: [&str; 16] = [
    "c01", "c02", "c05", "c06", "c08", "c10", "c11", "c12", "c14", "c15", "c16", "c17", "c18", "c19", "c21",
    "c22",
];
/// Rules for errors of which no real bug is known.
const WITHOUT_BUG: [&str; 1] = ["write-reorder"];

#[test]
fn every_scenario_gives_what_it_expects() {
    let mut complaints = Vec::new();
    for Judged { name, checked, .. } in &corpus::all().unwrap() {
        let said = checked.complaints().into_iter().map(|complaint| format!("{name}: {complaint}"));
        complaints.extend(said);
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_rule_for_errors_catches_a_real_bug() {
    let all = corpus::all().unwrap();
    let caught = |rule: &str| {
        all.iter().flat_map(|judged| &judged.scenario.expectations).any(
            |expectation| matches!(&expectation.what, Expected::Finding(finding) if finding.rule == rule),
        )
    };
    for info in RULES.iter().map(|rule| rule.info).filter(|info| info.severity == Severity::Error) {
        assert_eq!(caught(info.name), !WITHOUT_BUG.contains(&info.name), "{}", info.name);
    }
}

#[test]
fn every_bug_is_there_and_has_a_silent_twin() {
    let all = corpus::all().unwrap();
    for bug in BUGS {
        assert!(all.iter().any(|judged| judged.name.starts_with(bug)), "{bug} is missing");
    }
    for Judged { name, scenario, .. } in &all {
        let what: Vec<_> = scenario.expectations.iter().map(|expectation| &expectation.what).collect();
        if let Some(bug) = name.strip_suffix(TWIN) {
            assert!(all.iter().any(|judged| judged.name == bug), "{name} is a twin of nothing");
            assert_eq!(what, [&Expected::Nothing], "{name}");
        } else {
            let twin = format!("{name}{TWIN}");
            assert!(all.iter().any(|judged| judged.name == twin), "{name} has no twin");
            assert!(
                !what.is_empty() && what.iter().all(|what| matches!(what, Expected::Finding(_))),
                "{name}"
            );
        }
    }
}

/// What is accepted, and only that, is silenced by the suppressions that ship.
#[test]
fn what_is_no_bug_is_suppressed() {
    let shipped = Suppressions::shipped();
    for Judged { name, scenario, outcome, checked } in corpus::all().unwrap() {
        let accepted = checked.expectations.iter().filter(|expectation| {
            let accepted = matches!(&expectation.what, Expected::Finding(finding) if finding.accepted);
            accepted && expectation.result == Met::Yes
        });
        let mut left = outcome.clone();
        // None of those that ship expires, so any day will do.
        let _ = shipped.apply(&mut left, &scenario.symbols, Date::from_days_since_1970(0));
        let silenced = outcome.occurrences.len() - left.occurrences.len();
        assert_eq!(silenced, accepted.count(), "{name}");
    }
}

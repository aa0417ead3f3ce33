//! Every scenario of the corpus gives what it expects: the bugs are found, their correct twins stay silent.

#![allow(clippy::panic, clippy::unwrap_used)]

#[cfg(test)]
#[path = "corpus_support/mod.rs"]
mod corpus;

use corpus::{Judged, TWIN};
use lazymmu_hazard::rules::RULES;
use lazymmu_report::expectation::Met;
use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::scenario::Expected;

/// The bugs that the corpus must have.
const BUGS: [&str; 16] = [
    "c01", "c02", "c05", "c06", "c08", "c10", "c11", "c12", "c14", "c15", "c16", "c17", "c18", "c19", "c21",
    "c22",
];
/// Scenarios of what no kernel is known to do, for rules of which no real bug is known.
const CONSTRUCTED: [&str; 1] = ["pud-overtaken"];

#[test]
fn every_scenario_gives_what_it_expects() {
    let mut complaints = Vec::new();
    for Judged { name, checked, .. } in &corpus::all().unwrap() {
        let said = checked.complaints().into_iter().map(|complaint| format!("{name}: {complaint}"));
        complaints.extend(said);
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// By a real one, but for what is constructed.
#[test]
fn every_rule_has_its_scenario() {
    let all = corpus::all().unwrap();
    for rule in RULES.iter().map(|rule| rule.info.name) {
        let finds = |judged: &&Judged| {
            judged.scenario.expectations.iter().any(
                |expectation| matches!(&expectation.what, Expected::Finding(finding) if finding.rule == rule),
            )
        };
        let names: Vec<&str> = all.iter().filter(finds).map(|judged| judged.name.as_str()).collect();
        assert!(!names.is_empty(), "{rule} has no scenario");
        let constructed = names.iter().all(|name| CONSTRUCTED.contains(name));
        assert_eq!(constructed, rule == "write-reorder", "{rule}: {names:?}");
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

//! The whole report, text and JSON, over histories that are written down here, against the files in `golden/`.
//!
//! `LAZYMMU_BLESS=1 cargo test -p lazymmu-report` writes the files anew; look at the difference before it is committed.

#[cfg(test)]
#[path = "golden_support/scenario.rs"]
mod scenario;
#[cfg(test)]
#[path = "golden_support/schema.rs"]
mod schema;

use std::path::PathBuf;

use lazymmu_report::{Report, Session, Style};
use scenario::Scenario;

fn report(scenario: &Scenario) -> Report {
    let Scenario { header, symbols, outcome, damage } = scenario;
    Report::new(&Session { header, symbols, outcome, damage: *damage })
}

fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        assert!(std::fs::write(&path, actual).is_ok(), "{name} cannot be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; see the top of this file");
}

#[test]
fn fork_of_a_device_exclusive_range() {
    let report = report(&scenario::fork_exclusive());
    check("fork-exclusive.txt", &report.text(Style::Plain));
    check("fork-exclusive.json", &report.json());
}

#[test]
fn the_sample_that_was_recorded_on_a_real_kernel() {
    let scenario =
        scenario::of_trace(concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/sample/fork-exclusive.lmt"));
    let report = report(&scenario);
    check("sample.txt", &report.text(Style::Plain));
    check("sample.json", &report.json());
    let document = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(schema::load().errors(&document), Vec::<String>::new());
}

#[test]
fn a_clean_run() {
    let report = report(&scenario::clean());
    check("clean.txt", &report.text(Style::Plain));
    check("clean.json", &report.json());
}

#[test]
fn a_proven_hazard_without_call_paths_and_with_losses() {
    let report = report(&scenario::proven_and_lossy());
    check("proven-lossy.txt", &report.text(Style::Plain));
    check("proven-lossy.json", &report.json());
}

#[test]
fn an_inconclusive_run() {
    let report = report(&scenario::inconclusive());
    check("inconclusive.txt", &report.text(Style::Plain));
    check("inconclusive.json", &report.json());
}

#[test]
fn colour_adds_nothing_but_colour() {
    let report = report(&scenario::fork_exclusive());
    let coloured = report.text(Style::Colour);
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    for (number, part) in coloured.split("\u{1b}[").enumerate() {
        plain.push_str(if number == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    assert_eq!(plain, report.text(Style::Plain));
}

#[test]
fn rules_and_profiles_in_words() {
    let mut text = lazymmu_report::list_rules(Style::Plain);
    for rule in &lazymmu_hazard::rules::RULES {
        text.push('\n');
        text.push_str(&lazymmu_report::explain(rule.info.id, Style::Plain));
    }
    check("rules.txt", &text);
    check("profiles.txt", &lazymmu_report::list_profiles(Style::Plain));
}

#[test]
fn a_hazard_is_announced_in_one_line() {
    let scenario = scenario::fork_exclusive();
    let lines: Vec<_> = scenario
        .outcome
        .occurrences
        .iter()
        .map(|occurrence| lazymmu_report::announce(occurrence, &scenario.symbols))
        .collect();
    assert_eq!(
        lines,
        [
            "read-pending: ptep_get in copy_pte_range after set_ptes in restore_exclusive_pte",
            "rmw-pending: wrprotect_ptes in __copy_present_ptes after set_ptes in restore_exclusive_pte",
        ]
    );
}

#[test]
fn what_nobody_checked_is_marked() {
    let mut report = report(&scenario::fork_exclusive());
    assert!(!report.text(Style::Plain).contains("not checked"));
    report.findings[0].profiles[1].verified = false;
    assert!(report.text(Style::Plain).contains("not checked"));
}

#[test]
fn lines_are_no_longer_than_the_width() {
    for scenario in [scenario::fork_exclusive(), scenario::clean(), scenario::proven_and_lossy()] {
        for line in report(&scenario).text(Style::Plain).lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let once = report(&scenario::fork_exclusive()).json();
    assert_eq!(once, report(&scenario::fork_exclusive()).json());
}

#[test]
fn the_schema_describes_every_document() {
    let schema = schema::load();
    for scenario in [
        scenario::fork_exclusive(),
        scenario::clean(),
        scenario::proven_and_lossy(),
        scenario::inconclusive(),
    ] {
        let document = serde_json::from_str(&report(&scenario).json()).unwrap();
        assert_eq!(schema.errors(&document), Vec::<String>::new());
    }
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = schema::load();
    let good: serde_json::Value = serde_json::from_str(&report(&scenario::fork_exclusive()).json()).unwrap();
    let broken: [(&str, serde_json::Value); 6] = [
        ("/verdict", "fine".into()),
        ("/schema", 1.into()),
        ("/findings/0/count", "many".into()),
        ("/findings/0/fingerprint", "xyz".into()),
        ("/findings/0/profiles/0/breaks", serde_json::Value::Null),
        ("/findings/0/write/stack/0", serde_json::json!({"function": "f"})),
    ];
    for (place, value) in broken {
        let mut document = good.clone();
        *document.pointer_mut(place).unwrap() = value;
        assert!(!schema.errors(&document).is_empty(), "{place}");
    }
    let mut document = good;
    document.as_object_mut().unwrap().remove("losses");
    assert!(!schema.errors(&document).is_empty(), "a field is missing");
}

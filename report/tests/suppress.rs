//! Suppressions over a history that is written down: what they take out of the verdict, and what the report says.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[cfg(test)]
#[path = "golden_support/scenario.rs"]
mod scenario;
#[cfg(test)]
#[path = "golden_support/schema.rs"]
mod schema;

use lazymmu_hazard::{Outcome, Verdict};
use lazymmu_report::{Date, Report, Session, Style, Suppressions, Word};
use lazymmu_trace::{Frame, Symbols};

const TODAY: &str = "2026-11-20";

fn suppressions(text: &str) -> Suppressions {
    let mut suppressions = Suppressions::none();
    suppressions.add("a.toml", text).unwrap();
    suppressions
}

/// The rules that are left, those that are suppressed, and the report.
fn apply(text: &str) -> (Vec<Word>, Vec<Word>, Report, Verdict) {
    let scenario = scenario::fork_exclusive();
    let suppressions = suppressions(text);
    let mut outcome: Outcome = scenario.outcome.clone();
    let today: Date = TODAY.parse().unwrap();
    let applied = suppressions.apply(&mut outcome, &scenario.symbols, today);
    let session = Session {
        header: &scenario.header,
        symbols: &scenario.symbols,
        outcome: &outcome,
        damage: scenario.damage,
    };
    let report = Report::new(&session).with_suppressed(&suppressions, &applied, &session);
    let left = report.findings.iter().map(|finding| finding.rule.clone()).collect();
    let gone = report.suppressed.iter().map(|suppressed| suppressed.finding.rule.clone()).collect();
    (left, gone, report, outcome.verdict())
}

fn entry(matching: &str) -> String {
    format!("[[suppress]]\nreason = \"r\"\n{matching}\n")
}

#[test]
fn entries_match_by_rule_frames_and_source() {
    for (matching, gone) in [
        ("rule = \"read-pending\"", &["read-pending"][..]),
        ("rule = \"*-pending\"", &["read-pending", "rmw-pending"]),
        (
            "stack = [\"try_restore_exclusive_pte\", \"*\", \"copy_page_range\"]",
            &["read-pending", "rmw-pending"],
        ),
        ("access-stack = [\"copy_present_ptes\"]", &["rmw-pending"]),
        ("write-stack = [\"copy_present_ptes\"]", &[]),
        ("stack = [\"copy_present_ptes\"]", &["rmw-pending"]),
        ("opener-stack = [\"copy_pte_range\"]\naccess-stack = [\"__copy_*\"]", &["rmw-pending"]),
        ("source = \"mm/*.c\"", &["read-pending", "rmw-pending"]),
        ("source = \"mm/gup.c\"", &[]),
        ("source = \"mm/*\"\nrule = \"rmw-pending\"", &["rmw-pending"]),
        ("stack = [\"dmirror_exclusive\", \"copy_page_range\"]", &[]),
    ] {
        let (left, suppressed, report, verdict) = apply(&entry(matching));
        assert_eq!(suppressed, gone, "{matching}");
        assert_eq!(left.len() + gone.len(), 2, "{matching}");
        assert_eq!(verdict == Verdict::Clean, left.is_empty(), "{matching}");
        assert_eq!(report.suppressions.is_some(), gone.is_empty(), "{matching}: unused or not");
    }
}

#[test]
fn an_entry_for_some_profiles_suppresses_what_breaks_on_no_other() {
    let rule = |profiles: &str| entry(&format!("rule = \"read-pending\"\nprofile = {profiles}"));
    let suppressed = |text: &str| apply(text).1;
    // It breaks on strict and xen-pv.
    assert_eq!(suppressed(&rule("\"xen-pv\"")), [""; 0]);
    assert_eq!(suppressed(&rule("[\"strict\", \"xen-pv\"]")), ["read-pending"]);
    assert_eq!(suppressed(&(rule("\"strict\"") + &rule("\"xen-pv\""))), ["read-pending"], "they add up");
    assert_eq!(suppressed(&rule("[\"strict\", \"s390\"]")), [""; 0]);
}

#[test]
fn an_expired_entry_suppresses_nothing_and_is_reported() {
    let expires = |date: &str| entry(&format!("rule = \"read-pending\"\nexpires = {date}"));
    let (_, gone, report, _) = apply(&expires("2026-11-21"));
    assert_eq!(
        (gone.as_slice(), report.suppressions),
        (&[Word::from("read-pending")][..], None),
        "its last day"
    );
    let (_, gone, report, verdict) = apply(&expires("2026-11-20"));
    assert_eq!((gone.as_slice(), verdict), (&[][..], Verdict::Hazards));
    let note = report.suppressions.unwrap();
    assert_eq!((note.unused.len(), note.expired.len(), note.expired[0].line), (0, 1, 1));
}

#[test]
fn the_report_tells_what_was_suppressed_and_why() {
    let text = "[[suppress]]\nrule = \"*\"\nreason = \"the range is exclusive\"\n\n".to_owned()
        + &entry("source = \"mm/gone.c\"")
        + &entry("rule = \"x\"\nexpires = 2020-01-01");
    let (_, _, report, _) = apply(&text);
    let shown = report.text(Style::Plain);
    let expected = "\
Suppressed:
 read-pending: ptep_get in copy_pte_range after set_ptes in restore_exclusive_pte, seen 3 times
    a.toml:1: the range is exclusive
 rmw-pending: wrprotect_ptes in __copy_present_ptes after set_ptes in restore_exclusive_pte, seen 3 times
    a.toml:1: the range is exclusive

Suppressions that match nothing:
    a.toml:5: r

Suppressions that have expired, and suppress nothing any more:
    a.toml:8: r (expires 2020-01-01)

";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.ends_with("Verdict: clean: no hazard; 2 suppressed\n"), "{shown}");
    let document = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(schema::load().errors(&document), Vec::<String>::new());
}

#[test]
fn rules_that_do_not_exist_are_told_with_their_place() {
    let text = entry("rule = \"read-pending\"") + &entry("rule = \"no-such\"") + &entry("rule = \"read-*\"");
    let unknown = suppressions(&text).unknown_rules();
    let unknown: Vec<_> = unknown.iter().map(|rule| (&*rule.file, rule.line, &*rule.name)).collect();
    assert_eq!(unknown, [("a.toml", 4, "no-such")]);
}

/// GUP-fast in one task while another one forks, by the entry that comes with lazymmu.
#[test]
fn gup_fast_against_fork_is_suppressed_by_default() {
    let shipped = include_str!("../src/suppress/default.toml");
    // The history has other rules: what counts here are the stacks.
    let text = shipped.replace("remote-read-pending", "*-pending");
    assert_ne!(text, shipped);
    let scenario = scenario::fork_exclusive();
    let suppressed = |reader: &str, writer: &str| {
        let mut symbols = Symbols::default();
        for (id, addresses) in scenario.symbols.stacks() {
            symbols.insert_stack(id, addresses.to_vec());
        }
        let named = |function: &str| {
            let function = function.to_owned();
            vec![Frame { function, offset: 8, module: None, file: None, line: None, inlined: false }]
        };
        for (address, frames) in scenario.symbols.symbolized() {
            // 0x500 is copy_page_range on every stack; the reader's own address is 0x300.
            let frames = match address {
                0x200 => named(writer),
                0x300 => named(reader),
                0x500 => named("caller"),
                _ => frames.to_vec(),
            };
            symbols.insert_frames(address, frames);
        }
        let mut outcome = scenario.outcome.clone();
        suppressions(&text).apply(&mut outcome, &symbols, TODAY.parse().unwrap());
        scenario.outcome.occurrences.len() - outcome.occurrences.len()
    };
    assert_eq!(suppressed("gup_fast_pte_range", "copy_page_range"), 1);
    assert_eq!(suppressed("gup_fast_fallback.constprop.0", "copy_page_range"), 1, "all of it inlined");
    assert_eq!(suppressed("gup_fast_pte_range", "zap_pte_range"), 0, "no fork");
    assert_eq!(suppressed("follow_page_pte", "copy_page_range"), 0, "another reader");
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let page = include_str!("../../docs/suppressions.md");
    let (_, file) = page.split_once("## A file").unwrap();
    let lines: Vec<_> = file.lines().take_while(|line| !line.starts_with('|')).collect();
    let example: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("    ")).collect();
    let entries = example.iter().filter(|line| **line == "[[suppress]]").count();
    assert_eq!(entries, 2);
    assert_eq!(Suppressions::none().add("page", &example.join("\n")), Ok(()));
}

//! The HTML page and the courses of sections, over scenarios and the embedded sample.
//!
//! What a browser makes of the page is tested in `tests/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

#[cfg(test)]
#[path = "golden_support/scenario.rs"]
mod scenario;
#[cfg(test)]
#[path = "golden_support/schema.rs"]
mod schema;

use lazymmu_abi::Record;
use lazymmu_hazard::{Arch, Config, Engine};
use lazymmu_report::batches::Observer;
use lazymmu_report::{Collector, Names, Report, SectionTimeline, Session, Style};
use lazymmu_trace::scenario::Scenario;
use lazymmu_trace::{Header, Symbols};

fn report(header: &Header, symbols: &Symbols, records: &[Record]) -> Report {
    let engine = || {
        let arch = Arch::from_machine(&header.kernel.architecture);
        Engine::new(Config { arch, ..Config::default() })
    };
    let mut first = engine();
    first.process_all(records);
    let outcome = first.finish();
    let session = Session { header, symbols, outcome: &outcome, damage: None };
    let mut report = Report::new(&session);
    let mut collector = Collector::new(&outcome.classes(&Names(symbols)));
    let (mut second, mut observer) = (engine(), Observer::default());
    for record in records {
        collector.before(&second, record);
        observer.process(&mut second, record);
        collector.after(&second, record);
    }
    report.add_timelines(collector, &session);
    report.add_batches(&observer, symbols);
    report
}

fn of_scenario(steps: &str) -> Report {
    let text = format!("scenario x\nentry e pte x 600\nentry other pte\n{steps}");
    let Scenario { header, symbols, records, .. } = Scenario::parse("x.scn", &text).unwrap();
    report(&header, &symbols, &records)
}

fn of_sample() -> Report {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../daemon/sample/fork-exclusive.lmt");
    let mut reader = lazymmu_trace::Reader::open(path).unwrap();
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        records.extend_from_slice(batch);
    }
    report(&reader.about.header, &reader.about.symbols, &records)
}

fn check(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        assert!(std::fs::write(&path, actual).is_ok(), "{name} cannot be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs; see the top of golden.rs");
}

fn timeline<'a>(report: &'a Report, rule: &str) -> &'a SectionTimeline {
    let finding = report.findings.iter().find(|finding| finding.rule == rule).unwrap();
    finding.timeline.as_ref().unwrap()
}

/// Each step's operation, and how many entries wait after it.
fn steps(timeline: &SectionTimeline) -> Vec<(&str, usize)> {
    timeline.steps.iter().map(|step| (&*step.op, step.waiting_entries)).collect()
}

#[test]
fn what_waits_is_there_after_each_step_and_the_hazard_is_marked() {
    let report = of_scenario(
        "task a on cpu 0 in f
         enter
         write e[0]
         write e[1]
         flush
         write e[2]
         write e x 2
         read e[1]
         read other
         leave
         enter
         read e[1]
         leave",
    );
    let timeline = timeline(&report, "read-pending");
    let expected = [
        ("enter", 0),
        ("set_ptes", 1),
        ("set_ptes", 2),
        ("flush", 0),
        ("set_ptes", 1),
        ("set_ptes", 3),
        ("ptep_get", 3),
        ("ptep_get", 3),
        ("leave", 0),
    ];
    assert_eq!(steps(timeline), expected);
    assert_eq!((timeline.hazard, timeline.entered, timeline.goes_on), (6, true, false));
    let roles: Vec<_> = timeline.steps.iter().map(|step| step.role.as_deref()).collect();
    assert_eq!((roles[5], roles[6]), (Some("write"), Some("access")));
    assert_eq!(roles.iter().flatten().count(), 2);
    assert_eq!(timeline.so_far().len(), 7);
    assert_eq!(timeline.steps[5].waiting.len(), 2, "one write of two entries and one of one");
}

#[test]
fn another_task_is_in_it_where_it_touches_what_waits() {
    let report = of_scenario(
        "task a on cpu 0 in f
         enter
         write e[0]
         task b on cpu 1 in g
         read other
         read e[0]
         task a on cpu 0 in f
         leave",
    );
    let timeline = timeline(&report, "remote-read-pending");
    assert_eq!(steps(timeline), [("enter", 0), ("set_ptes", 1), ("ptep_get", 1), ("leave", 0)]);
    assert_ne!(timeline.steps[2].tid, timeline.tid);
}

#[test]
fn a_long_section_is_cut_and_what_waits_is_right_all_the_same() {
    let mut text = String::from("task a on cpu 0 in f\nenter\n");
    for index in 0..400 {
        text.extend([format!("write e[{index}]\n")]);
    }
    text.push_str("read e[399]\n");
    for _ in 0..100 {
        text.push_str("read other\n");
    }
    text.push_str("leave\n");
    let report = of_scenario(&text);
    let timeline = timeline(&report, "read-pending");
    let left_out = timeline.left_out.unwrap();
    assert_eq!(timeline.steps.len() as u64 + left_out.count, 402 + 48);
    assert_eq!(timeline.steps[timeline.hazard].waiting_entries, 400);
    assert_eq!(
        timeline.steps[left_out.before].waiting_entries as u64,
        left_out.before as u64 + left_out.count
    );
    assert_eq!(timeline.steps[timeline.hazard].role.as_deref(), Some("access"));
    assert!(timeline.goes_on);
    let text = report.text(Style::Plain);
    assert!(text.contains("more\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 130));
}

#[test]
fn the_sample_in_every_detail() {
    let report = of_sample();
    for finding in report.findings.iter().filter(|finding| finding.severity == "error") {
        let timeline = finding.timeline.as_ref().unwrap();
        let hazard = &timeline.steps[timeline.hazard];
        assert_eq!(Some(&hazard.time_ns), Some(&finding.example.time_ns));
        assert!(hazard.has_waiting(hazard.address.unwrap()), "what was met waits");
        assert!(timeline.steps.iter().any(|step| step.role.as_deref() == Some("write")));
    }
    check("sample-report.txt", &report.text(Style::Plain));
    let document = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(schema::load().errors(&document), Vec::<String>::new());
    check("sample.html", &report.html().unwrap());
}

#[test]
fn every_kind_of_report_makes_a_page() {
    for scenario in [
        scenario::fork_exclusive(),
        scenario::clean(),
        scenario::proven_and_lossy(),
        scenario::inconclusive(),
        scenario::hostile(),
    ] {
        let scenario::Scenario { header, symbols, outcome, damage } = &scenario;
        let report = Report::new(&Session { header, symbols, outcome, damage: *damage });
        let page = report.html().unwrap();
        assert!(page.starts_with("<!doctype html>"), "{}", &page[..40]);
        assert!(page.contains(&format!("<div class=\"verdict {}\">", report.verdict)));
        self_contained(&page);
    }
    self_contained(&of_sample().html().unwrap());
}

/// Nothing is loaded, nothing runs, nothing leads away.
fn self_contained(page: &str) {
    assert!(
        page.contains("Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'")
    );
    let lower = page.to_lowercase();
    for foreign in ["<script", "<img", "<iframe", "<object", "<embed", "<link", "<base", "<form"] {
        assert!(!lower.contains(foreign), "{foreign}");
    }
    let style = lower.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(!style.contains("@import") && !style.contains("url("));
    for link in lower.split("href=\"").skip(1) {
        assert!(link.starts_with('#'), "{}", &link[..20]);
    }
    assert_eq!(lower.matches("</style>").count(), 1);
    assert_eq!(lower.matches("<style>").count(), 1);
    // Every attribute that could run is absent as an attribute: text has its quotes and angle brackets escaped.
    for tag in lower.replace("<meta http-equiv", "<meta").split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        for foreign in [" on", " src", " style=", "http", "javascript"] {
            assert!(!tag.contains(foreign), "{tag}");
        }
    }
}

#[test]
fn hostile_names_are_text() {
    let scenario::Scenario { header, symbols, outcome, damage } = &scenario::hostile();
    let page = Report::new(&Session { header, symbols, outcome, damage: *damage }).html().unwrap();
    assert!(page.contains("x&lt;&#x2f;script&gt;") || page.contains("x&lt;/script&gt;"), "{page}");
    assert!(page.contains("{{7*7}}") && !page.contains(">49<"), "a name is no template");
}

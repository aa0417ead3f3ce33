//! The report as JUnit XML: a suite for each rule, a test case for each finding.
//!
//! No times, no host, no ids: the same report gives the same bytes.

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use crate::Report;
use crate::cases::{Case, Group, Outcome, groups, one_line, printable, subject};

pub(crate) fn render(report: &Report) -> String {
    let mut document = quick_junit::Report::new("lazymmu");
    for group in &groups(report) {
        document.add_test_suite(suite(report, group));
    }
    // It fails where a writer fails, and this one is memory.
    let mut text = document.to_string().unwrap_or_default();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn suite(report: &Report, group: &Group<'_>) -> TestSuite {
    let mut suite = TestSuite::new(group.name);
    suite.add_property(Property::new("title", group.title));
    suite.add_property(Property::new("kernel", one_line(&subject(report))));
    if let Some(id) = &report.target.build_id {
        suite.add_property(Property::new("build-id", one_line(id)));
    }
    if group.cases.is_empty() {
        // A suite without a case looks as if nobody had looked.
        let mut case = TestCase::new("nothing found", TestCaseStatus::success());
        case.set_classname(group.name);
        suite.add_test_case(case);
    }
    suite.add_test_cases(group.cases.iter().map(|case| test_case(group, case)));
    suite
}

fn test_case(group: &Group<'_>, case: &Case<'_>) -> TestCase {
    let text: String = case.text.chars().filter(|c| *c == '\n' || printable(*c)).collect();
    let status = match &case.result {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed(why) => failed(NonSuccessKind::Failure, group.name, why, &text),
        Outcome::Missed(kind) => failed(NonSuccessKind::Error, kind, text.trim_end(), &text),
        Outcome::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(one_line(why)).set_description(&text);
            status
        }
    };
    let passed = case.result == Outcome::Passed;
    let mut case = located(case, status);
    case.set_classname(group.name);
    if passed {
        case.set_system_out(text);
    }
    case
}

fn failed(kind: NonSuccessKind, of: &str, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(of).set_message(one_line(message)).set_description(text);
    status
}

/// With the place in the source, where it is known, as many readers show it.
fn located(case: &Case<'_>, status: TestCaseStatus) -> TestCase {
    let mut made = TestCase::new(one_line(&case.name), status);
    let source = case.finding.and_then(|finding| finding.access.source());
    if let Some((file, line)) = source {
        made.extra.insert("file".into(), one_line(file).into());
        if let Some(line) = line {
            made.extra.insert("line".into(), line.to_string().into());
        }
    }
    made
}

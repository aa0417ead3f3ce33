//! The report as KTAP, version 1, which is what the kernel's own test tools read (Documentation/dev-tools/ktap.rst).
//!
//! A test for each rule, with a subtest for each finding; what is said of a finding stands in its diagnostic lines.

use std::fmt::Write as _;

use crate::Report;
use crate::cases::{Case, Group, Outcome, groups, one_line, subject};

pub(crate) fn render(report: &Report) -> String {
    let groups = groups(report);
    let mut text = format!("KTAP version 1\n# lazymmu: {}\n", one_line(&subject(report)));
    let _ = writeln!(text, "# verdict: {}\n1..{}", report.verdict, groups.len());
    for (number, group) in (1..).zip(&groups) {
        write_group(&mut text, number, group);
    }
    text
}

fn write_group(text: &mut String, number: usize, group: &Group<'_>) {
    if !group.cases.is_empty() {
        let _ =
            writeln!(text, "    KTAP version 1\n    # Subtest: {}\n    1..{}", group.name, group.cases.len());
        for (number, case) in (1..).zip(&group.cases) {
            write_case(text, number, case);
        }
    }
    let skip = if group.skipped() { " # SKIP everything that was found is suppressed or known" } else { "" };
    let _ = writeln!(text, "{} {number} {}{skip}", ok(group.failed()), group.name);
}

fn write_case(text: &mut String, number: usize, case: &Case<'_>) {
    for line in case.text.lines() {
        let _ = writeln!(text, "    {}", format!("# {}", one_line(line)).trim_end());
    }
    let failed = matches!(case.result, Outcome::Failed(_) | Outcome::Missed(_));
    let _ = write!(text, "    {} {number} {}", ok(failed), name(&case.name));
    if let Outcome::Skipped(why) = &case.result {
        let _ = write!(text, " # SKIP {}", name(why));
    }
    text.push('\n');
}

fn ok(failed: bool) -> &'static str {
    if failed { "not ok" } else { "ok" }
}

/// A `#` would begin a directive.
fn name(text: &str) -> String {
    one_line(text).replace('#', "?")
}

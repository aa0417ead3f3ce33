//! The report for people.

use crate::{Report, Style};

pub(crate) fn render(report: &Report, _style: Style) -> String {
    format!("{} findings, verdict {}\n", report.findings.len(), report.verdict)
}

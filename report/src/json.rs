//! The report as JSON. The document's structure is that of [`crate::Report`]; see docs/findings-json.md.

use crate::Report;

pub(crate) fn render(report: &Report) -> String {
    // Serializing to memory fails only for maps whose keys are no strings, and the report has none.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// An address or an entry's value: JSON's numbers lose the low bits of such.
pub(crate) fn hex(value: u64) -> String {
    format!("{value:#018x}")
}

//! Documents as JSON. The structure of the report's is that of [`crate::Report`]; see docs/findings-json.md.

use serde::Serialize;

pub(crate) fn render(document: &impl Serialize) -> String {
    // Serializing to memory fails only for maps whose keys are no strings, and no document has such.
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// An address or an entry's value: JSON's numbers lose the low bits of such.
pub(crate) fn hex(value: u64) -> String {
    format!("{value:#018x}")
}

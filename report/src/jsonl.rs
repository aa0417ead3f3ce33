//! The JSON report in lines: first everything but the findings, then a line for each finding.
//!
//! Each line is an object with one field, whose name says what it is: `report`, `finding` or `suppressed`.

use serde::Serialize;

use crate::Report;

pub(crate) fn render(report: &Report) -> String {
    let whole = Report { findings: Vec::new(), suppressed: Vec::new(), ..report.clone() };
    let mut head = serde_json::to_value(&whole).unwrap_or_default();
    if let Some(fields) = head.as_object_mut() {
        fields.remove("findings");
    }
    let mut text = line("report", &head);
    for finding in &report.findings {
        text.push_str(&line("finding", finding));
    }
    for suppressed in &report.suppressed {
        text.push_str(&line("suppressed", suppressed));
    }
    text
}

fn line(name: &str, value: &impl Serialize) -> String {
    // As in `json`: this fails only for maps whose keys are no strings.
    let value = serde_json::to_string(value).unwrap_or_default();
    format!("{{\"{name}\":{value}}}\n")
}

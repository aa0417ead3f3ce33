//! The report as workflow commands of GitHub Actions, which shows them as annotations of the source.

use std::fmt::Write as _;

use crate::finding::{Finding, Site};
use crate::{Report, figures};

pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let level = if finding.is_error() && !finding.is_known() { "error" } else { "notice" };
        annotate(&mut text, level, Some(&finding.access), &title(finding), &message(finding));
    }
    for suppressed in &report.suppressed {
        let finding = &suppressed.finding;
        let message = format!("{}\nSuppressed: {}", message(finding), suppressed.why());
        annotate(&mut text, "notice", Some(&finding.access), &title(finding), &message);
    }
    for gone in report.baseline.iter().filter(|baseline| baseline.fixed).flat_map(|baseline| &baseline.gone) {
        let message =
            format!("{}\nFirst seen on {}\nFingerprint {}", gone.what, gone.first_seen, gone.fingerprint);
        annotate(&mut text, "notice", None, &format!("{}: fixed", gone.rule), &message);
    }
    for reason in &report.reasons {
        annotate(&mut text, "warning", None, "lazymmu: not everything was seen", &reason.text);
    }
    text
}

fn title(finding: &Finding) -> String {
    format!("{} in {}", finding.rule, finding.access.function)
}

fn message(finding: &Finding) -> String {
    let mut text = finding.in_words();
    if let Some(write) = &finding.write
        && let Some(place) = place(write)
    {
        let _ = write!(text, "\nWritten at {place}");
    }
    let _ = write!(text, "\nSeen {}, {}", figures::times(finding.count), finding.state);
    let breaks: Vec<_> = finding.profiles.iter().filter(|line| line.breaks).map(|line| &*line.name).collect();
    if !breaks.is_empty() {
        let _ = write!(text, "; breaks on {}", breaks.join(", "));
    }
    let _ = write!(text, "\nFingerprint {}", finding.fingerprint);
    if let Some(baseline) = &finding.baseline {
        let _ = write!(text, "; {}", baseline.words());
    }
    text
}

fn place(site: &Site) -> Option<String> {
    let (file, line) = site.source()?;
    Some(line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}

fn annotate(text: &mut String, level: &str, at: Option<&Site>, title: &str, message: &str) {
    let mut properties = Vec::new();
    if let Some((file, line)) = at.and_then(Site::source) {
        properties.push(format!("file={}", property(file)));
        properties.extend(line.map(|line| format!("line={line}")));
    }
    properties.push(format!("title={}", property(title)));
    let _ = writeln!(text, "::{level} {}::{}", properties.join(","), data(message));
}

/// As @actions/core escapes the text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As it escapes the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_gives_a_meaning_is_escaped() {
        assert_eq!(data("50%\r\nnext"), "50%25%0D%0Anext");
        assert_eq!(property("a:b,c\n::error::"), "a%3Ab%2Cc%0A%3A%3Aerror%3A%3A");
    }
}

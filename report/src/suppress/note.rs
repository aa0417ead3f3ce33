//! What a report says of suppressions.

use lazymmu_hazard::Outcome;
use lazymmu_trace::Symbols;
use serde::Serialize;

use super::{Applied, Entry, Suppressions};
use crate::finding::Finding;
use crate::pte::PteLayout;
use crate::stack::Names;
use crate::style::Role;
use crate::text::Text;
use crate::wrap::wrap;
use crate::{Report, figures};

/// A finding that does not count, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suppressed {
    /// The entries that match it.
    pub by: Vec<EntryNote>,
    /// The finding.
    pub finding: Finding,
}

/// What a report says of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryNote {
    /// Its file, as the user named it; `built in` for those that come with lazymmu.
    pub file: String,
    /// The line where it begins, from 1.
    pub line: usize,
    /// The reason that it gives.
    pub reason: String,
    /// The first day on which it does not suppress any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// Entries that did nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SuppressionsNote {
    /// Those of the user that match no hazard.
    pub unused: Vec<EntryNote>,
    /// Those that have expired, and do not suppress any more.
    pub expired: Vec<EntryNote>,
}

impl Suppressed {
    /// The reasons of all entries.
    pub(crate) fn why(&self) -> String {
        self.by.iter().map(|by| by.reason.as_str()).collect::<Vec<_>>().join("; ")
    }
}

impl From<&Entry> for EntryNote {
    fn from(entry: &Entry) -> Self {
        let Entry { file, line, reason, expires, .. } = entry.clone();
        Self { file, line, reason, expires: expires.map(|date| date.to_string()) }
    }
}

impl Suppressions {
    fn notes(&self, numbers: &[usize]) -> Vec<EntryNote> {
        numbers.iter().filter_map(|number| self.entries.get(*number)).map(EntryNote::from).collect()
    }

    pub(crate) fn findings(
        &self,
        applied: &Applied,
        symbols: &Symbols,
        layout: PteLayout,
    ) -> Vec<Suppressed> {
        let mut findings = Vec::new();
        for (by, hazards) in &applied.hazards {
            let outcome = Outcome { occurrences: hazards.clone(), ..Outcome::default() };
            for class in outcome.classes(&Names(symbols)) {
                let finding = Finding::new(&class, symbols, layout);
                findings.push(Suppressed { by: self.notes(by), finding });
            }
        }
        findings.sort_by_cached_key(|Suppressed { by, finding }| {
            (
                finding.rule.clone(),
                finding.fingerprint.clone(),
                by.first().map(|by| (by.file.clone(), by.line)),
            )
        });
        findings
    }

    pub(crate) fn idle(&self, applied: &Applied, filtered: bool) -> Option<SuppressionsNote> {
        // What matches nothing that a filter selects may match something else.
        let unused = if filtered { Vec::new() } else { self.notes(&applied.unused) };
        let note = SuppressionsNote { unused, expired: self.notes(&applied.expired) };
        (note != SuppressionsNote::default()).then_some(note)
    }
}

/// The part of the text that tells what was suppressed.
pub(crate) fn write(report: &Report, text: &mut Text) {
    if !report.suppressed.is_empty() {
        let title = text.paint(Role::Title, "Suppressed:");
        text.line(&title);
        for Suppressed { by, finding } in &report.suppressed {
            let rule = text.paint(Role::Name, &finding.rule);
            text.line(&format!(" {rule}: {}, seen {}", finding.in_words(), figures::times(finding.count)));
            for entry in by {
                lines(text, &format!("{}:{}: {}", entry.file, entry.line, entry.reason), 4);
            }
        }
        text.line("");
    }
    let Some(note) = &report.suppressions else { return };
    for (title, entries) in [
        ("Suppressions that match nothing:", &note.unused),
        ("Suppressions that have expired, and suppress nothing any more:", &note.expired),
    ] {
        if entries.is_empty() {
            continue;
        }
        let title = text.paint(Role::Doubt, title);
        text.line(&title);
        for EntryNote { file, line, reason, expires } in entries {
            let expires = expires.as_ref().map_or_else(String::new, |date| format!(" (expires {date})"));
            lines(text, &format!("{file}:{line}: {reason}{expires}"), 4);
        }
        text.line("");
    }
}

fn lines(text: &mut Text, words: &str, indent: usize) {
    for line in wrap(words, indent) {
        text.line(&line);
    }
}

//! Where the engine is broken, and how.
//!
//! A mutant replaces one piece of text. The places are found by the way in which the tables and the rules are written, so
//! a new row or a new rule is a new mutant by itself.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One break.
#[derive(Debug)]
pub(super) struct Mutant {
    /// Below the root.
    pub(super) file: PathBuf,
    line: usize,
    at: usize,
    from: &'static str,
    to: &'static str,
    what: &'static str,
}

impl Mutant {
    /// The file's text with the break in it.
    pub(super) fn applied_to(&self, text: &str) -> String {
        let (before, after) = text.split_at(self.at);
        format!("{before}{}{}", self.to, &after[self.from.len()..])
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, from, to, what, .. } = self;
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{}:{line}: {what}, `{}` for `{}`", file.display(), one_line(to), one_line(from))
    }
}

/// A text, what replaces it, and what that breaks.
type Break = (&'static str, &'static str, &'static str);

/// What a row of a table says of its operations, each replaced by the likeliest mistake.
const ROWS: &[Break] = &[
    ("does: Does::Queues", "does: Does::AtOnce", "row"),
    ("does: Does::AtOnce", "does: Does::Queues", "row"),
    ("does: Does::AtOnce", "does: Does::InOrder", "row"),
    ("does: Does::FlushesFirst", "does: Does::AtOnce", "row"),
    ("does: Does::ReadsMemory", "does: Does::InOrder", "row"),
    ("does: Does::InOrder", "does: Does::ReadsMemory", "row"),
    ("does: Does::Nothing", "does: Does::AtOnce", "row"),
];

/// What empties a queue.
const FLUSHES: &[Break] = &[
    // No configuration has it.
    ("FlushRow {\n", "#[cfg(any())]\nFlushRow {\n", "flush row dropped"),
    ("on: FlushOn::BatchFull", "on: FlushOn::ContextSwitch", "flush row changed"),
    ("on: FlushOn::ContextSwitch", "on: FlushOn::BatchFull", "flush row changed"),
];

/// What a rule asks.
const RULES: &[Break] = &[
    (" -> ProfileMask {\n", " -> ProfileMask {\n    return ProfileMask::NONE;\n", "rule dropped"),
    (" -> Option<Breach> {\n", " -> Option<Breach> {\n    return None;\n", "rule dropped"),
    (" == ", " != ", "condition negated"),
    (" != ", " == ", "condition negated"),
    (" && ", " || ", "condition loosened"),
    (" || ", " && ", "condition tightened"),
    ("!encounter.", "encounter.", "condition negated"),
    (".and(", ".or(", "profiles"),
    (".without(", ".or(", "profiles"),
];

/// Every mutant of the checkout, in the order of the files.
pub(super) fn all(root: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for file in ["hazard/src/profile/table.rs", "hazard/src/profile/arches.rs"] {
        let text = read(root, file)?;
        let end = text.find("#[cfg(test)]").unwrap_or(text.len());
        collect(&mut mutants, file, &text, 0..end, ROWS);
        collect(&mut mutants, file, &text, 0..end, FLUSHES);
    }
    let mut rules: Vec<PathBuf> = std::fs::read_dir(root.join("hazard/src/rules"))
        .context("failed to list the rules")?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    rules.sort();
    for path in rules {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file = format!("hazard/src/rules/{name}");
        let text = read(root, &file)?;
        // The check stands before the rule's text.
        let Some(end) = text.find("pub(super) static INFO") else { continue };
        collect(&mut mutants, &file, &text, 0..end, RULES);
    }
    if mutants.is_empty() {
        bail!("failed to find anything to break: the tables and rules are written in another way now");
    }
    mutants.sort_by(|left, right| (&left.file, left.at).cmp(&(&right.file, right.at)));
    Ok(mutants)
}

fn read(root: &Path, file: &str) -> Result<String> {
    std::fs::read_to_string(root.join(file)).with_context(|| format!("failed to read {file}"))
}

/// The places in that part of the text, outside of comments.
fn collect(mutants: &mut Vec<Mutant>, file: &str, text: &str, part: Range<usize>, breaks: &[Break]) {
    for (from, to, what) in breaks {
        for (at, _) in text[part.clone()].match_indices(from) {
            let at = part.start + at;
            let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            if text[begin..at].contains("//") {
                continue;
            }
            let line = 1 + text[..at].matches('\n').count();
            mutants.push(Mutant { file: file.into(), line, at, from, to, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_is_one_place_outside_of_comments() {
        let text = "// a == b\nif a == b && c == d {}\n";
        let mut mutants = Vec::new();
        collect(&mut mutants, "x.rs", text, 0..text.len(), RULES);
        let broken: Vec<_> = mutants.iter().map(|mutant| mutant.applied_to(text)).collect();
        assert_eq!(
            broken,
            [
                "// a == b\nif a != b && c == d {}\n",
                "// a == b\nif a == b && c != d {}\n",
                "// a == b\nif a == b || c == d {}\n",
            ]
        );
        assert_eq!(mutants[0].line, 2);
    }

    #[test]
    fn every_rule_and_every_table_has_its_mutants() {
        let mutants = all(crate::paths::root()).unwrap();
        let of = |what: &str, file: &str| {
            mutants.iter().filter(|mutant| mutant.what == what && mutant.file.ends_with(file)).count()
        };
        assert!(of("row", "profile/arches.rs") > 15 && of("row", "profile/table.rs") > 3);
        assert!(of("rule dropped", "rules/read_pending.rs") == 1);
        assert!(of("rule dropped", "rules/rmw_pending.rs") == 1);
    }
}

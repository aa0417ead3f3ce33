//! Suppressions: hazards that someone has looked at and found to be none, each with the reason.
//!
//! A suppressed hazard does not count for the verdict, but stays in the report, in a part of its own. Entries that
//! match nothing any more, and entries that have expired, are reported too. `docs/suppressions.md` describes the
//! files. `file` reads them, `frames` matches call stacks, [`Date`] is the only time here: whoever calls says what day
//! it is.

mod date;
mod file;
mod frames;
mod note;

pub use date::Date;
pub use file::SuppressionError;
pub use note::{EntryNote, Suppressed, SuppressionsNote};

pub(crate) use note::write;

use lazymmu_hazard::profile::ProfileMask;
use lazymmu_hazard::rules::RULES;
use lazymmu_hazard::{Occurrence, Outcome, Place, StackId};
use lazymmu_trace::Symbols;

use crate::glob::Glob;
use crate::stack;
use frames::Pattern;

/// The name under which reports speak of the entries that come with lazymmu.
const SHIPPED_NAME: &str = "built in";
const SHIPPED: &str = include_str!("default.toml");

/// Every entry of every file, in their order.
#[derive(Clone, Debug, Default)]
pub struct Suppressions {
    entries: Vec<Entry>,
}

/// One entry: what it matches and why that is no hazard.
#[derive(Clone, Debug)]
struct Entry {
    file: String,
    /// From 1.
    line: usize,
    rule: Option<Glob>,
    /// Matches any of the three stacks.
    stack: Option<Pattern>,
    write_stack: Option<Pattern>,
    access_stack: Option<Pattern>,
    opener_stack: Option<Pattern>,
    source: Option<Glob>,
    /// The profiles that it speaks for.
    profiles: ProfileMask,
    reason: String,
    expires: Option<Date>,
    /// It came with lazymmu: that it matches nothing is no news.
    shipped: bool,
}

/// Names a rule that this version does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRule {
    /// The file of the entry.
    pub file: String,
    /// The line of the entry, from 1.
    pub line: usize,
    /// The name.
    pub name: String,
}

/// What was suppressed, and what else is to be said of the entries.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Hazards, with the numbers of the entries that suppress them.
    hazards: Vec<(Vec<usize>, Vec<Occurrence>)>,
    unused: Vec<usize>,
    expired: Vec<usize>,
}

impl Suppressions {
    /// No entries at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those that come with lazymmu.
    #[must_use]
    pub fn shipped() -> Self {
        // A test reads this file: it has no errors.
        let mut entries = file::entries(SHIPPED_NAME, SHIPPED).unwrap_or_default();
        for entry in &mut entries {
            entry.shipped = true;
        }
        Self { entries }
    }

    /// Adds the entries of a file. The name is for reports and messages.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), SuppressionError> {
        self.entries.extend(file::entries(name, text)?);
        Ok(())
    }

    /// Entries of the user that name a rule which this version does not have.
    #[must_use]
    pub fn unknown_rules(&self) -> Vec<UnknownRule> {
        let unknown = |entry: &Entry| {
            let rule = entry.rule.as_ref().filter(|_| !entry.shipped)?;
            let known = RULES.iter().any(|known| rule.matches(known.info.name));
            let Entry { file, line, .. } = entry.clone();
            (!known).then(|| UnknownRule { file, line, name: rule.to_string() })
        };
        self.entries.iter().filter_map(unknown).collect()
    }

    /// Takes the suppressed hazards out of the outcome. `today` decides what has expired.
    pub fn apply(&self, outcome: &mut Outcome, symbols: &Symbols, today: Date) -> Applied {
        let expired = |entry: &Entry| entry.expires.is_some_and(|expires| expires <= today);
        let mut used = vec![false; self.entries.len()];
        let mut applied = Applied::default();
        outcome.occurrences.retain(|occurrence| {
            let fits = |entry: &Entry| !expired(entry) && entry.matches(&occurrence.place, symbols);
            let by: Vec<_> = (0..).zip(&self.entries).filter(|(_, entry)| fits(entry)).collect();
            for (number, _) in &by {
                used[*number] = true;
            }
            let covered = by.iter().fold(ProfileMask::NONE, |all, (_, entry)| all.or(entry.profiles));
            let suppressed = !by.is_empty() && occurrence.breaks.without(covered).is_empty();
            if suppressed {
                let by: Vec<usize> = by.into_iter().map(|(number, _)| number).collect();
                match applied.hazards.iter_mut().find(|(other, _)| *other == by) {
                    Some((_, hazards)) => hazards.push(occurrence.clone()),
                    None => applied.hazards.push((by, vec![occurrence.clone()])),
                }
            }
            !suppressed
        });
        for (number, entry) in self.entries.iter().enumerate() {
            if expired(entry) {
                applied.expired.push(number);
            } else if !used[number] && !entry.shipped {
                applied.unused.push(number);
            }
        }
        applied
    }
}

impl Entry {
    fn matches(&self, place: &Place, symbols: &Symbols) -> bool {
        let rule = self.rule.as_ref().is_none_or(|rule| rule.matches(place.rule.info().name));
        let on = |pattern: &Option<Pattern>, stacks: &[Option<StackId>]| {
            pattern.as_ref().is_none_or(|pattern| {
                stacks.iter().flatten().any(|stack| pattern.matches(&stack::frames(symbols, *stack)))
            })
        };
        rule && on(&self.stack, &[place.write, Some(place.access), place.opener])
            && on(&self.write_stack, &[place.write])
            && on(&self.access_stack, &[Some(place.access)])
            && on(&self.opener_stack, &[place.opener])
            && self.source.as_ref().is_none_or(|source| {
                [place.write, Some(place.access)]
                    .into_iter()
                    .flatten()
                    .any(|stack| in_file(source, stack, symbols))
            })
    }
}

/// Whether the innermost function of the stack is in a source file that fits.
fn in_file(source: &Glob, stack: StackId, symbols: &Symbols) -> bool {
    let file = symbols.frames(stack.0).next().and_then(|frame| frame.file.as_deref());
    file.is_some_and(|file| source.matches(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_has_no_errors() {
        let entries = file::entries(SHIPPED_NAME, SHIPPED);
        assert!(entries.is_ok(), "{entries:?}");
        assert_eq!(Suppressions::shipped().entries.len(), 1);
        assert_eq!(Suppressions::shipped().unknown_rules(), []);
    }
}

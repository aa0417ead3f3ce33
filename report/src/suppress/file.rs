//! Reads a file of suppressions. Every error says the line and what is expected there.

use std::ops::Range;

use lazymmu_hazard::profile::{PROFILES, ProfileMask};
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::frames::Pattern;
use super::{Date, Entry};
use crate::glob::Glob;

/// What is wrong with a file of suppressions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use the suppressions in {file}, line {line}: {what}")]
pub struct SuppressionError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    suppress: Vec<Spanned<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawEntry {
    rule: Option<Spanned<String>>,
    stack: Option<Spanned<Vec<String>>>,
    write_stack: Option<Spanned<Vec<String>>>,
    access_stack: Option<Spanned<Vec<String>>>,
    opener_stack: Option<Spanned<Vec<String>>>,
    source: Option<Spanned<String>>,
    profile: Option<Spanned<Profiles>>,
    reason: Option<Spanned<String>>,
    expires: Option<Spanned<Datetime>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a profile's name, or a list of such")]
enum Profiles {
    One(String),
    Several(Vec<String>),
}

/// Every entry of a file.
pub(super) fn entries(file: &str, text: &str) -> Result<Vec<Entry>, SuppressionError> {
    let place = Place { file, text };
    let raw: RawFile = toml::from_str(text)
        .map_err(|error| place.error(&error.span().unwrap_or_default(), error.message()))?;
    raw.suppress.into_iter().map(|entry| place.entry(entry)).collect()
}

struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, at: &Range<usize>, what: impl Into<String>) -> SuppressionError {
        let what = what.into().replace('\n', ", ");
        SuppressionError { file: self.file.to_owned(), line: self.line(at), what }
    }

    fn line(&self, at: &Range<usize>) -> usize {
        self.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1
    }

    fn entry(&self, entry: Spanned<RawEntry>) -> Result<Entry, SuppressionError> {
        let whole = entry.span();
        let raw = entry.into_inner();
        let reason = match raw.reason {
            Some(reason) if !reason.get_ref().trim().is_empty() => reason.into_inner(),
            Some(reason) => {
                return Err(self.error(&reason.span(), "the reason is empty: say why this is no hazard"));
            }
            None => {
                return Err(self.error(&whole, "`reason` is missing: each entry says why this is no hazard"));
            }
        };
        let entry = Entry {
            file: self.file.to_owned(),
            line: self.line(&whole),
            rule: self.glob("rule", raw.rule)?,
            stack: self.pattern("stack", raw.stack)?,
            write_stack: self.pattern("write-stack", raw.write_stack)?,
            access_stack: self.pattern("access-stack", raw.access_stack)?,
            opener_stack: self.pattern("opener-stack", raw.opener_stack)?,
            source: self.glob("source", raw.source)?,
            profiles: self.profiles(raw.profile)?,
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
            expires: self.date(raw.expires)?,
            shipped: false,
        };
        let narrow = entry.rule.is_some()
            || entry.source.is_some()
            || [&entry.stack, &entry.write_stack, &entry.access_stack, &entry.opener_stack]
                .iter()
                .any(|pattern| pattern.is_some());
        if !narrow {
            let what = "the entry would suppress everything: give it a `rule`, a `stack` (or `write-stack`, \
                        `access-stack`, `opener-stack`) or a `source`";
            return Err(self.error(&whole, what));
        }
        Ok(entry)
    }

    fn glob(&self, key: &str, value: Option<Spanned<String>>) -> Result<Option<Glob>, SuppressionError> {
        match value {
            Some(value) if value.get_ref().is_empty() => {
                Err(self.error(&value.span(), format!("`{key}` is empty: expected a name, perhaps with `*`")))
            }
            value => Ok(value.map(|value| Glob::new(value.into_inner()))),
        }
    }

    fn pattern(
        &self,
        key: &str,
        value: Option<Spanned<Vec<String>>>,
    ) -> Result<Option<Pattern>, SuppressionError> {
        let Some(value) = value else { return Ok(None) };
        let pattern = Pattern::new(value.get_ref()).ok_or_else(|| {
            let what = format!(
                "`{key}` names no function: expected a list such as [\"copy_page_range\", \"*\", \"dup_mmap\"]"
            );
            self.error(&value.span(), what)
        });
        pattern.map(Some)
    }

    fn profiles(&self, value: Option<Spanned<Profiles>>) -> Result<ProfileMask, SuppressionError> {
        let Some(value) = value else { return Ok(ProfileMask::ALL) };
        let span = value.span();
        let names = match value.into_inner() {
            Profiles::One(name) => vec![name],
            Profiles::Several(names) => names,
        };
        if names.is_empty() {
            return Err(self.error(&span, "`profile` names none: leave it out to speak for all"));
        }
        names.iter().try_fold(ProfileMask::NONE, |mask, name| {
            let profile = PROFILES.iter().find(|profile| profile.name == name);
            let known = || PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ");
            match profile {
                Some(profile) => Ok(mask.with(profile.id)),
                None => {
                    Err(self.error(&span, format!("there is no profile {name}: expected one of {}", known())))
                }
            }
        })
    }

    fn date(&self, value: Option<Spanned<Datetime>>) -> Result<Option<Date>, SuppressionError> {
        let Some(value) = value else { return Ok(None) };
        let span = value.span();
        match value.into_inner() {
            Datetime { date: Some(date), time: None, offset: None } => {
                let date = Date::new(i64::from(date.year), date.month, date.day);
                let date = date.ok_or_else(|| self.error(&span, "`expires` is no day of the calendar"));
                date.map(Some)
            }
            _ => {
                Err(self
                    .error(&span, "`expires` is no date: expected one such as 2027-01-31, without quotes"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        entries("a.toml", text).map(|entries| entries.len()).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_entry() {
        let text = r#"
            # A comment.
            [[suppress]]
            rule = "read-pending"
            stack = ["copy_page_range", "*", "dup_mmap"]
            write-stack = ["a"]
            access-stack = ["b"]
            opener-stack = ["c"]
            source = "mm/*.c"
            profile = ["xen-pv", "s390"]
            reason = """
                Two lines
                of reason."""
            expires = 2027-01-31
            [[suppress]]
            rule = "*"
            profile = "arm64"
            reason = "r"
        "#;
        let entries = entries("a.toml", text).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].line, entries[1].line), (3, 15));
        assert_eq!(entries[0].reason, "Two lines of reason.");
        assert_eq!(entries[0].expires, Date::new(2027, 1, 31));
        assert!(super::entries("empty.toml", "# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line_and_what_is_expected() {
        let entry = |rest: &str| format!("\n[[suppress]]\nreason = \"r\"\n{rest}\n");
        let table = [
            (
                "\n[[suppress]]\nrule = \"x\"\n".to_owned(),
                2,
                "`reason` is missing: each entry says why this is no hazard",
            ),
            (
                "[[suppress]]\nrule = \"x\"\nreason = \" \"".to_owned(),
                3,
                "the reason is empty: say why this is no hazard",
            ),
            (
                entry(""),
                2,
                "the entry would suppress everything: give it a `rule`, a `stack` (or `write-stack`, `access-stack`, `opener-stack`) or a `source`",
            ),
            (entry("rule = 5"), 4, "invalid type: integer `5`, expected a string"),
            (entry("rule = \"\""), 4, "`rule` is empty: expected a name, perhaps with `*`"),
            (
                entry("stack = [\"*\"]"),
                4,
                "`stack` names no function: expected a list such as [\"copy_page_range\", \"*\", \"dup_mmap\"]",
            ),
            (entry("stack = \"a\""), 4, "invalid type: string \"a\", expected a sequence"),
            (
                entry("rule = \"x\"\nprofile = \"s391\""),
                5,
                "there is no profile s391: expected one of strict, xen-pv, s390, powerpc-hash, sparc64, arm64",
            ),
            (entry("rule = \"x\"\nprofile = []"), 5, "`profile` names none: leave it out to speak for all"),
            (entry("rule = \"x\"\nprofile = 5"), 5, "expected a profile's name, or a list of such"),
            (
                entry("rule = \"x\"\nexpires = 2027-01-01T00:00:00Z"),
                5,
                "`expires` is no date: expected one such as 2027-01-31, without quotes",
            ),
            (
                entry("rule = \"x\"\nexpires = \"2027-01-01\""),
                5,
                "invalid type: string \"2027-01-01\", expected a TOML datetime",
            ),
            (
                entry("ruel = \"x\""),
                4,
                "unknown field `ruel`, expected one of `rule`, `stack`, `write-stack`, `access-stack`, `opener-stack`, `source`, `profile`, `reason`, `expires`",
            ),
            ("[[supress]]\n".to_owned(), 1, "unknown field `supress`, expected `suppress`"),
        ];
        for (text, line, what) in table {
            let expected = format!("use the suppressions in a.toml, line {line}: {what}");
            assert_eq!(error(&text), expected, "{text}");
        }
        let broken = error("[[suppress]]\nrule = \n");
        assert!(broken.starts_with("use the suppressions in a.toml, line 2: "), "{broken}");
    }
}

//! Baselines: the hazards that are known, so that a run tells what is new and what is gone.
//!
//! A hazard is known by its fingerprint. Unlike a suppression, which says that something is no hazard, a baseline says
//! only that it was seen before. `docs/baseline.md` describes the file.

use std::collections::BTreeMap;

use lazymmu_hazard::Verdict;
use serde::{Deserialize, Serialize};

use crate::Report;
use crate::finding::Finding;
use crate::words::Word;

/// The version of the file that this code reads and writes.
const VERSION: u32 = 1;

const HEADING: &str = "# Hazards that are known to lazymmu. Notes may be written here; the rest is written by --update-baseline,\n\
                       # which keeps no other comments.\n";

/// The hazards that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    known: BTreeMap<String, Known>,
}

/// One hazard that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Known {
    /// As in the report.
    pub fingerprint: String,
    /// The rule that is broken.
    pub rule: String,
    /// What happens where, for who reads the file.
    pub what: String,
    /// The release of the kernel on which it was first seen.
    pub first_seen: String,
    /// What there is to say of it.
    #[serde(default)]
    pub note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    known: Vec<Known>,
}

/// Why a baseline cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is not what it should be.
    #[error("use the baseline {name}: {error}")]
    Bad {
        /// Its name.
        name: String,
        /// What is wrong.
        error: Box<toml::de::Error>,
    },
    /// It was written by a later version.
    #[error("use the baseline {name}: its version is {version}, and this lazymmu knows {VERSION}")]
    Version {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// A hazard is there twice.
    #[error("use the baseline {name}: it has the fingerprint {fingerprint} twice")]
    Twice {
        /// Its name.
        name: String,
        /// The fingerprint.
        fingerprint: String,
    },
}

/// What a finding is to the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineState {
    /// `new` or `known`.
    pub state: Word,
    /// The release of the kernel on which it was first seen, if it is known.
    pub first_seen: Option<String>,
    /// What the baseline says of it.
    pub note: Option<String>,
}

/// What a report says of the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BaselineNote {
    /// The verdict over what is new: `clean`, `hazards` or `inconclusive`.
    pub verdict: &'static str,
    /// How many hazards are new.
    pub new: usize,
    /// How many are known.
    pub known: usize,
    /// Those that are known and were not seen.
    pub gone: Vec<Gone>,
    /// Whether what was not seen counts as fixed: everything was seen, and nothing was filtered.
    pub fixed: bool,
}

/// A hazard that is known and was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Its fingerprint.
    pub fingerprint: String,
    /// The rule.
    pub rule: String,
    /// What happened where.
    pub what: String,
    /// The release of the kernel on which it was first seen.
    pub first_seen: String,
    /// What the baseline says of it.
    pub note: Option<String>,
}

impl Baseline {
    /// Reads a file; `name` is for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, BaselineError> {
        let name = || name.to_owned();
        let bad = |error| BaselineError::Bad { name: name(), error: Box::new(error) };
        let File { version, known } = toml::from_str(text).map_err(bad)?;
        if version != VERSION {
            return Err(BaselineError::Version { name: name(), version });
        }
        let mut this = Self::default();
        for known in known {
            let fingerprint = known.fingerprint.clone();
            if this.known.insert(fingerprint.clone(), known).is_some() {
                return Err(BaselineError::Twice { name: name(), fingerprint });
            }
        }
        Ok(this)
    }

    /// The file, ordered by rule and fingerprint.
    #[must_use]
    pub fn text(&self) -> String {
        let mut known: Vec<_> = self.known.values().cloned().collect();
        known.sort_by(|a, b| (&a.rule, &a.fingerprint).cmp(&(&b.rule, &b.fingerprint)));
        // Numbers and text can always be written.
        let body = toml::to_string(&File { version: VERSION, known }).unwrap_or_default();
        format!("{HEADING}{body}")
    }

    /// The baseline after this report: what is new comes in. What was not seen goes, if it counts as fixed: should it
    /// come back, it is new again.
    #[must_use]
    pub fn updated(&self, report: &Report) -> Self {
        let mut next = Self::default();
        let kept = |known: &&Known| !is_complete(report) || hidden(report, &known.fingerprint);
        for known in self.known.values().filter(kept) {
            next.known.insert(known.fingerprint.clone(), known.clone());
        }
        for finding in report.findings.iter().filter(|finding| finding.is_error()) {
            let known = self.known.get(&finding.fingerprint).cloned().unwrap_or_else(|| Known {
                fingerprint: finding.fingerprint.clone(),
                rule: finding.rule.to_string(),
                what: finding.in_words(),
                first_seen: report.target.release.clone(),
                note: String::new(),
            });
            next.known.insert(finding.fingerprint.clone(), known);
        }
        next
    }

    /// Marks the findings of a report, and says what is gone.
    pub fn apply(&self, report: &mut Report) {
        let (mut new, mut known) = (0, 0);
        for finding in report.findings.iter_mut().filter(|finding| finding.is_error()) {
            let entry = self.known.get(&finding.fingerprint);
            *(if entry.is_some() { &mut known } else { &mut new }) += 1;
            finding.baseline = Some(BaselineState {
                state: if entry.is_some() { "known" } else { "new" }.into(),
                first_seen: entry.map(|entry| entry.first_seen.clone()),
                note: entry.and_then(Known::note),
            });
        }
        let seen =
            |fingerprint: &String| report.findings.iter().any(|finding| finding.fingerprint == *fingerprint);
        let gone = self
            .known
            .values()
            .filter(|known| !seen(&known.fingerprint) && !hidden(report, &known.fingerprint));
        let verdict = match (new, report.reasons.is_empty()) {
            (0, true) => Verdict::Clean,
            (0, false) => Verdict::Inconclusive,
            _ => Verdict::Hazards,
        };
        let gone = gone.map(Gone::from).collect();
        let verdict = verdict.name();
        report.baseline = Some(BaselineNote { verdict, new, known, gone, fixed: is_complete(report) });
    }
}

/// Whether what is not in the report was not there.
fn is_complete(report: &Report) -> bool {
    report.reasons.is_empty() && report.filter.is_none()
}

/// Whether it was seen, and somebody said that it is none.
fn hidden(report: &Report, fingerprint: &str) -> bool {
    report.suppressed.iter().any(|entry| entry.finding.fingerprint == fingerprint)
}

impl Known {
    fn note(&self) -> Option<String> {
        (!self.note.is_empty()).then(|| self.note.clone())
    }
}

impl From<&Known> for Gone {
    fn from(known: &Known) -> Self {
        let Known { fingerprint, rule, what, first_seen, .. } = known.clone();
        Self { fingerprint, rule, what, first_seen, note: known.note() }
    }
}

impl BaselineState {
    /// Whether it was seen before.
    pub(crate) fn is_known(&self) -> bool {
        self.state == "known"
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        match (&self.first_seen, &self.note) {
            (None, _) => "new: not in the baseline".to_owned(),
            (Some(release), None) => format!("known since {release}"),
            (Some(release), Some(note)) => format!("known since {release}: {note}"),
        }
    }
}

impl Finding {
    /// Whether the baseline has it.
    pub(crate) fn is_known(&self) -> bool {
        self.baseline.as_ref().is_some_and(BaselineState::is_known)
    }
}

impl BaselineNote {
    /// What became of those that were not seen.
    pub(crate) fn gone_word(&self) -> &'static str {
        if self.fixed { "fixed" } else { "not seen" }
    }

    /// In one line.
    pub(crate) fn words(&self) -> String {
        format!("{} new, {} known, {} {}", self.new, self.known, self.gone.len(), self.gone_word())
    }
}

//! What the engine has to say at the end: findings, counts, and whether the silence can be trusted.

use std::collections::BTreeMap;
use std::fmt;

use lazymmu_abi::Kind;

use crate::class::{Class, StackNames};
use crate::occurrence::Occurrence;
use crate::rules::Severity;
use crate::statistics::Statistics;
use crate::types::CpuId;

/// The verdict. What it depends on is in [`Outcome::reasons`], whatever the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No hazard, and nothing was missed.
    Clean,
    /// At least one hazard. That something was missed as well does not change it.
    Hazards,
    /// No hazard was seen, but one may have been missed.
    Inconclusive,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Hazards => "hazards",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Something that whoever feeds the engine knows to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gap {
    /// Records in the middle of the trace could not be read.
    Damaged,
    /// The end of the trace could not be read, or was never written.
    CutOff,
    /// Accesses that matter are not hooked on this kernel.
    Coverage,
}

/// Why a hazard may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Records were lost between the kernel and here.
    Lost(u64),
    /// Records were lost, nobody knows how many, this many times.
    LostUncounted(u64),
    /// See [`Gap`].
    Gap(Gap),
    /// Deferrable writes that were not watched because the table of pending entries was full.
    TableFull(u64),
    /// Records that this version does not understand.
    Unknown(u64),
    /// Times that a task's counters told of mode calls that no record told of.
    Resynced(u64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(1) => write!(f, "1 record was lost"),
            Self::Lost(count) => write!(f, "{count} records were lost"),
            Self::LostUncounted(1) => write!(f, "records may be missing at one place, how many is not known"),
            Self::LostUncounted(places) => {
                write!(f, "records may be missing at {places} places, how many is not known")
            }
            Self::Gap(Gap::Damaged) => write!(f, "a part of the trace is damaged"),
            Self::Gap(Gap::CutOff) => write!(f, "the end of the trace is missing"),
            Self::Gap(Gap::Coverage) => write!(f, "not every access can be seen on this kernel"),
            Self::TableFull(1) => {
                write!(f, "1 write was not watched, because too many were pending at that time")
            }
            Self::TableFull(count) => {
                write!(f, "{count} writes were not watched, because too many were pending at that time")
            }
            Self::Unknown(1) => write!(f, "1 record is of a kind that this version does not know"),
            Self::Unknown(count) => {
                write!(f, "{count} records are of a kind that this version does not know")
            }
            Self::Resynced(1) => write!(f, "a task's counters told of mode calls that were never recorded"),
            Self::Resynced(count) => {
                write!(f, "{count} times a task's counters told of mode calls that were never recorded")
            }
        }
    }
}

/// Records that never arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// By kind; `None` where that is not known.
    pub by_kind: BTreeMap<Option<Kind>, u64>,
    /// By CPU; `None` where that is not known.
    pub by_cpu: BTreeMap<Option<CpuId>, u64>,
    /// Losses of which the number is not known. They are not in the other counts.
    pub uncounted: u64,
}

impl Losses {
    /// All that were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_kind.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Those without which a hazard may have been missed. A call stack or a name only makes a report poorer.
    #[must_use]
    pub fn that_matter(&self) -> u64 {
        let matters = |kind: &Option<Kind>| !matches!(kind, Some(Kind::Stack | Kind::TaskName));
        let counts = self.by_kind.iter().filter(|(kind, _)| matters(kind));
        counts.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// What the engine has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Every place at which a rule was broken, in the order in which each was first seen.
    pub occurrences: Vec<Occurrence>,
    /// Counts.
    pub statistics: Statistics,
    /// Records that never arrived.
    pub losses: Losses,
    /// What else is known to be missing.
    pub gaps: Vec<Gap>,
}

impl Outcome {
    /// The findings grouped for people, in an order that depends on nothing but the findings.
    #[must_use]
    pub fn classes(&self, names: &dyn StackNames) -> Vec<Class> {
        Class::group(&self.occurrences, names)
    }

    /// Why a hazard may have been missed, in a fixed order. Empty if nothing is known to be missing.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let counts = [
            (self.losses.that_matter(), Reason::Lost as fn(u64) -> Reason),
            (self.losses.uncounted, Reason::LostUncounted),
            (self.statistics.untracked, Reason::TableFull),
            (self.statistics.unknown, Reason::Unknown),
            (self.statistics.resynced, Reason::Resynced),
        ];
        let counted = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, reason)| reason(count));
        let mut reasons: Vec<_> = counted.chain(self.gaps.iter().map(|gap| Reason::Gap(*gap))).collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// The verdict: hazards, else what is missing, else clean.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let error = |occurrence: &Occurrence| occurrence.place.rule.info().severity == Severity::Error;
        if self.occurrences.iter().any(error) {
            Verdict::Hazards
        } else if self.reasons().is_empty() {
            Verdict::Clean
        } else {
            Verdict::Inconclusive
        }
    }
}

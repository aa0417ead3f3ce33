//! What goes on: findings in short, and how the capture is doing.

use std::collections::BTreeMap;

use lazymmu_report::batches::Batches;
use lazymmu_report::{Finding, Losses, Reason, Records, Sections, Site, Word};
use serde::{Deserialize, Serialize};

/// A finding in short: all hazards in which the same rule was broken by the same functions.
///
/// Times are ns since the first record, as in reports.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Class {
    /// Its fingerprint: the same for the same bug in every trace. 16 hexadecimal digits.
    pub id: String,
    /// The rule that is broken.
    pub rule: Word,
    /// `error` or `advice`.
    pub severity: Word,
    /// What happened, in words.
    pub title: Word,
    /// What exactly is wrong, where it is no access that meets a pending write.
    pub what: Option<Word>,
    /// `latent` or `proven`.
    pub state: Word,
    /// How many hazards.
    pub count: u64,
    /// In how many of them the values differed.
    pub proven: u64,
    /// On how many different call paths.
    pub paths: usize,
    /// The level of the entry: `pte`, `pmd` and so on.
    pub level: Option<Word>,
    /// The profiles on which the code is wrong.
    pub breaks: Vec<Word>,
    /// Hazards in each of the last seconds, the mean of them.
    pub per_second: f64,
    /// When the first was seen.
    pub first_ns: u64,
    /// When the last was seen, to a fraction of a second.
    pub last_ns: u64,
    /// Who wrote the entry; nothing if it is about no pending write.
    pub write: Option<Party>,
    /// Who came too early, or did whatever else is wrong.
    pub access: Party,
    /// Who entered the section; nothing outside of one.
    pub opener: Option<Party>,
}

impl Class {
    /// A finding in short, and what a report does not know of it: how often it comes, and when it came.
    #[must_use]
    pub fn of(finding: &Finding, per_second: f64, first_ns: u64, last_ns: u64) -> Self {
        let party = |site: &Site| Party { function: site.function.clone(), op: site.op.clone() };
        let breaking = finding.profiles.iter().filter(|line| line.breaks);
        Self {
            id: finding.fingerprint.clone(),
            rule: finding.rule.clone(),
            severity: finding.severity.clone(),
            title: finding.title.clone(),
            what: finding.what.clone(),
            state: finding.state.clone(),
            count: finding.count,
            proven: finding.proven,
            paths: finding.paths,
            level: finding.level.clone(),
            breaks: breaking.map(|line| line.name.clone()).collect(),
            per_second,
            first_ns,
            last_ns,
            write: finding.write.as_ref().map(party),
            access: party(&finding.access),
            opener: finding.opener.as_ref().map(party),
        }
    }
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Party {
    /// The function, without the compiler's suffixes.
    pub function: String,
    /// The accessor or mode call.
    pub op: Word,
}

/// How the capture is doing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Status {
    /// When: ns since the first record.
    pub time_ns: u64,
    /// The verdict so far: `clean`, `hazards` or `inconclusive`.
    pub verdict: Word,
    /// Why a hazard may have been missed so far, whatever the verdict is.
    pub reasons: Vec<Reason>,
    /// In the last second.
    pub rate: Rate,
    /// Counts of records.
    pub records: Records,
    /// Counts of sections and what was written in them.
    pub sections: Sections,
    /// Records that never arrived, by CPU and by kind.
    pub losses: Losses,
    /// The sizes of all batches.
    pub batches: Batches,
    /// How often each operation ended a batch.
    pub flushed_by: BTreeMap<Word, u64>,
    /// The CPUs that told of anything.
    pub cpus: Vec<Cpu>,
    /// The tasks that are inside a section at this moment, at most some hundred.
    pub tasks: Vec<Task>,
    /// How many tasks inside a section are not in the list.
    pub more_tasks: usize,
    /// Findings that do not count, because somebody gave a reason.
    pub suppressed: usize,
    /// Hazards that are not shown yet, because their call stacks have no names yet.
    pub unnamed: usize,
    /// Clients at this moment.
    pub clients: usize,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rate {
    /// Records that came.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Hazards.
    pub hazards: u64,
    /// Sections that were entered.
    pub sections: u64,
}

/// A second of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Second {
    /// Its end: ns since the first record.
    pub time_ns: u64,
    /// What happened in it.
    #[serde(flatten)]
    pub rate: Rate,
}

/// A CPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: u16,
    /// The architecture's mode on it, where that is told.
    pub mode: Mode,
    /// How often it was entered and not left.
    pub nesting: u32,
    /// Tasks inside a section that ran there last.
    pub tasks: usize,
    /// Entries that they have pending.
    pub pending: u64,
    /// Records of it that were lost.
    pub lost: u64,
}

/// A task inside a section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Task {
    /// Its thread id.
    pub tid: u32,
    /// Its name.
    pub task: Option<String>,
    /// Where it ran last.
    pub cpu: u16,
    /// Its mode.
    pub mode: Mode,
    /// How often it entered the mode and did not leave it.
    pub nesting: u32,
    /// How often it paused the mode and did not resume it.
    pub paused: u32,
    /// Entries that it has pending, as far as that is known.
    pub pending: u64,
    /// The function that entered the section, if it is known.
    pub opener: Option<String>,
}

/// Whether the mode is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is.
    On,
    /// It is paused.
    Paused,
    /// It is not.
    Off,
    /// Nobody knows. Also what a later version says.
    #[serde(other)]
    Unknown,
}

//! What a report says besides its findings: the kernel, the hooks, the counts, what is missing.

use std::collections::BTreeMap;

use lazymmu_abi::Kind;
use lazymmu_hazard::{CpuId, Gap, Statistics};
use lazymmu_trace::{Header, Kernel};
use serde::{Deserialize, Serialize};

use crate::cases::one_line;
use crate::words::Word;

/// The kernel that was traced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Target {
    /// `uname -r`
    pub release: String,
    /// `uname -v`
    pub version: String,
    /// The GNU build id.
    pub build_id: Option<String>,
    /// `uname -m`
    pub architecture: String,
    /// Bytes of a page.
    pub page_size: u32,
}

impl Target {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        Self {
            release: one_line(&kernel.release),
            version: one_line(&kernel.version),
            build_id: kernel.build_id.as_deref().map(one_line),
            architecture: one_line(&kernel.architecture),
            page_size: kernel.page_size,
        }
    }
}

/// What was hooked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hooks {
    /// Which accesses were recorded.
    pub level: String,
    /// Where the hooks come from, by source, with their number.
    pub sources: BTreeMap<String, usize>,
    /// How many were attached.
    pub attached: usize,
    /// How many there should be.
    pub wanted: usize,
    /// Those that could not be attached.
    pub missing: Vec<Missing>,
    /// The instructions of a probe plan, if one was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sites: Option<Sites>,
}

/// What became of the instructions of a probe plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sites {
    /// All that the plan knows.
    pub found: u64,
    /// Those that were probed.
    pub hooked: u64,
    /// Those of whose access another one tells.
    pub covered: u64,
    /// Those of which it is not known where the entry is.
    pub unaddressed: u64,
    /// Those that the kernel does not let be probed, by reason.
    pub refused: Vec<RefusedSites>,
    /// What the plan cannot know of.
    pub blind: Vec<String>,
}

/// Instructions that the kernel does not let be probed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RefusedSites {
    /// Why.
    pub why: String,
    /// Whether the plan said so.
    pub foreseen: bool,
    /// How many.
    pub count: u64,
}

impl Sites {
    fn new(sites: &lazymmu_trace::Sites) -> Self {
        let refused = sites.refused.iter().map(|refused| RefusedSites {
            why: one_line(&refused.why),
            foreseen: refused.foreseen,
            count: refused.count,
        });
        Self {
            found: sites.found,
            hooked: sites.hooked,
            covered: sites.covered,
            unaddressed: sites.unaddressed,
            refused: refused.collect(),
            blind: sites.blind.iter().map(|blind| one_line(blind)).collect(),
        }
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let Self { found, hooked, covered, unaddressed, .. } = self;
        let refused = self.refused.iter().fold(0, |sum: u64, refused| sum.saturating_add(refused.count));
        format!(
            "{hooked} of {found} instructions probed; {covered} told by others, {refused} refused by the kernel, \
             {unaddressed} of unknown entries"
        )
    }
}

/// A hook that could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Missing {
    /// What it would have watched.
    pub name: String,
    /// Why it is not there.
    pub why: String,
}

impl Hooks {
    pub(crate) fn new(header: &Header) -> Self {
        let hooks = &header.plan.hooks;
        let (attached, wanted) = header.plan.coverage();
        let mut sources = BTreeMap::new();
        for hook in hooks.iter().filter(|hook| hook.missing.is_none()) {
            *sources.entry(hook.source.clone()).or_default() += 1;
        }
        let missing = |hook: &lazymmu_trace::Hook| {
            hook.missing.clone().map(|why| Missing { name: hook.name.clone(), why })
        };
        Self {
            level: header.capture.level.clone(),
            sources,
            attached,
            wanted,
            missing: hooks.iter().filter_map(missing).collect(),
            sites: header.plan.sites.as_ref().map(Sites::new),
        }
    }
}

/// Counts of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Records {
    /// All.
    pub total: u64,
    /// By kind; kinds without a record are left out.
    pub by_kind: BTreeMap<Word, u64>,
    /// Reads, writes and read-modify-writes by a task inside a section.
    pub in_sections: u64,
    /// Records from interrupts.
    pub in_interrupts: u64,
    /// Those of a kind or operation that this version does not know.
    pub unknown: u64,
}

impl Records {
    pub(crate) fn new(statistics: &Statistics) -> Self {
        let of_kind = |kind: &Kind| (Word::from(kind.name()), statistics.of_kind(*kind));
        Self {
            total: statistics.records,
            by_kind: Kind::ALL.iter().map(of_kind).filter(|(_, count)| *count > 0).collect(),
            in_sections: statistics.in_sections,
            in_interrupts: statistics.in_interrupts,
            unknown: statistics.unknown,
        }
    }
}

/// Counts of sections and what was written in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sections {
    /// Outermost sections entered.
    pub entered: u64,
    /// Enter calls inside a section.
    pub nested: u64,
    /// The deepest nesting.
    pub deepest: u64,
    /// Pauses.
    pub pauses: u64,
    /// Flushes by the flush call alone.
    pub flushes: u64,
    /// Entries written by deferrable writes.
    pub entries_written: u64,
    /// The most entries that were pending at one time.
    pub max_pending: u64,
    /// Batches with at least one entry.
    pub batches: u64,
    /// Batches that ended with nothing pending.
    pub empty_batches: u64,
    /// Entries in all batches together.
    pub entries_flushed: u64,
    /// Entries in the largest batch.
    pub largest_batch: u64,
}

impl Sections {
    pub(crate) fn new(statistics: &Statistics) -> Self {
        Self {
            entered: statistics.sections,
            nested: statistics.nested_enters,
            deepest: statistics.deepest,
            pauses: statistics.pauses,
            flushes: statistics.flushes,
            entries_written: statistics.entries_written,
            max_pending: statistics.max_pending,
            batches: statistics.batch_sizes.batches,
            empty_batches: statistics.batch_sizes.empty,
            entries_flushed: statistics.batch_sizes.entries,
            largest_batch: statistics.batch_sizes.largest,
        }
    }
}

/// Records that never arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Losses {
    /// All that were counted.
    pub total: u64,
    /// Places at which more may be missing, nobody knows how much.
    pub uncounted: u64,
    /// By kind; `unknown` where that is not known.
    pub by_kind: BTreeMap<Word, u64>,
    /// By CPU; `unknown` where that is not known.
    pub by_cpu: BTreeMap<String, u64>,
}

impl Losses {
    pub(crate) fn new(losses: &lazymmu_hazard::Losses) -> Self {
        let kind = |kind: Option<Kind>| Word::from(kind.map_or("unknown", Kind::name));
        let cpu = |cpu: Option<CpuId>| cpu.map_or_else(|| "unknown".to_owned(), |cpu| cpu.0.to_string());
        Self {
            total: losses.total(),
            uncounted: losses.uncounted,
            by_kind: losses.by_kind.iter().map(|(key, count)| (kind(*key), *count)).collect(),
            by_cpu: losses.by_cpu.iter().map(|(key, count)| (cpu(*key), *count)).collect(),
        }
    }
}

/// Why a hazard may have been missed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reason {
    /// One word: `lost`, `damaged`, `cut-off`, `coverage`, `table-full`, `unknown-records` or `resynced`.
    pub kind: Word,
    /// How many, where that can be said.
    pub count: Option<u64>,
    /// In words.
    pub text: String,
}

impl Reason {
    pub(crate) fn new(reason: &lazymmu_hazard::Reason) -> Self {
        use lazymmu_hazard::Reason as From;
        let (kind, count) = match reason {
            From::Lost(count) => ("lost", Some(*count)),
            From::LostUncounted(_) => ("lost", None),
            From::Gap(Gap::Damaged) => ("damaged", None),
            From::Gap(Gap::CutOff) => ("cut-off", None),
            From::Gap(Gap::Coverage) => ("coverage", None),
            From::TableFull(count) => ("table-full", Some(*count)),
            From::Unknown(count) => ("unknown-records", Some(*count)),
            From::Resynced(count) => ("resynced", Some(*count)),
        };
        Self { kind: kind.into(), count, text: reason.to_string() }
    }
}

/// What is wrong with the trace file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Damage {
    /// In words.
    pub text: String,
    /// The byte of the file at which it begins.
    pub at: u64,
    /// How many places are damaged.
    pub places: u64,
    /// How many bytes could not be used.
    pub bytes: u64,
    /// How many bytes the file has.
    pub file_bytes: u64,
    /// Whether call paths may be missing.
    pub call_paths: bool,
    /// Whether the recording was not finished.
    pub unfinished: bool,
}

impl Damage {
    pub(crate) fn new(damage: lazymmu_trace::Damage) -> Self {
        let text = damage.to_string();
        let lazymmu_trace::Damage { at, places, bytes, file_bytes, call_paths, unfinished, .. } = damage;
        Self { text, at, places, bytes, file_bytes, call_paths, unfinished }
    }
}

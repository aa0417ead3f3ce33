//! What a report says besides its findings: the kernel, the hooks, the counts, what is missing.

use std::collections::BTreeMap;

use lazymmu_abi::Kind;
use lazymmu_hazard::Statistics;
use lazymmu_trace::{Header, Kernel};
use serde::Serialize;

/// The kernel that was traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
        let Kernel { release, version, build_id, architecture, page_size, .. } = kernel.clone();
        Self { release, version, build_id, architecture, page_size }
    }
}

/// What was hooked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
}

/// A hook that could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
        }
    }
}

/// Counts of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Records {
    /// All.
    pub total: u64,
    /// By kind; kinds without a record are left out.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Reads, writes and read-modify-writes by a task inside a section.
    pub in_sections: u64,
    /// Records from interrupts.
    pub in_interrupts: u64,
    /// Those of a kind or operation that this version does not know.
    pub unknown: u64,
}

impl Records {
    pub(crate) fn new(statistics: &Statistics) -> Self {
        let of_kind = |kind: &Kind| (kind.name(), statistics.of_kind(*kind));
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
            largest_batch: statistics.batch_sizes.largest,
        }
    }
}

/// Records that never arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// All.
    pub total: u64,
    /// By kind; `unknown` where that is not known.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// By CPU.
    pub by_cpu: BTreeMap<String, u64>,
}

impl Losses {
    pub(crate) fn new(losses: &lazymmu_hazard::Losses) -> Self {
        let name = |kind: Option<Kind>| kind.map_or("unknown", Kind::name);
        Self {
            total: losses.total(),
            by_kind: losses.by_kind.iter().map(|(kind, count)| (name(*kind), *count)).collect(),
            by_cpu: losses.by_cpu.iter().map(|(cpu, count)| (cpu.0.to_string(), *count)).collect(),
        }
    }
}

/// Why a hazard may have been missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// In words.
    pub text: String,
}

impl Reason {
    pub(crate) fn new(reason: &lazymmu_hazard::Reason) -> Self {
        Self { text: reason.to_string() }
    }
}

/// What is wrong with the trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// In words.
    pub text: String,
}

impl Damage {
    pub(crate) fn new(damage: lazymmu_trace::Damage) -> Self {
        Self { text: damage.to_string() }
    }
}

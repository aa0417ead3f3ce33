//! Counts of what went through the engine.

use lazymmu_abi::Kind;

/// How many entries were pending when a batch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSizes {
    /// Batches with at least one entry.
    pub batches: u64,
    /// Batches that ended with nothing pending.
    pub empty: u64,
    /// Entries in all batches together.
    pub entries: u64,
    /// Entries in the largest batch.
    pub largest: u64,
}

impl BatchSizes {
    pub(crate) fn add(&mut self, entries: u64) {
        if entries == 0 {
            self.empty += 1;
        } else {
            self.batches += 1;
            self.entries += entries;
            self.largest = self.largest.max(entries);
        }
    }
}

/// What went through the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// All records.
    pub records: u64,
    /// Records by the byte of their kind; those of no known kind at 0.
    by_kind: [u64; KINDS],
    /// Reads, writes and read-modify-writes by a task inside a section that is not paused.
    pub in_sections: u64,
    /// Accesses from an interrupt, which are no part of the section that they came into.
    pub in_interrupts: u64,
    /// Sections entered (outermost only).
    pub sections: u64,
    /// Enter calls inside a section.
    pub nested_enters: u64,
    /// The deepest nesting.
    pub deepest: u64,
    /// Calls of pause that had an effect.
    pub pauses: u64,
    /// Flushes by the flush call alone.
    pub flushes: u64,
    /// Entries written by deferrable writes inside sections.
    pub entries_written: u64,
    /// The most entries that were pending at one time.
    pub max_pending: u64,
    /// Batches by size, however they ended.
    pub batch_sizes: BatchSizes,
    /// Records whose kind or operation this version does not know.
    pub unknown: u64,
    /// Times that a task's counters did not fit what its records had told before.
    pub resynced: u64,
    /// Times that a task was in a section on another CPU than before and no record told of a switch.
    pub moved: u64,
    /// Deferrable writes that were not watched because the table was full.
    pub untracked: u64,
}

/// One more than the highest code of a kind.
const KINDS: usize = Kind::Stack as usize + 1;

impl Statistics {
    pub(crate) fn count_kind(&mut self, kind: u8) {
        let index = if usize::from(kind) < KINDS { usize::from(kind) } else { 0 };
        self.by_kind[index] += 1;
    }

    /// How many records of that kind came.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.by_kind[kind as usize]
    }
}

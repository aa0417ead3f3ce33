//! What waits in a section, for those who show it. Nothing here changes anything.

use super::Engine;
use crate::pending::Write;
use crate::types::{EntryAddr, Nanos, StackId, TaskId};

/// A write that waits for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The first entry that it wrote.
    pub first: EntryAddr,
    /// How many entries, side by side.
    pub count: u16,
    /// The byte of the operation.
    pub op: u8,
    /// The byte of the level of the entries.
    pub level: u8,
    /// What the first entry was set to; `None` if the operation does not tell.
    pub value: Option<u64>,
    /// When that was, by the clock of the records.
    pub time: Nanos,
    /// The call stack of the write.
    pub stack: StackId,
}

impl Engine {
    /// How many writes wait in the task's section; 0 if it is in none. An entry that was written twice counts twice.
    #[must_use]
    pub fn waiting_count(&self, task: TaskId) -> usize {
        self.sections.peek(task).map_or(0, |section| section.writes.len())
    }

    /// The writes that wait in the task's section, in their order, without the first `skipped`.
    pub fn waiting(&self, task: TaskId, skipped: usize) -> impl Iterator<Item = Waiting> {
        let writes = self.sections.peek(task).map_or(&[][..], |section| &section.writes);
        writes.iter().skip(skipped).map(|id| {
            let Write { first, count, op, level, value, time, stack, .. } = *self.pending.write(*id);
            Waiting { first, count, op, level, value, time, stack }
        })
    }
}

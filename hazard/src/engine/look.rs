//! What is open and what waits, for those who show it. Nothing here changes anything.

use super::Engine;
use crate::cpus::CpuMode;
use crate::outcome::{Gap, Losses};
use crate::pending::Write;
use crate::tasks::Section;
use crate::types::{CpuId, EntryAddr, Nanos, StackId, TaskId};

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

/// A section that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whose it is.
    pub task: TaskId,
    /// Where the task was last seen.
    pub cpu: CpuId,
    /// How deep it is nested.
    pub depth: u32,
    /// How often it is paused.
    pub pauses: u32,
    /// Whether the mode is on, as far as that is known.
    pub on: bool,
    /// The stack of the call that entered it; none if that was before the first record.
    pub opener: StackId,
    /// How many writes wait in it. An entry that was written twice counts twice.
    pub waiting: usize,
}

impl Engine {
    /// The sections that are open, by task.
    #[must_use]
    pub fn open_sections(&self) -> Vec<Open> {
        let mut open: Vec<_> = self.sections.all().map(|(task, section)| section.look(task)).collect();
        open.sort_unstable_by_key(|open| open.task);
        open
    }

    /// The mode as each CPU has it, where the architecture's own calls are told; nothing for the others.
    #[must_use]
    pub fn cpu_modes(&self) -> Vec<CpuMode> {
        self.cpus.modes()
    }

    /// The time of the last record, since the first one.
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.now.since(self.start.unwrap_or(self.now))
    }

    /// What else is known to be missing, so far.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Records that never arrived, so far.
    #[must_use]
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

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

impl Section {
    fn look(&self, task: TaskId) -> Open {
        Open {
            task,
            cpu: self.cpu(),
            depth: self.mode.enable,
            pauses: self.mode.pause,
            on: self.is_on(),
            opener: self.opener,
            waiting: self.writes.len(),
        }
    }
}

//! What the kernel side kept back: writes that come late, with what came upon them, and accesses that do not come at all
//! and are only counted.

use lazymmu_abi::{Flags, Kind, LeftOut, Op, Record};

use super::Engine;
use crate::tasks::SectionId;
use crate::types::{Nanos, TaskId};

impl Engine {
    /// A change inside a section that its task made earlier. It was counted when it was made, and nothing has come upon
    /// it until now.
    #[cold]
    pub(super) fn held(&mut self, kind: Kind, record: &Record) {
        if Op::kind_of(record.op) != Some(kind) {
            self.statistics.unknown += 1;
            return;
        }
        let made = Nanos(record.memory);
        let Some(id) = self.sections.of(TaskId::of(record)) else { return };
        // Its queue was flushed while the kernel side had it in hand.
        if made < self.sections.get(id).since {
            return;
        }
        let flags = record.flags & !(Flags::HELD | Flags::MEMORY);
        let write = Record { time: made.0, memory: 0, flags, ..*record };
        let written = self.statistics.entries_written;
        let kept = self.queue(id, kind, &write, true);
        let counted = self.statistics.entries_written - written;
        self.statistics.entries_written = written;
        let section = self.sections.get(id);
        section.told_late += counted;
        if let (true, Some(last)) = (kept, section.writes.last()) {
            for (_, profiles) in section.settled.iter().filter(|(time, _)| *time >= made) {
                self.pending.settle(*last, *profiles);
            }
        }
    }

    /// Accesses since the task's last record of the mode that have none of their own.
    #[cold]
    pub(super) fn left_out(&mut self, id: SectionId, record: &Record) {
        let LeftOut { accesses, changed, pending } = LeftOut::of(record.entry);
        let section = self.sections.get(id);
        section.story.changed += u64::from(changed);
        section.left_out += u64::from(pending);
        let waiting = self.pending.len() as u64 + section.left_out.saturating_sub(section.told_late);
        let statistics = &mut self.statistics;
        statistics.in_sections += u64::from(accesses);
        statistics.entries_written += u64::from(pending);
        statistics.max_pending = statistics.max_pending.max(waiting);
    }
}

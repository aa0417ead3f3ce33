//! What is not known any more where records are missing.

use lazymmu_abi::{Kind, Record};

use super::Engine;
use crate::types::CpuId;

impl Engine {
    /// Some records of one CPU never came. What cannot be trusted any more is forgotten: a hazard may be missed, but
    /// none is made up.
    ///
    /// A task may have moved to that CPU and back, so what is in doubt is not only what was last seen there.
    pub(super) fn lost(&mut self, record: &Record) {
        let kind = Kind::try_from(record.op).ok();
        let cpu = (record.cpu != Record::ANY_CPU).then_some(CpuId(record.cpu));
        if record.value == 0 {
            self.losses.uncounted += 1;
        } else {
            for count in
                [self.losses.by_kind.entry(kind).or_default(), self.losses.by_cpu.entry(cpu).or_default()]
            {
                *count = count.saturating_add(record.value);
            }
        }
        match kind {
            // These change nothing that is kept here.
            Some(Kind::TlbFlush | Kind::Fault | Kind::TaskName | Kind::Stack) => {}
            // A read changes nothing, but what did not agree on the CPU may have shown at it.
            Some(Kind::Read) => self.cpus.forget_mode(cpu),
            // The sections are what they were, but an entry may have been written again, or a queue flushed.
            Some(Kind::Write | Kind::Rmw) => {
                self.forget_writes();
                self.cpus.forget_mode(cpu);
            }
            Some(Kind::Switch) => {
                self.forget_writes();
                for id in self.sections.ids() {
                    self.sections.get(id).away = true;
                }
                self.cpus.forget();
            }
            Some(Kind::Section | Kind::TaskExit | Kind::Lost) | None => self.forget_sections(),
        }
    }

    pub(super) fn forget_writes(&mut self) {
        self.found.withdraw(None);
        for id in self.sections.ids() {
            self.forget_writes_of(id);
            self.sections.get(id).story.uncounted = true;
        }
    }

    pub(super) fn forget_sections(&mut self) {
        self.found.withdraw(None);
        for id in self.sections.ids() {
            self.forget_writes_of(id);
            self.sections.close(id);
        }
        self.nests.doubt_all();
        self.cpus.forget();
    }
}

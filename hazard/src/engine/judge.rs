//! What is shown to the rules, and what becomes of their answers.

use lazymmu_abi::{Context, Kind, Level, Op, Record};

use super::Engine;
use crate::nests::Nest;
use crate::occurrence::{Example, Hazard, Place, Proof, Written};
use crate::pending::{Pending, Write};
use crate::profile::{self, ProfileMask};
use crate::rules::{Encounter, Event, RULES, Severity, Who};
use crate::tasks::SectionId;
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, VirtRange};

impl Engine {
    /// Shows the rules each pending write that the access meets. `active`: whether the mode is on for the access.
    #[inline]
    pub(super) fn meet(&mut self, kind: Kind, record: &Record, active: bool) {
        let first = EntryAddr(record.entry);
        for index in 0..u64::from(record.count.max(1)) {
            let entry = first.advance(index);
            if let Some(pending) = self.pending.at(entry) {
                self.judge(kind, record, entry, pending, active);
            }
        }
    }

    /// A use of a mapping, or a flush of the TLB, inside a section: shows the rules each pending write of the task that
    /// may have to do with it.
    #[cold]
    pub(super) fn used(&mut self, record: &Record) {
        let (kind, range) = match Kind::try_from(record.kind) {
            Ok(Kind::TlbFlush) => (Kind::TlbFlush, VirtRange { start: record.entry, end: record.value }),
            _ => (Kind::Fault, VirtRange { start: record.entry, end: record.entry.saturating_add(1) }),
        };
        let Some(id) = self.find(TaskId::of(record), CpuId(record.cpu)) else { return };
        let mut met = Vec::new();
        for id in &self.sections.get(id).writes {
            let Write { first, count, level, value, .. } = *self.pending.write(*id);
            let Ok(level) = Level::try_from(level) else { continue };
            // The first value tells for all: one write works in one half. A fault is a use of what a write maps; a
            // flush may be for what a write took away.
            let arch = self.config.arch;
            let meant = value.and_then(|value| arch.maps_in_half_of(value, range));
            if !meant.unwrap_or(kind == Kind::TlbFlush) {
                continue;
            }
            let entries = (0..u64::from(count)).map(|index| first.advance(index));
            met.extend(entries.filter(|entry| self.config.arch.may_map(*entry, level, range)));
        }
        for entry in met {
            if let Some(pending) = self.pending.at(entry) {
                self.judge(kind, record, entry, pending, false);
            }
        }
    }

    #[cold]
    fn judge(&mut self, kind: Kind, record: &Record, entry: EntryAddr, pending: Pending, active: bool) {
        // One access and one write are one hazard, however many entries both cover.
        if !self.pending.meet(pending.write, self.statistics.records) {
            return;
        }
        let write = *self.pending.write(pending.write);
        let op = usize::from(record.op);
        let who = match (write.owner == TaskId::of(record), record.context()) {
            (true, Context::Task) => Who::Writer,
            (true, _) => Who::InterruptOfWriter,
            (false, _) => Who::Other,
        };
        // What another task changed there since may be in its own queue, where its accessors look.
        let elsewhere = who == Who::Other && !pending.disturbed;
        let masks = &self.masks;
        let encounter = Encounter {
            kind,
            who,
            raw: Op::try_from(record.op).is_ok_and(Op::is_raw),
            waits: write.waits,
            late: write.late,
            sees_memory: if elsewhere { masks.sees_memory_elsewhere[op] } else { masks.sees_memory[op] },
            queued: if active { masks.queues[op] } else { ProfileMask::NONE },
        };
        for rule in &RULES {
            let Some(check) = rule.on_encounter else { continue };
            let breaks = check(encounter);
            if breaks.is_empty() {
                continue;
            }
            let place = Place {
                rule: rule.info.id,
                breach: None,
                write_op: Some(write.op),
                access_kind: kind,
                access_op: record.op,
                level: if matches!(kind, Kind::Fault | Kind::TlbFlush) { write.level } else { record.level },
                write: Some(write.stack),
                access: StackId(record.stack),
                opener: Some(write.opener),
            };
            let example = self.encountered(kind, record, entry, pending, &write);
            if who == Who::Other {
                self.found.hold(Hazard { place, breaks, example });
            } else {
                self.found.add(place, breaks, example);
            }
        }
    }

    /// The example of an encounter.
    fn encountered(
        &self,
        kind: Kind,
        record: &Record,
        entry: EntryAddr,
        pending: Pending,
        write: &Write,
    ) -> Example {
        let arch = self.config.arch;
        let clears = matches!(
            Op::try_from(write.op),
            Ok(Op::PteClear
                | Op::PteClearNotPresentFull
                | Op::ClearNotPresentFullPtes
                | Op::PmdClear
                | Op::PudClear)
        );
        let index = if clears { 0 } else { entry.index_from(write.first) };
        let value = write.value.and_then(|first| arch.advance(first, index));
        // The record's values are those of its first entry, and only accesses have an entry's values.
        let access = matches!(kind, Kind::Read | Kind::Write | Kind::Rmw);
        let first = access && entry.0 == record.entry;
        // What a write got is nothing.
        let seen = record.known_value().filter(|_| first && kind != Kind::Write);
        let memory = record.known_memory().filter(|_| first);
        let same = match (value, seen) {
            (Some(value), Some(seen)) if !pending.disturbed => arch.same_entry(value, seen),
            _ => None,
        };
        Example {
            write: Some(Written {
                time: write.time.since(self.start.unwrap_or_default()),
                cpu: write.cpu,
                task: write.owner,
                process: write.process,
                name: self.names.get(write.owner),
            }),
            entry: Some(entry),
            pending: value,
            seen,
            memory,
            proof: same.map_or(Proof::NotCompared, |same| if same { Proof::Same } else { Proof::Different }),
            ..self.example(record)
        }
    }

    /// What every example says of a record.
    fn example(&self, record: &Record) -> Example {
        let task = TaskId::of(record);
        Example {
            time: Nanos(record.time).since(self.start.unwrap_or_default()),
            cpu: CpuId(record.cpu),
            context: record.context(),
            task,
            process: ProcessId(record.tgid),
            name: self.names.get(task),
            write: None,
            entry: None,
            pending: None,
            seen: None,
            memory: None,
            proof: Proof::NotCompared,
        }
    }

    /// Shows the rules something that happened.
    pub(super) fn happened(&mut self, record: &Record, event: Event) {
        for rule in &RULES {
            if let Some(breach) = rule.on_event.and_then(|check| check(&event)) {
                let section = self.sections.find(TaskId::of(record), CpuId(record.cpu));
                let place = Place {
                    rule: rule.info.id,
                    breach: Some(breach),
                    write_op: None,
                    access_kind: Kind::try_from(record.kind).unwrap_or(Kind::Section),
                    access_op: record.op,
                    level: record.level,
                    write: None,
                    access: StackId(record.stack),
                    opener: section.map(|id| self.sections.get(id).opener),
                };
                self.breached(record, place);
            }
        }
    }

    /// Before 7.0: a section and another inside it were left. What is wrong is the call that entered the inner one.
    #[cold]
    pub(super) fn nested(&mut self, record: &Record, nest: Nest) {
        let event = Event::NestLeft;
        for rule in &RULES {
            if let Some(breach) = rule.on_event.and_then(|check| check(&event)) {
                let place = Place {
                    rule: rule.info.id,
                    breach: Some(breach),
                    write_op: None,
                    access_kind: Kind::Section,
                    access_op: Op::Enter as u8,
                    level: 0,
                    write: None,
                    access: nest.inner,
                    opener: Some(nest.outer),
                };
                self.breached(record, place);
            }
        }
    }

    #[cold]
    fn breached(&mut self, record: &Record, place: Place) {
        let Some(breach) = place.breach else { return };
        let breaks = profile::broken_by(breach.on);
        if breaks.is_empty() && place.rule.info().severity == Severity::Error {
            return;
        }
        let entry = matches!(place.access_kind, Kind::Read | Kind::Write | Kind::Rmw);
        let example = Example { entry: entry.then_some(EntryAddr(record.entry)), ..self.example(record) };
        self.found.add(place, breaks, example);
    }

    /// An interrupt that came into the section changed an entry.
    #[cold]
    pub(super) fn interrupted(&mut self, record: &Record, id: SectionId) {
        self.settle(id, self.masks.flushes_in_interrupt[usize::from(record.op)]);
        let section = self.view(id);
        self.happened(record, Event::InterruptWrite { section });
    }

    /// The outermost section is over; nothing is missing of it, or nothing is counted.
    pub(super) fn over(&mut self, record: &Record, id: SectionId) {
        let section = self.view(id);
        let stack = self.sections.get(id).opener;
        if section.story.doubtful || section.story.uncounted || stack == StackId::NONE {
            return;
        }
        let (opened, wasted) = self.opened.entry(stack).or_default();
        *opened += 1;
        *wasted += u64::from(section.is_wasted());
        let event = Event::SectionOver { section, opened: *opened, wasted: *wasted };
        if section.is_wasted() {
            self.happened(record, event);
        }
    }

    /// Compares what the CPU has of the mode with what the task has.
    #[cold]
    pub(super) fn compare(&mut self, record: &Record, active: bool) {
        if let Some(found) = self.cpus.seen(CpuId(record.cpu), TaskId::of(record), active) {
            self.happened(record, Event::Cpu(found));
        }
    }
}

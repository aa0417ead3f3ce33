//! The state machine: one record at a time.
//!
//! Nothing here knows a rule or an architecture: it keeps the sections and the pending writes, and shows each access
//! that meets a pending write to the rules.

use lazymmu_abi::{Context, Kind, Op, Record};

use crate::config::Config;
use crate::occurrence::{Example, Hazard, Occurrence, Occurrences, Place, Proof};
use crate::outcome::{Gap, Losses, Outcome};
use crate::pending::{Pending, Table, Write};
use crate::profile::{Masks, ProfileMask};
use crate::rules::{Encounter, RULES, Who};
use crate::section::{self, Effect, Mode, Trust};
use crate::statistics::Statistics;
use crate::tasks::{Names, SectionId, Sections};
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, TaskName};

/// The detector.
pub struct Engine {
    config: Config,
    masks: Masks,
    sections: Sections,
    pending: Table,
    names: Names,
    found: Occurrences,
    statistics: Statistics,
    losses: Losses,
    gaps: Vec<Gap>,
    start: Option<Nanos>,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            masks: Masks::new(),
            sections: Sections::default(),
            pending: Table::new(config.max_pending),
            names: Names::default(),
            found: Occurrences::default(),
            statistics: Statistics::default(),
            losses: Losses::default(),
            gaps: Vec::new(),
            start: None,
        }
    }

    /// Takes in one record. Never fails: what it does not understand, it counts.
    #[inline]
    pub fn process(&mut self, record: &Record) {
        self.start.get_or_insert(Nanos(record.time));
        self.statistics.records += 1;
        self.statistics.count_kind(record.kind);
        match Kind::try_from(record.kind) {
            Ok(kind @ (Kind::Read | Kind::Write | Kind::Rmw)) => self.access(kind, record),
            Ok(Kind::Section) => self.section(record),
            Ok(Kind::Switch) => self.switched(record),
            Ok(Kind::TaskExit) => self.exited(record),
            Ok(Kind::TaskName) => self.names.insert(TaskId::of(record), TaskName::of(record)),
            Ok(Kind::Lost) => self.lost(record),
            // No rule needs these yet.
            Ok(Kind::TlbFlush | Kind::Fault) => {}
            Ok(Kind::Stack) | Err(_) => self.statistics.unknown += 1,
        }
    }

    /// Takes in some records.
    pub fn process_all(&mut self, records: &[Record]) {
        for record in records {
            self.process(record);
        }
    }

    /// Takes note of something that is missing at this point. Where records are missing, what was known of sections
    /// and pending writes may be wrong, and is forgotten.
    pub fn gap(&mut self, gap: Gap) {
        if gap == Gap::Damaged {
            self.forget_sections();
        }
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    /// What was found so far, in the order in which each place was first seen. The list only grows, and the counts
    /// in it.
    #[must_use]
    pub fn occurrences(&self) -> &[Occurrence] {
        self.found.all()
    }

    /// From here on keeps every hazard by itself, for [`Engine::take_hazards`]. Who asks for that must take them
    /// often: they are as many as the hazards are.
    pub fn watch(&mut self) {
        self.found.watch();
    }

    /// The hazards since the last call, in their order; none if nobody asked for them by [`Engine::watch`].
    pub fn take_hazards(&mut self) -> Vec<Hazard> {
        self.found.take_log()
    }

    /// Whether the task is in a section, as far as the records told.
    #[must_use]
    pub fn in_section(&self, task: TaskId) -> bool {
        self.sections.has(task)
    }

    /// The name of a task, if it was told.
    #[must_use]
    pub fn name_of(&self, task: TaskId) -> Option<TaskName> {
        self.names.get(task)
    }

    /// Counts so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Everything so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            occurrences: self.found.all().to_vec(),
            statistics: self.statistics.clone(),
            losses: self.losses.clone(),
            gaps: self.gaps.clone(),
        }
    }

    /// The end of the records. A section that is still open is no finding: the capture just stopped.
    #[must_use]
    pub fn finish(self) -> Outcome {
        self.outcome()
    }

    fn section(&mut self, record: &Record) {
        let op = match Op::try_from(record.op) {
            Ok(op) if op.info().kind == Kind::Section => op,
            _ => {
                self.statistics.unknown += 1;
                return;
            }
        };
        // In an interrupt the mode is off and its calls do nothing (include/linux/pgtable.h, 7.2:217).
        if record.context() != Context::Task {
            self.statistics.in_interrupts += 1;
            return;
        }
        let (task, cpu) = (TaskId::of(record), CpuId(record.cpu));
        let open = self.find(task, cpu);
        let before = open.map(|id| self.sections.get(id).mode);
        let step = section::step(before, op, Mode::in_record(record));
        self.statistics.resynced += u64::from(step.trust == Trust::Gap);
        if let Some(id) = open
            && step.trust != Trust::Sure
        {
            self.drop_writes(id);
        }
        self.count(step.effect, step.mode);
        if let Some(id) = open
            && step.effect.flushes()
        {
            self.flush(id);
        }
        match open {
            Some(id) if step.mode.enable == 0 => self.sections.close(id),
            Some(id) => self.sections.get(id).mode = step.mode,
            None if step.mode.enable == 0 => {}
            None => {
                let entered = step.effect == Effect::Entered;
                let opener = if entered { StackId(record.stack) } else { StackId::NONE };
                self.sections.open(task, cpu, step.mode, opener);
            }
        }
    }

    /// The task's open section. If the task was moved and no record told of it, more than that may be missing, and
    /// what was pending is forgotten.
    #[inline]
    fn find(&mut self, task: TaskId, cpu: CpuId) -> Option<SectionId> {
        let id = self.sections.find(task, cpu)?;
        if !self.sections.get(id).seen_on(cpu) {
            self.drop_writes(id);
        }
        Some(id)
    }

    fn count(&mut self, effect: Effect, mode: Mode) {
        let statistics = &mut self.statistics;
        match effect {
            Effect::Entered => statistics.sections += 1,
            Effect::EnteredInner => statistics.nested_enters += 1,
            Effect::Flushed => statistics.flushes += 1,
            Effect::Paused => statistics.pauses += 1,
            Effect::Nothing | Effect::Left | Effect::LeftInner | Effect::Resumed => {}
        }
        statistics.deepest = statistics.deepest.max(u64::from(mode.enable));
    }

    #[inline]
    fn access(&mut self, kind: Kind, record: &Record) {
        let (task, cpu) = (TaskId::of(record), CpuId(record.cpu));
        let section = self.find(task, cpu);
        let in_task = record.context() == Context::Task;
        let active = match section {
            Some(id) if in_task => self.sections.get(id).mode.active(),
            _ => false,
        };
        self.statistics.in_sections += u64::from(active);
        self.statistics.in_interrupts += u64::from(!in_task);
        let known = matches!(Op::try_from(record.op), Ok(op) if op.info().kind == kind);
        if !known {
            self.statistics.unknown += 1;
            return;
        }
        let changes = kind != Kind::Read;
        let first_flushed = self.masks.flushes_first[usize::from(record.op)];
        if active
            && !first_flushed.is_empty()
            && let Some(id) = section
        {
            self.settle(id, first_flushed);
        }
        if !self.pending.is_empty() {
            self.meet(kind, record, task);
            if changes {
                self.pending.disturb(EntryAddr(record.entry), record.count.max(1));
            }
        }
        let queues = self.masks.queues[usize::from(record.op)];
        if active
            && !queues.is_empty()
            && let Some(id) = section
        {
            self.queue(id, kind, record, queues);
        }
    }

    /// A write that may wait.
    fn queue(&mut self, id: SectionId, kind: Kind, record: &Record, waits: ProfileMask) {
        let section = self.sections.get(id);
        let write = Write {
            owner: TaskId::of(record),
            process: ProcessId(record.tgid),
            cpu: CpuId(record.cpu),
            time: Nanos(record.time),
            first: EntryAddr(record.entry),
            count: record.count.max(1),
            op: record.op,
            // A read-modify-write tells the old value, not the new one.
            value: if kind == Kind::Write { record.known_value() } else { None },
            stack: StackId(record.stack),
            opener: section.opener,
            waits,
            met_by: 0,
        };
        self.statistics.entries_written += u64::from(write.count);
        match self.pending.insert(write) {
            Some(write) => section.writes.push(write),
            None => self.statistics.untracked += 1,
        }
        self.statistics.max_pending = self.statistics.max_pending.max(self.pending.len() as u64);
    }

    /// Shows the rules each pending write that the access meets.
    #[inline]
    fn meet(&mut self, kind: Kind, record: &Record, task: TaskId) {
        let first = EntryAddr(record.entry);
        for index in 0..u64::from(record.count.max(1)) {
            let entry = first.advance(index);
            if let Some(pending) = self.pending.at(entry) {
                self.judge(kind, record, task, entry, pending);
            }
        }
    }

    #[cold]
    fn judge(&mut self, kind: Kind, record: &Record, task: TaskId, entry: EntryAddr, pending: Pending) {
        // One access and one write are one hazard, however many entries both cover.
        if !self.pending.meet(pending.write, self.statistics.records) {
            return;
        }
        let write = *self.pending.write(pending.write);
        let who = match (write.owner == task, record.context()) {
            (true, Context::Task) => Who::Writer,
            (true, _) => Who::InterruptOfWriter,
            (false, _) => Who::Other,
        };
        let sees_memory = self.masks.sees_memory[usize::from(record.op)];
        let encounter = Encounter { kind, who, waits: write.waits, sees_memory };
        for rule in &RULES {
            let breaks = (rule.check)(encounter);
            if breaks.is_empty() {
                continue;
            }
            let place = Place {
                rule: rule.info.id,
                write_op: write.op,
                access_op: record.op,
                level: record.level,
                write: write.stack,
                access: StackId(record.stack),
                opener: write.opener,
            };
            let example = self.example(record, task, entry, pending, &write);
            self.found.add(place, breaks, example);
        }
    }

    fn example(
        &self,
        record: &Record,
        task: TaskId,
        entry: EntryAddr,
        pending: Pending,
        write: &Write,
    ) -> Example {
        let start = self.start.unwrap_or_default();
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
        // The record's values are those of its first entry.
        let first = entry.0 == record.entry;
        let seen = record.known_value().filter(|_| first);
        let memory = record.known_memory().filter(|_| first);
        let same = match (value, seen) {
            (Some(value), Some(seen)) if !pending.disturbed => arch.same_entry(value, seen),
            _ => None,
        };
        Example {
            time: Nanos(record.time).since(start),
            write_time: write.time.since(start),
            cpu: CpuId(record.cpu),
            write_cpu: write.cpu,
            context: record.context(),
            task,
            process: ProcessId(record.tgid),
            name: self.names.get(task),
            write_task: write.owner,
            write_process: write.process,
            write_name: self.names.get(write.owner),
            entry,
            pending: value,
            seen,
            memory,
            proof: same.map_or(Proof::NotCompared, |same| if same { Proof::Same } else { Proof::Different }),
        }
    }

    fn switched(&mut self, record: &Record) {
        if let Some(id) = self.sections.find(TaskId::of(record), CpuId(record.cpu)) {
            self.settle(id, self.masks.on_switch);
            self.sections.get(id).switched_out = true;
        }
    }

    fn exited(&mut self, record: &Record) {
        let task = TaskId::of(record);
        if let Some(id) = self.sections.find(task, CpuId(record.cpu)) {
            self.drop_writes(id);
            self.sections.close(id);
        }
        self.names.remove(task);
    }

    /// Some records of one CPU never came. What cannot be trusted any more is forgotten: a hazard may be missed, but
    /// none is made up.
    ///
    /// A task may have moved to that CPU and back, so what is in doubt is not only what was last seen there.
    fn lost(&mut self, record: &Record) {
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
            // A read changes nothing; these others change nothing that is kept here.
            Some(Kind::Read | Kind::TlbFlush | Kind::Fault | Kind::TaskName | Kind::Stack) => {}
            // The sections are what they were, but an entry may have been written again, or a queue flushed.
            Some(Kind::Write | Kind::Rmw | Kind::Switch) => self.forget_writes(),
            Some(Kind::Section | Kind::TaskExit | Kind::Lost) | None => self.forget_sections(),
        }
    }

    fn forget_writes(&mut self) {
        for id in self.sections.ids() {
            self.drop_writes(id);
        }
    }

    fn forget_sections(&mut self) {
        for id in self.sections.ids() {
            self.drop_writes(id);
            self.sections.close(id);
        }
    }

    /// Everything that the section has pending is in memory now.
    fn flush(&mut self, id: SectionId) {
        let entries = self.drop_writes(id);
        self.statistics.batch_sizes.add(entries);
    }

    /// Takes the section's writes out of the table. Returns how many entries they had.
    fn drop_writes(&mut self, id: SectionId) -> u64 {
        let mut entries = 0;
        for write in self.sections.get(id).writes.drain(..) {
            entries += self.pending.remove(write) as u64;
        }
        entries
    }

    /// What the section has pending is in memory now, but only on these profiles.
    fn settle(&mut self, id: SectionId, profiles: ProfileMask) {
        for write in &self.sections.get(id).writes {
            self.pending.settle(*write, profiles);
        }
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::Flags;

    use super::*;
    use crate::profile::ProfileId;

    fn record(kind: Kind, op: Op, value: u64) -> Record {
        let flags = Flags::VALUE | Flags::MEMORY;
        Record {
            tid: 1,
            entry: 0x1000,
            count: 1,
            value,
            kind: kind as u8,
            op: op as u8,
            flags,
            ..Record::default()
        }
    }

    /// No architecture flushes before an operation today, so the tables do not exercise it.
    #[test]
    fn an_operation_may_empty_the_queue_first_on_some_profiles() {
        let mut engine = Engine::new(Config::default());
        let flushes = ProfileMask::NONE.with(ProfileId::XenPv);
        engine.masks.flushes_first[Op::WrprotectPtes as usize] = flushes;
        engine.process(&record(Kind::Section, Op::Enter, 1));
        engine.process(&record(Kind::Write, Op::SetPtes, 5));
        engine.process(&record(Kind::Rmw, Op::WrprotectPtes, 5));
        engine.process(&record(Kind::Read, Op::PtepGet, 5));
        let breaks: Vec<_> = engine.occurrences().iter().map(|found| found.breaks).collect();
        let strict = ProfileMask::NONE.with(ProfileId::Strict);
        assert_eq!(breaks, [strict, strict], "the queue of xen-pv is empty for both");
    }

    #[test]
    fn a_watched_engine_tells_every_hazard_by_itself() {
        let mut engine = Engine::new(Config::default());
        engine.process(&record(Kind::Section, Op::Enter, 1));
        engine.process(&record(Kind::Write, Op::SetPtes, 5));
        engine.process(&record(Kind::Read, Op::PtepGet, 5));
        assert_eq!(engine.take_hazards(), [], "nobody asked for that one");
        engine.watch();
        for _ in 0..2 {
            engine.process(&Record { tgid: 7, ..record(Kind::Read, Op::PtepGet, 5) });
        }
        let hazards = engine.take_hazards();
        let parties: Vec<_> = hazards
            .iter()
            .map(|hazard| {
                (hazard.example.process, hazard.example.write_process, hazard.example.write_task.tid())
            })
            .collect();
        assert_eq!(parties, [(ProcessId(7), ProcessId(0), 1); 2]);
        assert_eq!(engine.take_hazards(), []);
        assert!(engine.in_section(TaskId::of(&record(Kind::Read, Op::PtepGet, 5))));
    }

    #[test]
    fn a_section_that_ended_leaves_no_state() {
        let mut engine = Engine::new(Config::default());
        for _ in 0..1000 {
            engine.process(&record(Kind::Section, Op::Enter, 1));
            engine.process(&record(Kind::Write, Op::SetPtes, 5));
            engine.process(&record(Kind::Section, Op::Leave, 0));
        }
        assert!(engine.pending.is_empty());
        assert!(engine.sections.ids().is_empty());
    }
}

//! The state machine: one record at a time.
//!
//! Nothing here knows a rule or an architecture: it keeps the sections and the pending writes. What is shown to the rules
//! is in `judge`, what is forgotten when records are missing in `doubt`, what comes late or not at all because the kernel
//! side kept it back in `held`, what others may look at in `look`.

mod doubt;
mod held;
mod judge;
mod look;
#[cfg(test)]
mod tests;

pub use look::{Open, Waiting};

use lazymmu_abi::{Context, Flags, Kind, Op, Record};
use rustc_hash::FxHashMap;

use self::judge::Met;
use crate::config::Config;
use crate::cpus::Cpus;
use crate::nests::{Left, Nests};
use crate::occurrence::{Hazard, Occurrence, Occurrences};
use crate::outcome::{Gap, Losses, Outcome};
use crate::pending::{Table, Write};
use crate::profile::{Masks, ProfileMask};
use crate::rules::{Call, Event, View};
use crate::section::{self, Effect, Mode, Trust};
use crate::statistics::Statistics;
use crate::tasks::{Names, Section, SectionId, Sections, Story};
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, TaskName};

/// The detector.
pub struct Engine {
    config: Config,
    masks: Masks,
    sections: Sections,
    /// The mode by CPU, where that is told.
    cpus: Cpus,
    /// What the calls tell where the kernel does not count.
    nests: Nests,
    /// Sections by the call that opened them: all, and those that gained nothing.
    opened: FxHashMap<StackId, (u64, u64)>,
    pending: Table,
    /// What the access at hand met; kept for its memory.
    met: Vec<Met>,
    names: Names,
    found: Occurrences,
    statistics: Statistics,
    losses: Losses,
    gaps: Vec<Gap>,
    start: Option<Nanos>,
    /// The time of the record at hand.
    now: Nanos,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            masks: Masks::new(),
            sections: Sections::default(),
            cpus: Cpus::default(),
            nests: Nests::default(),
            opened: FxHashMap::default(),
            pending: Table::new(config.max_pending),
            met: Vec::new(),
            names: Names::default(),
            found: Occurrences::default(),
            statistics: Statistics::default(),
            losses: Losses::default(),
            gaps: Vec::new(),
            start: None,
            now: Nanos(0),
        }
    }

    /// Takes in one record. Never fails: what it does not understand, it counts.
    #[inline]
    pub fn process(&mut self, record: &Record) {
        self.start.get_or_insert(Nanos(record.time));
        self.now = Nanos(record.time);
        self.statistics.records += 1;
        self.statistics.count_kind(record.kind);
        match Kind::try_from(record.kind) {
            Ok(kind @ (Kind::Write | Kind::Rmw)) if record.flags & Flags::HELD != 0 => {
                self.held(kind, record);
            }
            Ok(kind @ (Kind::Read | Kind::Write | Kind::Rmw)) => self.access(kind, record),
            Ok(Kind::Section) => self.section(record),
            Ok(Kind::Switch) => self.switched(record),
            Ok(Kind::TaskExit) => self.exited(record),
            Ok(Kind::TaskName) => self.names.insert(TaskId::of(record), TaskName::of(record)),
            Ok(Kind::Lost) => self.lost(record),
            Ok(Kind::TlbFlush | Kind::Fault) => self.used(record),
            Ok(Kind::Stack) | Err(_) => self.statistics.unknown += 1,
        }
        if self.found.holds() && record.kind != Kind::Lost as u8 {
            self.found.confirm(Some(TaskId::of(record)));
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

    /// No more records come: what waited for the next one is certain. To be called before the hazards are taken for the
    /// last time.
    pub fn end(&mut self) {
        self.found.confirm(None);
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

    /// As [`Engine::watch`], and tells hazards that the next records may show to be none.
    pub fn watch_possible(&mut self) {
        self.found.hold_nothing();
        self.watch();
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

    /// Everything so far that is certain.
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
    pub fn finish(mut self) -> Outcome {
        self.end();
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
        let (task, cpu) = (TaskId::of(record), CpuId(record.cpu));
        // In an interrupt the mode is off and its calls do nothing (include/linux/pgtable.h, 7.2:217).
        if record.context() != Context::Task {
            self.statistics.in_interrupts += 1;
            if let Some(id) = self.find(task, cpu) {
                let section = self.view(id);
                self.happened(record, Event::InterruptCall { section });
            }
            return;
        }
        let counters = Mode::in_record(record);
        if matches!(op, Op::ArchEnter | Op::ArchLeave) {
            let found = if op == Op::ArchEnter {
                self.cpus.entered(cpu, task, counters.is_none())
            } else {
                self.cpus.left(cpu, counters.is_none())
            };
            if let Some(found) = found {
                self.happened(record, Event::Cpu(found));
            }
            return;
        }
        if self.cpus.told() {
            self.cpus.heard(cpu);
        }
        let open = self.find(task, cpu);
        if let Some(id) = open
            && record.entry != 0
        {
            self.left_out(id, record);
        }
        let before = open.map(|id| self.sections.get(id).mode);
        let step = section::step(before, op, counters);
        if let (Some(id), Some(before), Some(told)) = (open, before, counters)
            && step.trust == Trust::Gap
        {
            self.miscounted(record, id, section::expected(before, op), told);
        }
        self.statistics.resynced += u64::from(step.trust == Trust::Gap);
        if let Some(id) = open
            && step.trust != Trust::Sure
        {
            self.forget_writes_of(id);
            self.sections.get(id).story.doubtful = true;
            self.found.withdraw(Some(task));
        }
        let left = self.follow(record, op, open, counters);
        let section = open.map(|id| self.view(id));
        let from_outside = left == Left::Nothing;
        self.happened(record, Event::Call(Call { op, section, after: counters, from_outside }));
        self.count(step.effect, step.mode);
        if let Some(id) = open
            && step.effect.flushes()
        {
            if self.cpus.told() {
                self.left_behind(record, id);
            }
            let entries = self.flush(id);
            if step.effect == Effect::Left {
                self.over(record, id);
            } else if entries > 0 {
                self.sections.get(id).story.flushes += 1;
            }
        }
        match open {
            Some(id) if step.mode.enable == 0 => {
                self.forget_writes_of(id);
                self.sections.close(id);
            }
            Some(id) => self.sections.get(id).went_on(op, step),
            None if step.mode.enable == 0 => {}
            None => {
                let entered = step.effect == Effect::Entered;
                let opener = if entered { StackId(record.stack) } else { StackId::NONE };
                let id = self.sections.open(task, cpu, step.mode, opener);
                self.sections.get(id).story = Story { counters: counters.is_some(), ..Story::default() };
                self.sections.get(id).emptied(self.now);
            }
        }
    }

    /// What an enter or leave means on a kernel that keeps no counters.
    fn follow(&mut self, record: &Record, op: Op, open: Option<SectionId>, counters: Option<Mode>) -> Left {
        let task = TaskId::of(record);
        match op {
            Op::Enter if counters.is_none() => {
                let inside = open.map(|id| self.sections.get(id).opener);
                self.nests.entered(task, StackId(record.stack), inside);
            }
            Op::Leave if counters.is_none() => {
                let known = open.is_some_and(|id| !self.sections.get(id).story.doubtful);
                let left = self.nests.left(task, known);
                if let Left::Nest(nest) = left {
                    self.nested(record, nest);
                }
                return left;
            }
            _ => {}
        }
        Left::Section
    }

    fn view(&mut self, id: SectionId) -> View {
        let Section { mode, story, .. } = *self.sections.get(id);
        View { mode, story }
    }

    /// The task's open section. If the task was moved and no record told of it, more than that may be missing, and
    /// what was pending is forgotten.
    #[inline]
    fn find(&mut self, task: TaskId, cpu: CpuId) -> Option<SectionId> {
        let id = self.sections.find(task, cpu)?;
        if !self.sections.get(id).seen_on(cpu) {
            self.strayed(id, task);
        }
        Some(id)
    }

    #[cold]
    fn strayed(&mut self, id: SectionId, task: TaskId) {
        self.statistics.moved += 1;
        self.forget_writes_of(id);
        let section = self.sections.get(id);
        (section.story.doubtful, section.strayed) = (true, true);
        self.nests.doubt(task);
        self.found.withdraw(Some(task));
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
            Some(id) if in_task => self.sections.get(id).is_on(),
            _ => false,
        };
        self.statistics.in_sections += u64::from(active);
        self.statistics.in_interrupts += u64::from(!in_task);
        if Op::kind_of(record.op) != Some(kind) {
            self.statistics.unknown += 1;
            return;
        }
        let changes = kind != Kind::Read;
        if changes {
            match section {
                Some(id) if active => self.sections.get(id).story.changed += u64::from(record.count.max(1)),
                Some(id) if !in_task => self.interrupted(record, id),
                _ => {}
            }
        }
        if in_task && self.cpus.told() {
            self.compare(record, section, active);
        }
        let first_flushed = self.masks.flushes_first[usize::from(record.op)];
        if active
            && !first_flushed.is_empty()
            && let Some(id) = section
        {
            self.settle(id, first_flushed);
        }
        if !self.pending.is_empty()
            && (record.count > 1 || self.pending.at(EntryAddr(record.entry)).is_some())
        {
            self.meet(kind, record, section, active);
        }
        if changes {
            let waits = section.is_some_and(|id| self.queue(id, kind, record, active));
            if !waits && !self.pending.is_empty() {
                self.pending.disturb(EntryAddr(record.entry), record.count.max(1));
            }
        }
    }

    /// A change inside a section: its store may wait. Returns whether it does, somewhere, and is kept.
    #[inline]
    fn queue(&mut self, id: SectionId, kind: Kind, record: &Record, active: bool) -> bool {
        let op = usize::from(record.op);
        let (queues, waits) = match active {
            true => (self.masks.queues[op], self.masks.queues[op].or(self.masks.joins[op])),
            false if self.sections.get(id).is_on() => (ProfileMask::NONE, self.masks.joins_in_interrupt[op]),
            false => return false,
        };
        if waits.is_empty() {
            return false;
        }
        let counted = !queues.is_empty();
        let late = if counted { self.masks.late } else { ProfileMask::NONE };
        let section = self.sections.get(id);
        let opener = section.opener;
        let (first, count) = (EntryAddr(record.entry), record.count.max(1));
        let write = || Write {
            owner: TaskId::of(record),
            process: ProcessId(record.tgid),
            cpu: CpuId(record.cpu),
            time: Nanos(record.time),
            first,
            count,
            op: record.op,
            level: record.level,
            // A read-modify-write tells the old value, not the new one.
            value: if kind == Kind::Write { record.known_value() } else { None },
            stack: StackId(record.stack),
            opener,
            waits,
            late,
            counted,
        };
        self.statistics.entries_written += if counted { u64::from(count) } else { 0 };
        let kept = match self.pending.place_for_one(first, count, counted) {
            Some((id, place)) => {
                *place = write();
                Some(id)
            }
            None => self.pending.insert(write()),
        };
        match kept {
            Some(write) => section.writes.push(write),
            None => self.statistics.untracked += 1,
        }
        self.statistics.max_pending = self.statistics.max_pending.max(self.pending.len() as u64);
        kept.is_some()
    }

    fn switched(&mut self, record: &Record) {
        let (task, cpu) = (TaskId::of(record), CpuId(record.cpu));
        let next = TaskId::of(&Record { tid: record.value as u32, ..*record });
        self.cpus.switched(cpu, task, next);
        let Some(id) = self.find(task, cpu) else { return };
        if let Ok(op) = Op::try_from(record.op) {
            let section = self.view(id);
            self.happened(record, Event::Switched { section, op });
        }
        self.settle(id, self.masks.on_switch);
        let section = self.sections.get(id);
        (section.switched_out, section.away) = (true, true);
    }

    fn exited(&mut self, record: &Record) {
        let task = TaskId::of(record);
        if let Some(id) = self.find(task, CpuId(record.cpu)) {
            if record.entry != 0 {
                self.left_out(id, record);
            }
            let section = self.view(id);
            self.happened(record, Event::Exited { section });
            self.drop_writes(id);
            self.sections.close(id);
        }
        self.nests.ended(task);
        self.names.remove(task);
    }

    /// Everything that the section has pending is in memory now. Returns how many entries that were.
    fn flush(&mut self, id: SectionId) -> u64 {
        let entries = self.drop_writes(id);
        self.statistics.batch_sizes.add(entries);
        entries
    }

    /// Takes the section's writes out of the table. Returns how many entries they had.
    fn drop_writes(&mut self, id: SectionId) -> u64 {
        let mut entries = 0;
        for write in self.sections.get(id).writes.drain(..) {
            entries += self.pending.remove(write) as u64;
        }
        let now = self.now;
        entries + self.sections.get(id).emptied(now)
    }

    /// The same where it is not known whether they are in memory.
    fn forget_writes_of(&mut self, id: SectionId) {
        for write in self.sections.get(id).writes.drain(..) {
            self.pending.forget(write);
        }
        let now = self.now;
        self.sections.get(id).emptied(now);
    }

    /// What the section has pending is in memory now, but only on these profiles.
    fn settle(&mut self, id: SectionId, profiles: ProfileMask) {
        let now = self.now;
        let section = self.sections.get(id);
        for write in &section.writes {
            self.pending.settle(*write, profiles);
        }
        // Of what is told late, this was before.
        match section.settled.iter_mut().find(|(_, settled)| *settled == profiles) {
            Some((last, _)) => *last = now,
            None if profiles.is_empty() => {}
            None => section.settled.push((now, profiles)),
        }
    }
}

//! What is shown to the rules, and what becomes of their answers.

use lazymmu_abi::{Context, Kind, Level, Op, Record};

use super::Engine;
use crate::cpus::Disagreement;
use crate::nests::Nest;
use crate::occurrence::{Example, Hazard, Place, Proof, Written};
use crate::pending::{Pending, Write, WriteId};
use crate::profile::{self, ProfileMask};
use crate::rules::{Encounter, Event, RULES, RuleId, Severity, Who};
use crate::section::{Mode, UNDERFLOWN};
use crate::tasks::SectionId;
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, VirtRange};

/// A pending write that something met at an entry.
pub(super) struct Met {
    pending: Pending,
    entry: EntryAddr,
    encounter: Encounter,
}

/// What came to an entry after a write.
#[derive(Default)]
struct Later {
    waits: ProfileMask,
    late: ProfileMask,
    /// By task; two tasks at one entry are rare, more are rarer.
    own: Vec<(TaskId, ProfileMask)>,
}

impl Later {
    /// The profiles in which the write is what an access missed, or what will go over a change. An access that only looks
    /// missed the latest; over a store that is done at once goes the last of each queue.
    fn of(&self, write: &Write, stores: ProfileMask) -> ProfileMask {
        let own = self.own.iter().filter(|(task, _)| *task == write.owner);
        let own = own.fold(ProfileMask::NONE, |all, (_, waits)| all.or(*waits));
        write.waits.without(self.waits).or(write.waits.without(own).and(stores))
    }

    fn add(&mut self, write: &Write) {
        self.waits = self.waits.or(write.waits);
        self.own.push((write.owner, write.waits));
    }
}

impl Engine {
    /// Shows the rules each pending write that the access meets. `active`: whether the mode is on for the access.
    #[inline]
    pub(super) fn meet(&mut self, kind: Kind, record: &Record, section: Option<SectionId>, active: bool) {
        let first = EntryAddr(record.entry);
        let mut any = false;
        for index in 0..u64::from(record.count.max(1)) {
            let entry = first.advance(index);
            if let Some(top) = self.pending.at(entry) {
                any |= self.met_at(kind, record, entry, top, section, active);
            }
        }
        if any {
            self.judge(kind, record);
        }
    }

    /// Takes note of the writes that the access meets at an entry, with the profiles in which each may do harm. Returns
    /// whether there are any.
    fn met_at(
        &mut self,
        kind: Kind,
        record: &Record,
        entry: EntryAddr,
        top: Pending,
        section: Option<SectionId>,
        active: bool,
    ) -> bool {
        let (op, masks) = (usize::from(record.op), &self.masks);
        let interrupts =
            record.context() != Context::Task && section.is_some_and(|id| self.sections.get(id).is_on());
        let queued = match (active, interrupts) {
            (true, _) => masks.queues[op].or(masks.joins[op]),
            (_, true) => masks.joins_in_interrupt[op],
            _ => ProfileMask::NONE,
        };
        let stores = if active { masks.stores[op] } else { masks.stores_outside[op].without(queued) };
        let raw = Op::try_from(record.op).is_ok_and(Op::is_raw);
        let task = TaskId::of(record);
        let mut later = Later::default();
        let before = self.met.len();
        for pending in self.pending.chain(entry, top) {
            let write = self.pending.write(pending.write);
            let who = Who::of(write.owner == task, record.context());
            // What another task changed there since may be in its own queue, where its accessors look.
            let elsewhere = who == Who::Other && !pending.disturbed;
            let sees_memory = if elsewhere { masks.sees_memory_elsewhere[op] } else { masks.sees_memory[op] };
            let waits = later.of(write, stores);
            if top.hides {
                later.add(write);
            }
            let harms = match kind {
                _ if raw => waits,
                Kind::Write => waits.without(queued),
                _ => waits.and(sees_memory),
            };
            if !harms.is_empty() {
                let encounter =
                    Encounter { kind, who, raw, waits, late: ProfileMask::NONE, sees_memory, queued };
                self.met.push(Met { pending, entry, encounter });
            }
        }
        self.met.len() > before
    }

    /// A use of a mapping, or a flush of the TLB, inside a section: shows the rules each pending write of the task that
    /// may have to do with it.
    #[cold]
    pub(super) fn used(&mut self, record: &Record) {
        let (kind, range) = match Kind::try_from(record.kind) {
            Ok(Kind::TlbFlush) => (Kind::TlbFlush, VirtRange { start: record.entry, end: record.value }),
            _ => (Kind::Fault, VirtRange { start: record.entry, end: record.entry.saturating_add(1) }),
        };
        let task = TaskId::of(record);
        let Some(id) = self.find(task, CpuId(record.cpu)) else { return };
        let arch = self.config.arch;
        let writes = std::mem::take(&mut self.sections.get(id).writes);
        for id in writes.iter().copied() {
            let Write { first, count, level, value, .. } = *self.pending.write(id);
            let Ok(level) = Level::try_from(level) else { continue };
            // The first value tells for all: one write works in one half. A fault is a use of what a write maps; a
            // flush may be for what a write took away.
            let meant = value.and_then(|value| arch.maps_in_half_of(value, range));
            if !meant.unwrap_or(kind == Kind::TlbFlush) {
                continue;
            }
            for entry in (0..u64::from(count)).map(|index| first.advance(index)) {
                if arch.may_map(entry, level, range) {
                    self.used_at(kind, record, entry, id);
                }
            }
        }
        self.sections.get(id).writes = writes;
        self.judge(kind, record);
    }

    /// Takes note of a write of the task itself, if none came after it.
    fn used_at(&mut self, kind: Kind, record: &Record, entry: EntryAddr, id: WriteId) {
        let Some(top) = self.pending.at(entry) else { return };
        let who = Who::of(true, record.context());
        let mut later = Later::default();
        for pending in self.pending.chain(entry, top) {
            let write = self.pending.write(pending.write);
            if pending.write == id {
                let (waits, late) = (write.waits.without(later.waits), write.late.without(later.late));
                let (sees_memory, queued) = (ProfileMask::ALL, ProfileMask::NONE);
                let encounter = Encounter { kind, who, raw: false, waits, late, sees_memory, queued };
                self.met.push(Met { pending, entry, encounter });
                return;
            }
            if write.owner == TaskId::of(record) {
                later.waits = later.waits.or(write.waits);
                later.late = later.late.or(write.late);
            }
        }
    }

    /// Shows the rules what was met. One access and one write are one hazard, however many entries both cover.
    #[cold]
    fn judge(&mut self, kind: Kind, record: &Record) {
        let met = std::mem::take(&mut self.met);
        for (number, Met { pending, .. }) in met.iter().enumerate() {
            let id = pending.write;
            if met[..number].iter().any(|earlier| earlier.pending.write == id) {
                continue;
            }
            let same = met[number..].iter().filter(|other| other.pending.write == id);
            for rule in &RULES {
                let Some(check) = rule.on_encounter else { continue };
                let broken = same.clone().map(|met| (met, check(met.encounter)));
                let mut broken = broken.filter(|(_, breaks)| !breaks.is_empty());
                let Some((first, breaks)) = broken.next() else { continue };
                let breaks = broken.fold(breaks, |all, (_, breaks)| all.or(breaks));
                self.encounter(kind, record, first, rule.info.id, breaks);
            }
        }
        self.met = met;
        self.met.clear();
    }

    /// A hazard with a pending write.
    fn encounter(&mut self, kind: Kind, record: &Record, met: &Met, rule: RuleId, breaks: ProfileMask) {
        let write = *self.pending.write(met.pending.write);
        let place = Place {
            rule,
            breach: None,
            write_op: Some(write.op),
            access_kind: kind,
            access_op: record.op,
            level: if matches!(kind, Kind::Fault | Kind::TlbFlush) { write.level } else { record.level },
            write: Some(write.stack),
            access: StackId(record.stack),
            opener: Some(write.opener),
        };
        let example = self.encountered(kind, record, met.entry, met.pending, &write);
        if met.encounter.who == Who::Other {
            self.found.hold(Hazard { place, breaks, example });
        } else {
            self.found.add(place, breaks, example);
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
            (Some(value), Some(seen)) if !pending.disturbed && !pending.behind => {
                arch.same_entry(value, seen)
            }
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
        if Op::try_from(record.op).is_ok_and(Op::is_raw) {
            return;
        }
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

    /// The counters that the kernel tells are not those that the calls give. If the task was elsewhere in between, calls
    /// may be missing that nobody has told of yet.
    #[cold]
    pub(super) fn miscounted(&mut self, record: &Record, id: SectionId, expected: Mode, told: Mode) {
        let section = self.sections.get(id);
        let counted_below = told.enable == UNDERFLOWN || told.pause == UNDERFLOWN;
        if !section.story.doubtful && !section.away && !counted_below {
            self.happened(record, Event::Miscounted { expected, told });
        }
    }

    /// Compares what waits in the section with the CPUs on which it was queued: what the task flushes here is not in
    /// the queue of a CPU that still has the mode on for it.
    #[cold]
    pub(super) fn left_behind(&mut self, record: &Record, id: SectionId) {
        let (task, here) = (TaskId::of(record), CpuId(record.cpu));
        let section = self.sections.get(id);
        let writes = section.writes.iter().map(|write| self.pending.write(*write));
        let mut elsewhere = writes.filter(|write| write.counted && write.cpu != here);
        let found = !section.story.doubtful && elsewhere.any(|write| self.cpus.left_behind(write.cpu, task));
        if found {
            self.happened(record, Event::Cpu(Disagreement::LeftBehind));
        }
    }

    /// Compares what the CPU has of the mode with what the task has.
    #[cold]
    pub(super) fn compare(&mut self, record: &Record, section: Option<SectionId>, active: bool) {
        self.cpus.heard(CpuId(record.cpu));
        if section.is_some_and(|id| self.sections.get(id).story.doubtful) {
            self.cpus.unsure(CpuId(record.cpu), TaskId::of(record));
            return;
        }
        if let Some(found) = self.cpus.seen(CpuId(record.cpu), TaskId::of(record), active) {
            self.happened(record, Event::Cpu(found));
        }
    }
}

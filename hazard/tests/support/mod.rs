//! Records for the tests, written as a kernel would run: who, on which CPU, does what.

#![allow(dead_code, reason = "each test uses its part")]

use lazymmu_abi::{Context, Flags, Kind, Level, Op, Record};
use lazymmu_hazard::{Arch, Config, Engine, Outcome, StackId, StackNames};

/// An address in a page table; the index is that of the entry.
pub(crate) fn entry(index: u64) -> u64 {
    0xffff_8880_0400_0000 + 8 * index
}

/// A task on a CPU.
#[derive(Clone, Copy)]
pub(crate) struct On {
    pub(crate) tid: u32,
    pub(crate) cpu: u16,
    pub(crate) context: Context,
    /// The counters that the records of mode calls carry; `None` for a kernel before 7.0.
    pub(crate) counters: bool,
}

pub(crate) const fn task(tid: u32, cpu: u16) -> On {
    On { tid, cpu, context: Context::Task, counters: true }
}

impl On {
    pub(crate) const fn without_counters(self) -> Self {
        Self { counters: false, ..self }
    }

    pub(crate) const fn in_context(self, context: Context) -> Self {
        Self { context, ..self }
    }

    pub(crate) const fn on_cpu(self, cpu: u16) -> Self {
        Self { cpu, ..self }
    }
}

/// A list of records that grows in time.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Record>,
}

impl Log {
    pub(crate) fn push(&mut self, on: On, kind: Kind, op: u8, record: Record) -> &mut Self {
        let time = 1_000_000 + 100 * self.records.len() as u64;
        let flags = record.flags | on.context as u8;
        let code = kind as u8;
        self.records.push(Record {
            time,
            tid: on.tid,
            tgid: on.tid,
            cpu: on.cpu,
            kind: code,
            op,
            flags,
            ..record
        });
        self
    }

    pub(crate) fn mode(&mut self, on: On, op: Op, enable: u64, pause: u64, stack: u64) -> &mut Self {
        let unknown = u64::from(u32::MAX);
        let (value, memory) = if on.counters { (enable, pause) } else { (unknown, unknown) };
        let flags = Flags::VALUE | Flags::MEMORY;
        self.push(on, Kind::Section, op as u8, Record { value, memory, stack, flags, ..Record::default() })
    }

    pub(crate) fn enter(&mut self, on: On) -> &mut Self {
        self.mode(on, Op::Enter, 1, 0, STACK_ENTER)
    }

    pub(crate) fn leave(&mut self, on: On) -> &mut Self {
        self.mode(on, Op::Leave, 0, 0, STACK_LEAVE)
    }

    pub(crate) fn write(&mut self, on: On, op: Op, first: u64, count: u16, value: u64) -> &mut Self {
        let level = op.info().level.map_or(0, |level| level as u8);
        let record = Record {
            entry: first,
            count,
            value,
            stack: STACK_WRITE,
            level,
            flags: Flags::VALUE,
            ..Record::default()
        };
        self.push(on, Kind::Write, op as u8, record)
    }

    pub(crate) fn set(&mut self, on: On, index: u64, value: u64) -> &mut Self {
        self.write(on, Op::SetPtes, entry(index), 1, value)
    }

    pub(crate) fn read(&mut self, on: On, index: u64, value: u64) -> &mut Self {
        let record = Record {
            entry: entry(index),
            count: 1,
            value,
            memory: value,
            stack: STACK_READ,
            level: Level::Pte as u8,
            flags: Flags::VALUE | Flags::MEMORY,
            ..Record::default()
        };
        self.push(on, Kind::Read, Op::PtepGet as u8, record)
    }

    pub(crate) fn rmw(&mut self, on: On, op: Op, index: u64, count: u16, old: u64) -> &mut Self {
        let level = op.info().level.map_or(0, |level| level as u8);
        let record = Record {
            entry: entry(index),
            count,
            value: old,
            stack: STACK_RMW,
            level,
            flags: Flags::VALUE,
            ..Record::default()
        };
        self.push(on, Kind::Rmw, op as u8, record)
    }

    pub(crate) fn switch(&mut self, on: On, next: u32) -> &mut Self {
        self.push(
            on,
            Kind::Switch,
            Op::Preempted as u8,
            Record { value: u64::from(next), ..Record::default() },
        )
    }

    pub(crate) fn lost(&mut self, cpu: u16, kind: Option<Kind>, count: u64) -> &mut Self {
        let record = Record { value: count, ..Record::default() };
        self.push(task(0, cpu), Kind::Lost, kind.map_or(0, |kind| kind as u8), record)
    }

    pub(crate) fn run(&self) -> Outcome {
        let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
        engine.process_all(&self.records);
        engine.finish()
    }
}

pub(crate) const STACK_ENTER: u64 = 1;
pub(crate) const STACK_LEAVE: u64 = 2;
pub(crate) const STACK_WRITE: u64 = 3;
pub(crate) const STACK_READ: u64 = 4;
pub(crate) const STACK_RMW: u64 = 5;

/// The names of those stacks, as in the fork of a device-exclusive range.
pub(crate) struct ForkNames;

impl StackNames for ForkNames {
    fn innermost(&self, stack: StackId) -> Option<String> {
        let name = match stack.0 {
            STACK_ENTER | STACK_READ => "copy_pte_range.constprop.0",
            STACK_WRITE => "restore_exclusive_pte",
            STACK_RMW => "__copy_present_ptes.isra.0.cold",
            _ => return None,
        };
        Some(name.to_owned())
    }
}

/// Rule names with their counts, in the order of the first sight.
pub(crate) fn found(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    outcome.occurrences.iter().map(|found| (found.place.rule.info().name, found.count)).collect()
}

/// How many hazards of the rule `read-pending` there are.
pub(crate) fn read_pending(log: &Log) -> u64 {
    found(&log.run()).iter().filter(|(rule, _)| *rule == "read-pending").map(|(_, count)| count).sum()
}

/// The value of an entry that maps a page, as written by the kernel.
pub(crate) const PRESENT: u64 = 0x8000_0000_0123_4867;

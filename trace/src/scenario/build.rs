//! Makes records out of what the statements say. Knows no words, only what they mean.

use std::collections::BTreeMap;
use std::ops::Range;

use lazymmu_abi::{Context, Flags, Kind, Level, Op, Record};

use super::mode::Counters;
use super::path::{Path, Stacks};

/// The first record's time, and the time from one record to the next, in ns.
const START: u64 = 1_000_000_000;
const STEP: u64 = 1_000;
/// Where made-up entries stand: in x86-64's direct map. Each name begins a page of its own, so that no two meet.
const ENTRIES: u64 = 0xffff_8880_0400_0000;
const PAGE: u64 = 4096;
/// The kernel's half of x86-64's address space.
const KERNEL_HALF: u64 = 1 << 63;
/// Where the address spaces of made-up processes stand, by thread group, and the room for each.
const SPACES: u64 = 0xffff_8880_0300_0000;
const SPACE: u64 = 0x1000;
/// The first thread id.
const TIDS: u32 = 101;
/// The state of a task that gave up the CPU: `TASK_UNINTERRUPTIBLE` (include/linux/sched.h, 6.12 and 7.2).
const BLOCKED: u64 = 2;

/// Some entries side by side, under one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    pub(super) first: u64,
    pub(super) level: Level,
    pub(super) count: u16,
}

/// A task by the order of its first mention; the idle tasks are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Idle,
    Named(usize),
}

struct TaskState {
    name: String,
    tgid: u32,
    counters: Counters,
    announced: bool,
}

/// Who does the steps that follow.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) task: Task,
    pub(super) cpu: u16,
    pub(super) context: Context,
    pub(super) path: Path,
}

/// An access, but for who does it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) kind: Kind,
    pub(super) op: Op,
    pub(super) level: Level,
    pub(super) entry: u64,
    pub(super) count: u16,
    pub(super) value: Option<u64>,
    pub(super) memory: Option<u64>,
}

/// A scenario while it is read.
pub(super) struct Builder {
    /// Whether the kernel keeps counters of the mode.
    pub(super) counters: bool,
    pub(super) values: BTreeMap<String, u64>,
    pub(super) entries: BTreeMap<String, Entries>,
    pub(super) stacks: Stacks,
    pub(super) records: Vec<Record>,
    pub(super) actor: Option<Actor>,
    tasks: Vec<TaskState>,
    /// The task that runs on each CPU, as far as it was told.
    running: BTreeMap<u16, Task>,
    next_entry: u64,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            counters: true,
            values: BTreeMap::new(),
            entries: BTreeMap::new(),
            stacks: Stacks::default(),
            records: Vec::new(),
            actor: None,
            tasks: Vec::new(),
            running: BTreeMap::new(),
            next_entry: ENTRIES,
        }
    }

    /// Keeps a name for entries.
    pub(super) fn add_entries(&mut self, name: String, entries: Entries) {
        self.entries.insert(name, entries);
    }

    /// The same for entries that get an address of their own: in a new table, from that index on.
    pub(super) fn place_entries(&mut self, name: String, level: Level, count: u16, index: u64) {
        let first = self.next_entry + 8 * index;
        self.next_entry += (8 * (index + u64::from(count))).next_multiple_of(PAGE);
        self.add_entries(name, Entries { first, level, count });
    }

    /// The task of that name; a new one belongs to the process of `leader`, or to its own.
    pub(super) fn task(&mut self, name: &str, leader: Option<Task>) -> Task {
        if name == "idle" {
            return Task::Idle;
        }
        if let Some(known) = self.known_task(name) {
            return known;
        }
        let tgid = match leader {
            Some(Task::Named(leader)) => self.tasks[leader].tgid,
            Some(Task::Idle) => 0,
            None => tid_of(Task::Named(self.tasks.len())),
        };
        let counters = Counters::default();
        self.tasks.push(TaskState { name: name.to_owned(), tgid, counters, announced: false });
        Task::Named(self.tasks.len() - 1)
    }

    pub(super) fn known_task(&self, name: &str) -> Option<Task> {
        self.tasks.iter().position(|task| task.name == name).map(Task::Named)
    }

    /// The task that was last seen on a CPU.
    pub(super) fn running(&self, cpu: u16) -> Option<Task> {
        self.running.get(&cpu).copied()
    }

    /// The following steps are of this task or interrupt.
    pub(super) fn act(&mut self, actor: Actor) {
        self.running.insert(actor.cpu, actor.task);
        self.actor = Some(actor);
    }

    /// A mode call; the record carries the counters that the kernel has after it.
    pub(super) fn mode(&mut self, actor: &Actor, op: Op, given: Option<Counters>) {
        let in_task = actor.context == Context::Task;
        let counters = match actor.task {
            Task::Named(task) => {
                let counters = &mut self.tasks[task].counters;
                // In an interrupt the calls have no effect (include/linux/pgtable.h, 7.2.13:265).
                *counters = given.unwrap_or(if in_task { counters.after(op) } else { *counters });
                *counters
            }
            Task::Idle => given.unwrap_or_default(),
        };
        // The hook's word for a counter that the kernel does not have.
        let none = u64::from(u32::MAX);
        let (value, memory) =
            if self.counters { (counters.enable.into(), counters.pause.into()) } else { (none, none) };
        let flags = Flags::VALUE | Flags::MEMORY;
        self.push(actor, Record { value, memory, flags, ..of_kind(Kind::Section, op as u8) });
    }

    pub(super) fn access(&mut self, actor: &Actor, access: Access) {
        let Access { kind, op, level, entry, count, value, memory } = access;
        let flags = known(value, Flags::VALUE) | known(memory, Flags::MEMORY);
        let (value, memory) = (value.unwrap_or_default(), memory.unwrap_or_default());
        let level = level as u8;
        self.push(actor, Record { entry, value, memory, count, level, flags, ..of_kind(kind, op as u8) });
    }

    /// The CPU goes from one task to another.
    pub(super) fn switch(&mut self, cpu: u16, from: Task, to: Task, op: Op) {
        let value = tid_of(to).into();
        let memory = if op == Op::Blocked { BLOCKED } else { 0 };
        let flags = Flags::VALUE | Flags::MEMORY;
        let actor = Actor { task: from, cpu, context: Context::Task, path: Path::new() };
        self.push(&actor, Record { value, memory, flags, ..of_kind(Kind::Switch, op as u8) });
        self.running.insert(cpu, to);
        if self.actor.as_ref().is_some_and(|actor| actor.cpu == cpu) {
            self.actor = None;
        }
    }

    /// A range of the TLB was flushed: of the kernel's half of the address space, or of the process.
    pub(super) fn tlb_flush(&mut self, actor: &Actor, range: &Range<u64>) {
        let Range { start, end } = *range;
        let process = u64::from(self.tgid_of(actor.task));
        let memory = if start >= KERNEL_HALF { 0 } else { SPACES + SPACE * process };
        let flags = Flags::VALUE | Flags::MEMORY;
        self.push(actor, Record { entry: start, value: end, memory, flags, ..of_kind(Kind::TlbFlush, 0) });
    }

    /// The kernel faulted at an address, with the processor's error code.
    pub(super) fn fault(&mut self, actor: &Actor, address: u64, code: u64) {
        let flags = Flags::VALUE;
        self.push(actor, Record { entry: address, value: code, flags, ..of_kind(Kind::Fault, 0) });
    }

    pub(super) fn exit(&mut self, actor: &Actor) {
        self.push(actor, of_kind(Kind::TaskExit, 0));
    }

    /// Records are missing; on any CPU if none is given, of any kind if none is given, 0 if nobody knows how many.
    pub(super) fn lost(&mut self, cpu: Option<u16>, kind: Option<Kind>, count: u64) {
        let op = kind.map_or(0, |kind| kind as u8);
        let flags = known((count > 0).then_some(count), Flags::VALUE);
        let cpu = cpu.unwrap_or(Record::ANY_CPU);
        let time = self.time();
        self.records.push(Record { time, cpu, value: count, flags, ..of_kind(Kind::Lost, op) });
    }

    /// How many CPUs the machine has: one more than the highest that was named.
    pub(super) fn cpus(&self) -> u32 {
        self.running.keys().last().map_or(1, |cpu| u32::from(*cpu) + 1)
    }

    pub(super) fn time(&self) -> u64 {
        START + STEP * self.records.len() as u64
    }

    fn push(&mut self, actor: &Actor, record: Record) {
        self.announce(actor);
        let (stack, caller) = self.stacks.id(&actor.path);
        let flags = record.flags | actor.context as u8;
        let record = Record { stack, caller, flags, cpu: actor.cpu, ..record };
        self.records.push(Record { time: self.time(), ..self.of_task(actor.task, record) });
    }

    /// A task's name comes before its first record.
    fn announce(&mut self, actor: &Actor) {
        let Task::Named(index) = actor.task else { return };
        if std::mem::replace(&mut self.tasks[index].announced, true) {
            return;
        }
        let mut bytes = [0; 16];
        // The kernel keeps 15 bytes and a zero.
        for (byte, from) in bytes[..15].iter_mut().zip(self.tasks[index].name.bytes()) {
            *byte = from;
        }
        let [low, high] = [&bytes[..8], &bytes[8..]]
            .map(|half| half.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)));
        let time = self.time();
        let record = Record { time, cpu: actor.cpu, ..self.of_task(actor.task, of_kind(Kind::TaskName, 0)) };
        self.records.push(Record { entry: low, value: high, ..record });
    }

    fn of_task(&self, task: Task, record: Record) -> Record {
        Record { tid: tid_of(task), tgid: self.tgid_of(task), ..record }
    }

    fn tgid_of(&self, task: Task) -> u32 {
        match task {
            Task::Idle => 0,
            Task::Named(index) => self.tasks[index].tgid,
        }
    }
}

fn tid_of(task: Task) -> u32 {
    match task {
        Task::Idle => 0,
        Task::Named(index) => TIDS + index as u32,
    }
}

fn known(value: Option<u64>, flag: u8) -> u8 {
    if value.is_some() { flag } else { 0 }
}

fn of_kind(kind: Kind, op: u8) -> Record {
    Record { kind: kind as u8, op, ..Record::default() }
}

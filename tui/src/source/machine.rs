//! What each CPU and each task is doing: the mode, how deep it is nested, what waits.

use std::collections::BTreeMap;

use lazymmu_abi::{Context, Kind, Op, Record};
use lazymmu_hazard::{Engine, StackId, StackNames, TaskId, without_suffixes};
use lazymmu_report::Names;
use lazymmu_trace::Symbols;

/// CPUs and tasks at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// By number.
    pub cpus: BTreeMap<u16, Cpu>,
    /// The tasks that are in a section, by thread id.
    pub tasks: Vec<Task>,
}

/// What a CPU did last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The task that runs there, if that is told.
    pub task: Option<TaskId>,
    /// Its name.
    pub name: Option<String>,
    /// The last operation; empty if it is not told.
    pub op: &'static str,
    /// `task`, `softirq`, `hardirq` or `nmi`.
    pub context: &'static str,
    /// When: ns since the first record.
    pub time_ns: u64,
    /// Records of it so far; 0 if that is not told.
    pub records: u64,
    /// What is told of the CPU instead of its task.
    pub told: Option<Told>,
}

/// What a source tells of a CPU without saying which task runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether the architecture's mode is on.
    pub mode: &'static str,
    /// How often it was entered and not left.
    pub depth: u32,
    /// Entries that the tasks that ran there last have pending.
    pub pending: u64,
    /// Records of it that were lost.
    pub lost: u64,
}

/// A task in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which.
    pub task: TaskId,
    /// Its name.
    pub name: Option<String>,
    /// Where it was last seen.
    pub cpu: u16,
    /// Whether the mode is on.
    pub on: bool,
    /// How deep it is nested.
    pub depth: u32,
    /// How often it is paused.
    pub pauses: u32,
    /// How many writes wait.
    pub waiting: usize,
    /// The function that entered the section.
    pub opener: String,
}

/// Follows what the CPUs do.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    /// By number.
    cpus: Vec<Option<Last>>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    task: TaskId,
    kind: u8,
    op: u8,
    context: Context,
    time: u64,
    records: u64,
}

impl Tracker {
    pub(super) fn take(&mut self, record: &Record) {
        if record.cpu == Record::ANY_CPU {
            return;
        }
        let mut task = TaskId::of(record);
        if record.kind == Kind::Switch as u8
            && let Some(next) = record.known_value()
        {
            task = TaskId::of(&Record { tid: next as u32, ..*record });
        }
        let cpu = usize::from(record.cpu);
        if cpu >= self.cpus.len() {
            self.cpus.resize(cpu + 1, None);
        }
        let records = self.cpus[cpu].map_or(0, |last| last.records) + 1;
        let (kind, op, context, time) = (record.kind, record.op, record.context(), record.time);
        self.cpus[cpu] = Some(Last { task, kind, op, context, time, records });
    }

    /// What is known now. `start` is the time of the first record.
    pub(super) fn machine(&self, engine: &Engine, symbols: &Symbols, start: u64) -> Machine {
        let name = |task| engine.name_of(task).map(|name| name.to_string());
        let cpus = self.cpus.iter().enumerate().filter_map(|(number, last)| {
            let Last { task, kind, op, context: at, time, records } = (*last)?;
            let time_ns = time.saturating_sub(start);
            let cpu = Cpu {
                task: Some(task),
                name: name(task),
                op: operation(kind, op),
                context: context(at),
                time_ns,
                records,
                told: None,
            };
            Some((number as u16, cpu))
        });
        let tasks = engine.open_sections().into_iter().map(|open| Task {
            task: open.task,
            name: name(open.task),
            cpu: open.cpu.0,
            on: open.on,
            depth: open.depth,
            pauses: open.pauses,
            waiting: open.waiting,
            opener: function(symbols, open.opener).unwrap_or_default(),
        });
        Machine { cpus: cpus.collect(), tasks: tasks.collect() }
    }
}

/// The innermost function of a stack.
pub(super) fn function(symbols: &Symbols, stack: StackId) -> Option<String> {
    Names(symbols).innermost(stack).map(|name| without_suffixes(&name).to_owned())
}

/// The operation of a record in the field's own terms.
pub(super) fn operation(kind: u8, op: u8) -> &'static str {
    match Kind::try_from(kind) {
        Ok(kind @ (Kind::TlbFlush | Kind::Fault | Kind::TaskExit | Kind::TaskName | Kind::Lost)) => {
            kind.name()
        }
        _ => Op::try_from(op).map_or("unknown operation", Op::name),
    }
}

fn context(context: Context) -> &'static str {
    match context {
        Context::Task => "task",
        Context::Softirq => "softirq",
        Context::Hardirq => "hardirq",
        Context::Nmi => "nmi",
    }
}

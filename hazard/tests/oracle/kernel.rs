//! The kernel above the architecture: who runs where, and what the mode's calls do to a task.
//!
//! Turns the steps of a program into events with everything decided but what memory holds, which differs from machine
//! to machine. The calls are those of include/linux/pgtable.h:261 to :387 (7.2.13), the older ones those of 6.12:201.

use lazymmu_abi::{Context, Kind, Op};

use crate::program::{CPUS, Do, Layer, Program, Step, TASKS};

/// Tasks with their own state: the idle tasks come first.
pub(crate) const ALL_TASKS: usize = CPUS + TASKS;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A call of the mode, with the task's counters after it.
    Mode { op: Op, flushes: bool, counters: Option<(u8, u8)> },
    /// An access.
    Access { op: Op, entry: u8, count: u8, value: u64 },
    /// Another task runs on.
    Switch { next: u8, blocked: bool },
    /// The task ended.
    Exit,
    /// The processor used an entry. No record tells.
    Walk { entry: u8, dirty: bool },
    /// The kernel uses what the entry maps. A record tells if it faults.
    Use { entry: u8 },
    /// The TLB is flushed for what these entries map.
    TlbFlush { entry: u8, count: u8 },
    /// The architecture's own enter or leave, for that task, with the running task's counters.
    Arch { op: Op, owner: u8, counters: Option<(u8, u8)> },
}

/// One event, as the hooks would see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) cpu: u8,
    /// Index of the task that runs there.
    pub(crate) task: u8,
    pub(crate) context: Context,
    /// Whether the mode is on for this access: with softirqs off it is not, whatever the counters say.
    pub(crate) active: bool,
    /// Whether the task's section is on, which an interrupt in it may not know.
    pub(crate) section_on: bool,
    /// Whether the task has softirqs off.
    pub(crate) softirqs_off: bool,
    /// The event that entered the task's outermost section.
    pub(crate) opener: Option<u32>,
    pub(crate) what: What,
}

impl Event {
    /// The operation and its entries, if it is an access.
    pub(crate) fn access(&self) -> Option<(Op, std::ops::Range<u8>)> {
        match self.what {
            What::Access { op, entry, count, .. } => Some((op, entry..entry + count)),
            _ => None,
        }
    }

    /// The entries that it has to do with.
    pub(crate) fn touched(&self) -> Option<std::ops::Range<u8>> {
        match self.what {
            What::Access { entry, count, .. } | What::TlbFlush { entry, count } => Some(entry..entry + count),
            What::Use { entry } => Some(entry..entry + 1),
            _ => None,
        }
    }

    /// The kind of access.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.access().map(|(op, _)| op.info().kind)
    }
}

/// The thread id of a task.
pub(crate) fn tid(task: u8) -> u32 {
    if usize::from(task) < CPUS { 0 } else { 100 + u32::from(task) }
}

#[derive(Clone, Copy, Default)]
struct Task {
    enable: u8,
    pause: u8,
    softirqs_off: bool,
    opener: Option<u32>,
    /// Counts are wrong since a call too many; what the task does from then on is left out.
    ruined: bool,
}

impl Task {
    fn inside(self) -> bool {
        self.enable > 0 && self.pause == 0 && !self.ruined
    }

    fn active(self) -> bool {
        self.inside() && !self.softirqs_off
    }
}

/// A kernel while it runs a program.
struct Kernel<'a> {
    program: &'a Program,
    tasks: [Task; ALL_TASKS],
    running: [u8; CPUS],
    events: Vec<Event>,
}

/// Runs the program.
pub(crate) fn events(program: &Program) -> Vec<Event> {
    let mut kernel = Kernel {
        program,
        tasks: [Task::default(); ALL_TASKS],
        running: std::array::from_fn(|cpu| cpu as u8),
        events: Vec::with_capacity(program.steps.len()),
    };
    for step in &program.steps {
        kernel.step(step);
    }
    kernel.events
}

impl Kernel<'_> {
    fn step(&mut self, step: &Step) {
        let layer = self.program.layer;
        let current = self.running[usize::from(step.cpu)];
        let before = self.tasks[usize::from(current)];
        let task = &mut self.tasks[usize::from(current)];
        let leaves = matches!(step.what, Do::Switch { .. } | Do::Exit);
        if task.ruined && !leaves {
            return;
        }
        let in_task = step.context == Context::Task;
        let what = match step.what {
            Do::Mode(op) if in_task => call(task, self.program, op),
            // in_interrupt(): the calls return at once.
            Do::Mode(op) => Some(What::Mode { op, flushes: false, counters: counters(*task, layer) }),
            Do::Access { op, entry, count, value } => Some(What::Access { op, entry, count, value }),
            Do::Walk { entry, dirty } => Some(What::Walk { entry, dirty }),
            Do::Use { entry } => self.program.kernel_half.then_some(What::Use { entry }),
            Do::TlbFlush { entry, count } => Some(What::TlbFlush { entry, count }),
            Do::Arch(op) if in_task => {
                self.arch(step.cpu, current, op, current);
                None
            }
            Do::Arch(_) => None,
            Do::Softirqs { off } => {
                task.softirqs_off = off && layer == Layer::Counters;
                None
            }
            _ if task.softirqs_off => None,
            Do::Switch { to, blocked } => {
                let next = if to == 0 { step.cpu } else { CPUS as u8 + to - 1 };
                (!self.running.contains(&next)).then_some(What::Switch { next, blocked })
            }
            Do::Exit => (usize::from(current) >= CPUS).then_some(What::Exit),
        };
        let Some(what) = what else { return };
        if let What::Mode { op, .. } = what
            && in_task
        {
            self.called(step.cpu, current, op, before);
        }
        let context = match what {
            What::Switch { .. } | What::Exit | What::Walk { .. } => Context::Task,
            _ => step.context,
        };
        self.push(step.cpu, current, context, what);
        match what {
            What::Switch { next, .. } => self.switched(step.cpu, current, next),
            What::Exit => {
                // Whoever gets the thread id next is another task.
                self.tasks[usize::from(current)] = Task::default();
                self.push(step.cpu, current, Context::Task, What::Switch { next: step.cpu, blocked: true });
                self.switched(step.cpu, current, step.cpu);
            }
            _ => {}
        }
    }

    /// What a call of the mode makes the architecture do, before the call returns.
    fn called(&mut self, cpu: u8, current: u8, op: Op, before: Task) {
        let now = self.tasks[usize::from(current)];
        let on_off = self.program.layer == Layer::OnOff;
        let op = match op {
            Op::Enter | Op::Resume if on_off || now.active() && !before.active() => Op::ArchEnter,
            Op::Leave | Op::Pause if on_off || before.active() && !now.active() => Op::ArchLeave,
            _ => return,
        };
        self.arch(cpu, current, op, current);
    }

    fn arch(&mut self, cpu: u8, current: u8, op: Op, owner: u8) {
        if self.program.told {
            let counters = counters(self.tasks[usize::from(current)], self.program.layer);
            self.push(cpu, current, Context::Task, What::Arch { op, owner, counters });
        }
    }

    /// At a switch the architecture leaves the mode for the task that goes and enters it for the one that comes, both
    /// before that one is the current task (__switch_to(), arch/x86/kernel/process_64.c).
    fn switched(&mut self, cpu: u8, previous: u8, next: u8) {
        if !self.program.careless {
            if self.tasks[usize::from(previous)].active() {
                self.arch(cpu, previous, Op::ArchLeave, previous);
            }
            if self.tasks[usize::from(next)].active() {
                self.arch(cpu, previous, Op::ArchEnter, next);
            }
        }
        self.running[usize::from(cpu)] = next;
    }

    fn push(&mut self, cpu: u8, current: u8, context: Context, what: What) {
        let number = self.events.len() as u32;
        let task = &mut self.tasks[usize::from(current)];
        // What is called before the first section counts is part of it.
        if !matches!(what, What::Arch { .. }) {
            if task.enable == 0 {
                task.opener = None;
            } else {
                task.opener.get_or_insert(number);
            }
        }
        let in_task = context == Context::Task;
        self.events.push(Event {
            cpu,
            task: current,
            context,
            active: in_task && task.active(),
            section_on: task.inside(),
            softirqs_off: task.softirqs_off,
            opener: task.opener,
            what,
        });
    }
}

fn counters(task: Task, layer: Layer) -> Option<(u8, u8)> {
    (layer == Layer::Counters).then_some((task.enable, task.pause))
}

/// A call from a task. `None` for a call that the program's kernel does not make.
fn call(task: &mut Task, program: &Program, op: Op) -> Option<What> {
    let flushes = match program.layer {
        Layer::Counters => with_counters(task, op, program.broken)?,
        Layer::OnOff => {
            let was_on = task.enable > 0;
            match op {
                Op::Enter => task.enable = 1,
                Op::Leave => task.enable = 0,
                Op::Flush => {}
                // There is neither pause nor resume.
                _ => return None,
            }
            was_on && op != Op::Enter
        }
    };
    Some(What::Mode { op, flushes, counters: counters(*task, program.layer) })
}

fn with_counters(task: &mut Task, op: Op, broken: bool) -> Option<bool> {
    // arch_flush_lazy_mmu_mode() is called by code that knows that the mode is on; elsewhere there is nothing to flush.
    if op == Op::Flush {
        return Some(task.active());
    }
    // VM_WARN_ON_ONCE() of the kernel.
    let warns = match op {
        Op::Leave => task.enable == 0 && task.pause == 0,
        Op::Resume => task.pause == 0,
        _ => false,
    };
    if warns && !broken {
        return None;
    }
    // in_interrupt() is true with softirqs off, too.
    if task.softirqs_off {
        return Some(false);
    }
    task.ruined = warns;
    Some(match op {
        Op::Enter | Op::Leave if task.pause > 0 => false,
        Op::Enter => {
            task.enable += 1;
            false
        }
        Op::Leave => {
            task.enable = task.enable.wrapping_sub(1);
            true
        }
        Op::Pause => {
            task.pause += 1;
            task.pause == 1 && task.enable > 0
        }
        _ => {
            task.pause = task.pause.wrapping_sub(1);
            false
        }
    })
}

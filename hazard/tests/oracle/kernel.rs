//! The kernel above the architecture: who runs where, and what the mode's calls do to a task.
//!
//! Turns the steps of a program into events with everything decided but what memory holds, which differs from machine
//! to machine. The calls are those of include/linux/pgtable.h:261 to :387 (7.2.13), the older ones those of 6.12:201.

use lazymmu_abi::{Context, Kind, Op};

use crate::arch::{self, Does};
use crate::program::{CPUS, Do, Layer, Program, TASKS};
use lazymmu_hazard::profile::ProfileId;

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
}

/// One event, as the hooks would see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) cpu: u8,
    /// Index of the task that runs there.
    pub(crate) task: u8,
    pub(crate) context: Context,
    /// Whether the mode is on for this access, as the task's counters have it.
    pub(crate) inside: bool,
    /// Whether it is on: with softirqs off it is not, whatever the counters say.
    pub(crate) active: bool,
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

    /// The kind of access.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.access().map(|(op, _)| op.info().kind)
    }

    /// Whether the written contract lets the store wait, as far as records tell: they do not tell of softirqs.
    pub(crate) fn may_wait(&self) -> bool {
        let waits = |op| arch::does(ProfileId::Strict, op) == Does::Queue;
        self.inside && self.access().is_some_and(|(op, _)| waits(op))
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
}

impl Task {
    fn inside(self) -> bool {
        self.enable > 0 && self.pause == 0
    }

    fn active(self) -> bool {
        self.inside() && !self.softirqs_off
    }
}

/// Runs the program.
pub(crate) fn events(program: &Program) -> Vec<Event> {
    let mut tasks = [Task::default(); ALL_TASKS];
    let mut running: [u8; CPUS] = std::array::from_fn(|cpu| cpu as u8);
    let mut events = Vec::with_capacity(program.steps.len());
    for step in &program.steps {
        let current = running[usize::from(step.cpu)];
        let task = &mut tasks[usize::from(current)];
        let in_task = step.context == Context::Task;
        let what = match step.what {
            Do::Mode(op) if in_task => call(task, program.layer, op),
            // in_interrupt(): the calls return at once.
            Do::Mode(op) => Some(What::Mode { op, flushes: false, counters: counters(*task, program.layer) }),
            Do::Access { op, entry, count, value } => Some(What::Access { op, entry, count, value }),
            Do::Walk { entry, dirty } => Some(What::Walk { entry, dirty }),
            Do::Softirqs { off } => {
                task.softirqs_off = off && program.layer == Layer::Counters;
                None
            }
            _ if task.softirqs_off => None,
            Do::Switch { to, blocked } => {
                let next = if to == 0 { step.cpu } else { CPUS as u8 + to - 1 };
                (!running.contains(&next)).then_some(What::Switch { next, blocked })
            }
            Do::Exit => (usize::from(current) >= CPUS).then_some(What::Exit),
        };
        let Some(what) = what else { continue };
        let task = &mut tasks[usize::from(current)];
        if task.enable == 0 {
            task.opener = None;
        } else {
            task.opener.get_or_insert(events.len() as u32);
        }
        let state = *task;
        let mut push = |what| {
            events.push(Event {
                cpu: step.cpu,
                task: current,
                context: if matches!(what, What::Access { .. } | What::Mode { .. }) {
                    step.context
                } else {
                    Context::Task
                },
                inside: in_task && state.inside(),
                active: in_task && state.active(),
                softirqs_off: state.softirqs_off,
                opener: state.opener,
                what,
            });
        };
        push(what);
        match what {
            What::Switch { next, .. } => running[usize::from(step.cpu)] = next,
            What::Exit => {
                push(What::Switch { next: step.cpu, blocked: true });
                running[usize::from(step.cpu)] = step.cpu;
                // Whoever gets the thread id next is another task.
                tasks[usize::from(current)] = Task::default();
            }
            _ => {}
        }
    }
    events
}

fn counters(task: Task, layer: Layer) -> Option<(u8, u8)> {
    (layer == Layer::Counters).then_some((task.enable, task.pause))
}

/// A call from a task. `None` for a call that a kernel which is not broken does not make.
fn call(task: &mut Task, layer: Layer, op: Op) -> Option<What> {
    let flushes = match layer {
        Layer::Counters => with_counters(task, op)?,
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
    Some(What::Mode { op, flushes, counters: counters(*task, layer) })
}

fn with_counters(task: &mut Task, op: Op) -> Option<bool> {
    // arch_flush_lazy_mmu_mode() is called by code that knows that the mode is on; elsewhere there is nothing to flush.
    if op == Op::Flush {
        return Some(task.active());
    }
    // VM_WARN_ON_ONCE() of the kernel.
    let broken = match op {
        Op::Leave => task.enable == 0 && task.pause == 0,
        Op::Resume => task.pause == 0,
        _ => false,
    };
    if broken {
        return None;
    }
    // in_interrupt() is true with softirqs off, too.
    if task.softirqs_off {
        return Some(false);
    }
    Some(match op {
        Op::Enter | Op::Leave if task.pause > 0 => false,
        Op::Enter => {
            task.enable += 1;
            false
        }
        Op::Leave => {
            task.enable -= 1;
            true
        }
        Op::Pause => {
            task.pause += 1;
            task.pause == 1 && task.enable > 0
        }
        _ => {
            task.pause -= 1;
            false
        }
    })
}

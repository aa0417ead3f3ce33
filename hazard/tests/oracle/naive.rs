//! What is wrong with the calls of the mode, by counting them: the truth for the rules that are about no pending write.
//!
//! Knows everything of a program, keeps a few numbers for each task and CPU, and never forgets. It shares nothing with the
//! engine, and says where each breaks from the texts of the kernel a second time.

use lazymmu_abi::{Context, Kind, Op};
use lazymmu_hazard::profile::ProfileId::{self, Arm64, PowerpcHash, S390, Sparc64, Strict, XenPv};

use crate::arch::{self, Does};
use crate::kernel::{ALL_TASKS, Event, What};
use crate::program::{CPUS, Layer};

/// Something wrong: the event that is to blame, the rule, in the words of the finding, and where it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Misdeed {
    /// The event at which it shows.
    pub(crate) at: u32,
    /// The event that is blamed, which may be an earlier one.
    pub(crate) event: u32,
    pub(crate) rule: &'static str,
    pub(crate) what: &'static str,
    pub(crate) breaks: &'static [ProfileId],
}

/// Each enter changes the preemption count, or the counter is wrong from then on: no architecture can live with that.
const UNPAIRED: &[ProfileId] = &[Strict, XenPv, PowerpcHash, Sparc64, Arm64];
/// preempt_disable() in arch_enter_lazy_mmu_mode().
const SLEEP: &[ProfileId] = &[Strict, S390, PowerpcHash, Sparc64];
/// A mode that is off is slow, not wrong, but for those that count preemption with it.
const OFF: &[ProfileId] = &[Strict, PowerpcHash, Sparc64];
/// A state of the CPU.
const CPU: &[ProfileId] = &[Strict, XenPv];
/// Before 7.0.
const NESTED: &[ProfileId] = &[Strict];
const IRQ_CALL: &[ProfileId] = &[Strict];
const IRQ_WRITE: &[ProfileId] = &[Strict, PowerpcHash, Arm64];

#[derive(Clone, Copy, Default)]
struct Task {
    /// Calls that had an effect, as the kernel counts them.
    enable: u32,
    pause: u32,
    /// Before 7.0: enters that were not left, however deep.
    depth: u32,
    /// The first enter inside another.
    inner: Option<u32>,
    /// Whether it was seen to be outside.
    outside: bool,
    /// Enters since the pause that were not left.
    entered_paused: u32,
    /// The CPUs on which something waits.
    queued: [bool; CPUS],
    /// What it does after a call too many is not looked at.
    ruined: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Cpu {
    #[default]
    Unknown,
    Off,
    On(u8, u32),
}

/// Everything that is wrong with the program's calls.
pub(crate) fn misdeeds(events: &[Event], layer: Layer) -> Vec<Misdeed> {
    let mut tasks = [Task::default(); ALL_TASKS];
    let mut cpus = [Cpu::default(); CPUS];
    // Whether a CPU did anything since its last switch: before that, the architecture may still be about to leave.
    let mut went_on = [false; CPUS];
    let mut went_out = [u8::MAX; CPUS];
    let told = events.iter().position(|event| matches!(event.what, What::Arch { .. }));
    let mut all = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let at = number as u32;
        let mut add = |event: u32, rule, what, breaks| all.push(Misdeed { at, event, rule, what, breaks });
        let task = &mut tasks[usize::from(event.task)];
        let in_task = event.context == Context::Task;
        let on = task.enable > 0 && task.pause == 0 && !task.ruined;
        match event.what {
            What::Mode { .. } if !in_task => {
                if on && layer == Layer::OnOff {
                    add(at, "irq-access", "an interrupt inside a section called the mode", IRQ_CALL);
                }
            }
            What::Mode { op, flushes, .. } => {
                went_on[usize::from(event.cpu)] |= told.is_some_and(|told| told < number);
                let queued = std::mem::take(&mut task.queued);
                let behind = |cpu: usize| {
                    let away = cpu != usize::from(event.cpu)
                        && queued[cpu]
                        && (went_on[cpu] || went_out[cpu] != event.task);
                    away && matches!(cpus[cpu], Cpu::On(owner, _) if owner == event.task)
                };
                if !flushes {
                    task.queued = queued;
                } else if (0..CPUS).any(behind) {
                    let what = "writes wait in the queue of a CPU that the task is not on any more";
                    add(at, "switch-in-section", what, CPU);
                }
                let mut say = |event, rule, what, breaks| add(event, rule, what, breaks);
                match layer {
                    Layer::Counters => counted(task, op, event.softirqs_off, at, &mut say),
                    Layer::OnOff => on_off(task, op, at, &mut say),
                }
            }
            What::Access { op, .. } => {
                let changes = op.info().kind != Kind::Read && !op.is_raw();
                if !in_task && changes && on && layer == Layer::OnOff {
                    add(at, "irq-access", "an interrupt inside a section wrote an entry", IRQ_WRITE);
                }
                if event.active && arch::does(Strict, op) == Does::Queue {
                    task.queued[usize::from(event.cpu)] = true;
                }
                went_on[usize::from(event.cpu)] |= in_task && told.is_some_and(|told| told < number);
                let cpu = &mut cpus[usize::from(event.cpu)];
                let wrong = match *cpu {
                    Cpu::On(owner, _) if owner != event.task => Some((
                        "switch-in-section",
                        "the mode of a task that was switched out is still on",
                        CPU,
                    )),
                    Cpu::Off if on => {
                        Some(("pause-misuse", "the mode of the CPU is off inside a section", OFF))
                    }
                    _ => None,
                };
                if let Some((rule, what, breaks)) =
                    wrong.filter(|_| in_task && told.is_some_and(|told| told < number))
                {
                    add(at, rule, what, breaks);
                    *cpu = Cpu::Unknown;
                }
            }
            What::Switch { blocked, .. } => {
                went_on[usize::from(event.cpu)] = false;
                went_out[usize::from(event.cpu)] = event.task;
                if blocked && on {
                    add(at, "sleep-in-section", "a task blocked inside a section", SLEEP);
                }
            }
            What::Exit => {
                if on {
                    add(at, "section-leak", "the mode is still on when the task ends", UNPAIRED);
                } else if task.enable > 0 && task.pause > 0 {
                    add(at, "pause-misuse", "the mode is still paused when the task ends", OFF);
                }
                *task = Task::default();
            }
            What::Arch { op, owner, .. } => {
                let cpu = &mut cpus[usize::from(event.cpu)];
                let (after, wrong) = called(*cpu, op, owner, layer);
                *cpu = after;
                if let Some(what) = wrong {
                    add(at, "switch-in-section", what, CPU);
                }
            }
            What::Walk { .. } | What::Use { .. } | What::TlbFlush { .. } => {}
        }
    }
    all
}

type Say<'a> = &'a mut dyn FnMut(u32, &'static str, &'static str, &'static [ProfileId]);

/// include/linux/pgtable.h:261 to :387, 7.2.13.
fn counted(task: &mut Task, op: Op, softirqs_off: bool, at: u32, say: Say) {
    let paused = task.pause > 0;
    if paused && task.enable > 0 {
        // Has no effect, but belongs to something.
        match op {
            Op::Enter => task.entered_paused += 1,
            Op::Leave if task.entered_paused == 0 => {
                say(at, "pause-misuse", "a section was left while it was paused", OFF);
            }
            Op::Leave => task.entered_paused -= 1,
            _ => {}
        }
    }
    if softirqs_off {
        return;
    }
    match op {
        Op::Enter if !paused => task.enable += 1,
        Op::Leave if !paused && task.enable == 0 => {
            task.ruined = true;
            say(at, "section-leak", "the mode was left without having been entered", UNPAIRED);
        }
        Op::Leave if !paused => task.enable -= 1,
        Op::Pause => {
            task.pause += 1;
            task.entered_paused = if paused { task.entered_paused } else { 0 };
        }
        Op::Resume if !paused => {
            (task.ruined, task.pause) = (true, 255);
            say(at, "pause-misuse", "the mode was resumed without having been paused", OFF);
        }
        Op::Resume => task.pause -= 1,
        _ => {}
    }
}

/// include/linux/pgtable.h:201 on, 6.12.117: on or off, and nesting is not permitted.
fn on_off(task: &mut Task, op: Op, at: u32, say: Say) {
    match op {
        Op::Enter => {
            task.depth += 1;
            task.enable = 1;
            task.outside = false;
            if task.depth > 1 {
                task.inner.get_or_insert(at);
            }
        }
        Op::Leave => {
            task.enable = 0;
            match task.depth {
                0 if task.outside => {
                    say(at, "section-leak", "the mode was left without having been entered", UNPAIRED);
                }
                0 => {}
                1 => {
                    task.outside = true;
                    if let Some(inner) = task.inner.take() {
                        say(inner, "nested-section", "a section was entered inside another", NESTED);
                    }
                    task.depth = 0;
                }
                _ => task.depth -= 1,
            }
        }
        _ => {}
    }
}

/// enter_lazy() and leave_lazy(), arch/x86/include/asm/xen/hypervisor.h:77, 6.12.117, where a task's sections nest; from
/// 7.0 on the generic code counts them.
fn called(cpu: Cpu, op: Op, owner: u8, layer: Layer) -> (Cpu, Option<&'static str>) {
    let nests = layer == Layer::OnOff;
    match (op, cpu) {
        (Op::ArchEnter, Cpu::On(other, depth)) if nests && other == owner => {
            (Cpu::On(owner, depth + 1), None)
        }
        (Op::ArchEnter, Cpu::On(..)) => {
            (Cpu::On(owner, 1), Some("the mode was entered on a CPU where it was on"))
        }
        (Op::ArchEnter, _) => (Cpu::On(owner, 1), None),
        (_, Cpu::On(owner, depth)) if depth > 1 => (Cpu::On(owner, depth - 1), None),
        (_, Cpu::Off) => (Cpu::Off, Some("the mode was left on a CPU where it was off")),
        _ => (Cpu::Off, None),
    }
}

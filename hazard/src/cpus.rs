//! The mode as each CPU has it, where the architecture's own enter and leave are told.
//!
//! The task's view of the mode is in `section`; this is the other one. Where both are known they must agree. Nothing is
//! known of a CPU before its first such call, and nothing after a loss.

use crate::types::{CpuId, TaskId};

/// What is known of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Unknown,
    Off,
    /// On, for that task if it is known, entered that many times.
    On(Option<TaskId>, u32),
}

#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "what is not known, one by one")]
struct Cpu {
    mode: Mode,
    /// Who was switched out last, and who came in.
    switched: Option<(TaskId, TaskId)>,
    /// Whether a switch may be missing since the last one that was told.
    switch_lost: bool,
    /// Whether the CPU told of anything since then, so that what the switch does to the mode is over.
    settled: bool,
    /// Whether the mode may not have agreed with what was done on the CPU since its last call.
    doubted: bool,
    /// Whether a call may be missing, so that the mode may have been entered more often than is known.
    call_lost: bool,
}

/// All CPUs.
#[derive(Default)]
pub(crate) struct Cpus {
    all: Vec<Cpu>,
    told: bool,
    lost: bool,
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disagreement {
    /// The mode was entered where it was on.
    EnteredTwice,
    /// The mode was left where it was off.
    LeftTwice,
    /// The mode is on for another task than the one that runs.
    AnotherTasks,
    /// The mode is off, but the task is inside a section.
    OffInside,
    /// The task flushed what it has queued, but on another CPU than that on which the mode is still on for it.
    LeftBehind,
}

/// The mode of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMode {
    /// Which one.
    pub cpu: CpuId,
    /// Whether it is on; `None` if that is not known.
    pub on: Option<bool>,
    /// How often it was entered and not left.
    pub entered: u32,
}

impl Cpus {
    pub(crate) fn modes(&self) -> Vec<CpuMode> {
        let of = |(cpu, state): (u16, &Cpu)| {
            let (on, entered) = match state.mode {
                Mode::Unknown => (None, 0),
                Mode::Off => (Some(false), 0),
                Mode::On(_, depth) => (Some(true), depth),
            };
            CpuMode { cpu: CpuId(cpu), on, entered }
        };
        if self.told { (0..).zip(&self.all).map(of).collect() } else { Vec::new() }
    }

    /// Whether any CPU ever told.
    #[inline]
    pub(crate) fn told(&self) -> bool {
        self.told
    }

    /// Calls or switches may be missing.
    pub(crate) fn forget(&mut self) {
        self.all.fill(LOST);
        self.lost = true;
    }

    /// An access on that CPU may be missing, at which something did not agree; on any, if none is given.
    pub(crate) fn forget_mode(&mut self, cpu: Option<CpuId>) {
        self.lost = true;
        let of = |number: usize| cpu.is_none_or(|cpu| usize::from(cpu.0) == number);
        for (_, state) in self.all.iter_mut().enumerate().filter(|(number, _)| of(*number)) {
            (state.mode, state.call_lost) = (Mode::Unknown, true);
        }
    }

    /// The architecture entered the mode. `nests` says whether it may do so again inside: before 7.0 a task's sections
    /// are not counted by the generic code.
    pub(crate) fn entered(&mut self, cpu: CpuId, task: TaskId, nests: bool) -> Option<Disagreement> {
        self.told = true;
        let state = self.at(cpu);
        // At a switch the architecture enters the mode for the next task before that is the current one
        // (__switch_to(), arch/x86/kernel/process_64.c, 6.12 and 7.2).
        let owner = match state.switched {
            _ if state.switch_lost => None,
            Some((previous, next)) if previous == task => Some(next),
            _ => Some(task),
        };
        let (depth, found) = match state.mode {
            Mode::On(other, depth) if nests && (other == owner || other.is_none() || owner.is_none()) => {
                (depth.saturating_add(1), None)
            }
            Mode::On(..) => (1, Some(Disagreement::EnteredTwice)),
            Mode::Unknown | Mode::Off => (1, None),
        };
        let found = found.filter(|_| !state.doubted);
        state.doubted = false;
        let same = depth == 1 || matches!(state.mode, Mode::On(other, _) if other == owner);
        state.mode = Mode::On(if same { owner } else { None }, depth);
        found
    }

    /// The architecture left the mode.
    pub(crate) fn left(&mut self, cpu: CpuId, nests: bool) -> Option<Disagreement> {
        self.told = true;
        let state = self.at(cpu);
        let before = state.mode;
        state.mode = match before {
            Mode::On(owner, depth @ 2..) => Mode::On(owner, depth - 1),
            // Who knows how often it was entered.
            _ if nests && state.call_lost => Mode::Unknown,
            _ => Mode::Off,
        };
        let found = (before == Mode::Off && !state.doubted).then_some(Disagreement::LeftTwice);
        state.doubted = false;
        found
    }

    pub(crate) fn switched(&mut self, cpu: CpuId, previous: TaskId, next: TaskId) {
        let state = self.at(cpu);
        (state.switched, state.switch_lost, state.settled) = (Some((previous, next)), false, false);
    }

    /// The CPU goes on after what a switch did to the mode.
    pub(crate) fn heard(&mut self, cpu: CpuId) {
        self.at(cpu).settled = true;
    }

    /// A task does something to entries. What does not agree is told once.
    pub(crate) fn seen(&mut self, cpu: CpuId, task: TaskId, in_section: bool) -> Option<Disagreement> {
        let lost = self.lost;
        let state = self.at(cpu);
        let found = match state.mode {
            Mode::On(Some(owner), _) if owner != task => Disagreement::AnotherTasks,
            Mode::Off if in_section => Disagreement::OffInside,
            // It may not agree, with what is not known.
            Mode::On(None, _) | Mode::Off if lost => {
                (state.mode, state.call_lost) = (Mode::Unknown, true);
                return None;
            }
            _ => return None,
        };
        state.mode = Mode::Unknown;
        Some(found)
    }

    /// A task of whose section nothing is certain does something to entries. What may not agree with it would have been
    /// told here and only here, so it is not told at the next call either.
    pub(crate) fn unsure(&mut self, cpu: CpuId, task: TaskId) {
        let state = self.at(cpu);
        state.doubted |= !matches!(state.mode, Mode::On(Some(owner), _) if owner == task);
    }

    /// Whether the mode is on there for that task, which was switched out.
    pub(crate) fn left_behind(&self, cpu: CpuId, task: TaskId) -> bool {
        self.all.get(usize::from(cpu.0)).is_some_and(|state| {
            // At the switch itself the architecture may be about to leave the mode.
            let over = |previous| previous != task || state.settled;
            let gone = state.switched.is_some_and(|(previous, next)| next != task && over(previous));
            matches!(state.mode, Mode::On(Some(owner), _) if owner == task) && gone
        })
    }

    fn at(&mut self, cpu: CpuId) -> &mut Cpu {
        let index = usize::from(cpu.0);
        if index >= self.all.len() {
            self.all.resize(index + 1, if self.lost { LOST } else { Cpu::default() });
        }
        &mut self.all[index]
    }
}

/// A CPU of which nothing is known any more.
const LOST: Cpu = Cpu {
    mode: Mode::Unknown,
    switched: None,
    switch_lost: true,
    settled: false,
    doubted: false,
    call_lost: true,
};

#[cfg(test)]
mod tests {
    use lazymmu_abi::Record;

    use super::*;

    const CPU: CpuId = CpuId(1);

    fn task(tid: u32) -> TaskId {
        TaskId::of(&Record { tid, ..Record::default() })
    }

    #[test]
    fn what_is_not_known_accuses_nobody() {
        let mut cpus = Cpus::default();
        assert_eq!(cpus.left(CPU, false), None);
        cpus.forget();
        assert_eq!(cpus.entered(CPU, task(1), false), None);
        cpus.forget();
        assert_eq!(cpus.seen(CPU, task(2), true), None);
    }

    #[test]
    fn a_switch_that_leaves_and_enters_is_right() {
        let mut cpus = Cpus::default();
        assert_eq!(cpus.entered(CPU, task(1), false), None);
        cpus.switched(CPU, task(1), task(2));
        assert_eq!(cpus.left(CPU, false), None);
        assert_eq!(cpus.entered(CPU, task(1), false), None, "for the task that comes in");
        assert_eq!(cpus.seen(CPU, task(2), true), None);
        assert_eq!(cpus.seen(CPU, task(1), true), Some(Disagreement::AnotherTasks));
        assert_eq!(cpus.seen(CPU, task(1), true), None, "told once");
    }

    #[test]
    fn who_enters_after_a_switch_enters_for_itself() {
        let mut cpus = Cpus::default();
        cpus.switched(CPU, task(1), task(2));
        assert_eq!(cpus.entered(CPU, task(3), false), None);
        assert_eq!(cpus.seen(CPU, task(3), true), None, "the switch was of others");
    }

    #[test]
    fn each_cpu_has_its_own() {
        let mut cpus = Cpus::default();
        assert_eq!(cpus.entered(CpuId(5), task(1), false), None);
        assert_eq!(cpus.left(CPU, false), None);
        assert_eq!(cpus.entered(CpuId(5), task(1), false), Some(Disagreement::EnteredTwice));
    }

    #[test]
    fn sections_of_one_task_nest_only_before_7_0() {
        for nests in [true, false] {
            let mut cpus = Cpus::default();
            cpus.entered(CPU, task(1), nests);
            let expected = if nests { None } else { Some(Disagreement::EnteredTwice) };
            assert_eq!(cpus.entered(CPU, task(1), nests), expected);
            assert_eq!(cpus.left(CPU, nests), None);
            let expected = if nests { None } else { Some(Disagreement::LeftTwice) };
            assert_eq!(cpus.left(CPU, nests), expected);
        }
        let mut cpus = Cpus::default();
        cpus.entered(CPU, task(1), true);
        assert_eq!(cpus.entered(CPU, task(2), true), Some(Disagreement::EnteredTwice));
    }

    #[test]
    fn a_lost_access_of_one_cpu_says_nothing_of_another() {
        let mut cpus = Cpus::default();
        cpus.entered(CPU, task(1), false);
        cpus.entered(CpuId(2), task(2), false);
        cpus.forget_mode(Some(CpuId(2)));
        assert_eq!(cpus.entered(CPU, task(1), false), Some(Disagreement::EnteredTwice));
        assert_eq!(cpus.entered(CpuId(2), task(2), false), None);
    }

    #[test]
    fn after_a_lost_access_a_mode_that_may_not_agree_is_not_known() {
        let mut cpus = Cpus::default();
        cpus.left(CPU, false);
        assert_eq!(cpus.seen(CPU, task(1), false), None);
        assert_eq!(cpus.left(CPU, false), Some(Disagreement::LeftTwice), "nothing was lost");
        cpus.forget_mode(Some(CpuId(2)));
        assert_eq!(cpus.seen(CPU, task(1), false), None);
        assert_eq!(cpus.left(CPU, false), None);
    }

    #[test]
    fn a_task_in_doubt_leaves_only_its_own_mode_known() {
        let mut cpus = Cpus::default();
        for (before, expected) in [(1, Some(Disagreement::EnteredTwice)), (2, None)] {
            cpus.left(CPU, false);
            cpus.entered(CPU, task(before), false);
            cpus.unsure(CPU, task(1));
            assert_eq!(cpus.entered(CPU, task(1), false), expected);
            assert_eq!(
                cpus.entered(CPU, task(1), false),
                Some(Disagreement::EnteredTwice),
                "that was one call"
            );
        }
        cpus.left(CPU, false);
        cpus.unsure(CPU, task(1));
        assert_eq!(cpus.left(CPU, false), None);
        assert_eq!(cpus.left(CPU, false), Some(Disagreement::LeftTwice), "that was one call");
    }

    #[test]
    fn who_nests_in_a_mode_of_nobody_known_does_not_own_it() {
        let mut cpus = Cpus::default();
        cpus.forget();
        assert_eq!(cpus.entered(CPU, task(1), true), None, "for whom, a lost switch may tell");
        cpus.switched(CPU, task(1), task(2));
        assert_eq!(cpus.entered(CPU, task(2), true), None, "it may have been for this one");
        assert_eq!(cpus.seen(CPU, task(3), true), None);
    }

    #[test]
    fn where_the_mode_does_not_nest_one_leave_ends_it() {
        let mut cpus = Cpus::default();
        cpus.forget();
        for (nests, expected) in [(true, None), (false, Some(Disagreement::LeftTwice))] {
            assert_eq!(cpus.left(CPU, nests), None);
            assert_eq!(cpus.left(CPU, nests), expected, "a call may be missing");
        }
    }

    #[test]
    fn a_mode_is_left_behind_once_the_switch_is_over() {
        let mut cpus = Cpus::default();
        cpus.entered(CPU, task(1), false);
        assert!(!cpus.left_behind(CPU, task(1)), "it was not switched out");
        cpus.switched(CPU, task(1), task(2));
        assert!(!cpus.left_behind(CPU, task(1)), "the switch may be about to leave it");
        cpus.heard(CPU);
        assert!(cpus.left_behind(CPU, task(1)));
        assert!(!cpus.left_behind(CPU, task(2)) && !cpus.left_behind(CpuId(2), task(1)));
        cpus.switched(CPU, task(2), task(3));
        assert!(cpus.left_behind(CPU, task(1)), "the switch of others does nothing for it");
        cpus.switched(CPU, task(3), task(1));
        assert!(!cpus.left_behind(CPU, task(1)), "it is back");
    }
}

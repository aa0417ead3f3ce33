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
    /// On, for that task, entered that many times.
    On(TaskId, u32),
}

#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    mode: Mode,
    /// Who was switched out last and who came in, until the architecture has entered the mode for the latter.
    switching: Option<(TaskId, TaskId)>,
}

/// All CPUs.
#[derive(Default)]
pub(crate) struct Cpus {
    all: Vec<Cpu>,
    told: bool,
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
}

impl Cpus {
    /// Whether any CPU ever told.
    #[inline]
    pub(crate) fn told(&self) -> bool {
        self.told
    }

    pub(crate) fn forget(&mut self) {
        self.all.clear();
        self.told = false;
    }

    /// The architecture entered the mode. `nests` says whether it may do so again inside: before 7.0 a task's sections
    /// are not counted by the generic code.
    pub(crate) fn entered(&mut self, cpu: CpuId, task: TaskId, nests: bool) -> Option<Disagreement> {
        let state = self.at(cpu);
        // At a switch the architecture enters the mode for the next task before that is the current one
        // (__switch_to(), arch/x86/kernel/process_64.c, 6.12 and 7.2).
        let owner = match state.switching.take() {
            Some((previous, next)) if previous == task => next,
            _ => task,
        };
        let (depth, found) = match state.mode {
            Mode::On(other, depth) if other == owner && nests => (depth.saturating_add(1), None),
            Mode::On(..) => (1, Some(Disagreement::EnteredTwice)),
            Mode::Unknown | Mode::Off => (1, None),
        };
        state.mode = Mode::On(owner, depth);
        found
    }

    /// The architecture left the mode.
    pub(crate) fn left(&mut self, cpu: CpuId) -> Option<Disagreement> {
        let state = self.at(cpu);
        let before = state.mode;
        state.mode = match before {
            Mode::On(owner, depth @ 2..) => Mode::On(owner, depth - 1),
            _ => Mode::Off,
        };
        (before == Mode::Off).then_some(Disagreement::LeftTwice)
    }

    pub(crate) fn switched(&mut self, cpu: CpuId, previous: TaskId, next: TaskId) {
        self.at(cpu).switching = Some((previous, next));
    }

    /// A task does something to entries. What does not agree is told once.
    pub(crate) fn seen(&mut self, cpu: CpuId, task: TaskId, in_section: bool) -> Option<Disagreement> {
        let state = self.at(cpu);
        let found = match state.mode {
            Mode::On(owner, _) if owner != task => Disagreement::AnotherTasks,
            Mode::Off if in_section => Disagreement::OffInside,
            _ => return None,
        };
        state.mode = Mode::Unknown;
        Some(found)
    }

    fn at(&mut self, cpu: CpuId) -> &mut Cpu {
        self.told = true;
        let index = usize::from(cpu.0);
        if index >= self.all.len() {
            self.all.resize(index + 1, Cpu::default());
        }
        &mut self.all[index]
    }
}

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
        assert_eq!(cpus.left(CPU), None);
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
        assert_eq!(cpus.left(CPU), None);
        assert_eq!(cpus.entered(CPU, task(1), false), None, "for the task that comes in");
        assert_eq!(cpus.seen(CPU, task(2), true), None);
        assert_eq!(cpus.seen(CPU, task(1), true), Some(Disagreement::AnotherTasks));
        assert_eq!(cpus.seen(CPU, task(1), true), None, "told once");
    }

    #[test]
    fn sections_of_one_task_nest_only_before_7_0() {
        for nests in [true, false] {
            let mut cpus = Cpus::default();
            cpus.entered(CPU, task(1), nests);
            let expected = if nests { None } else { Some(Disagreement::EnteredTwice) };
            assert_eq!(cpus.entered(CPU, task(1), nests), expected);
            assert_eq!(cpus.left(CPU), None);
            let expected = if nests { None } else { Some(Disagreement::LeftTwice) };
            assert_eq!(cpus.left(CPU), expected);
        }
        let mut cpus = Cpus::default();
        cpus.entered(CPU, task(1), true);
        assert_eq!(cpus.entered(CPU, task(2), true), Some(Disagreement::EnteredTwice));
    }
}

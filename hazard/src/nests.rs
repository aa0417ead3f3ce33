//! What the calls of tasks tell on kernels before 7.0, which keep no counters: sections inside others, and leaves that
//! belong to no section.
//!
//! A section inside another is told only when both were left: a leave that was never recorded looks the same before.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::types::{StackId, TaskId};

/// A section that was entered inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nest {
    /// The call that entered the inner one.
    pub(crate) inner: StackId,
    /// The call that entered the outer one.
    pub(crate) outer: StackId,
    /// Sections that are not left.
    open: u32,
}

/// What a leave belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// A section, or nobody knows.
    Section,
    /// The outermost of nested sections.
    Nest(Nest),
    /// Nothing: the task was outside.
    Nothing,
}

/// Of all tasks.
#[derive(Default)]
pub(crate) struct Nests {
    open: FxHashMap<TaskId, Nest>,
    /// Tasks that are known to be outside.
    outside: FxHashSet<TaskId>,
    /// Whether calls may be missing of any task, so that nobody knows how deep it is, but for these.
    unsure: bool,
    /// Tasks for which it is the other way round.
    others: FxHashSet<TaskId>,
}

/// Of more tasks than this nothing is kept.
const MAX_TASKS: usize = 1 << 16;

impl Nests {
    /// The task entered a section; `inside` is the call that entered the one that it is in.
    pub(crate) fn entered(&mut self, task: TaskId, stack: StackId, inside: Option<StackId>) {
        self.outside.remove(&task);
        if !self.is_sure(task) {
            return;
        }
        if let Some(nest) = self.open.get_mut(&task) {
            // Inside the outer one, or after an inner one: then the mode is on again.
            nest.open = nest.open.saturating_add(1);
        } else if let Some(outer) = inside
            && self.open.len() < MAX_TASKS
        {
            self.open.insert(task, Nest { inner: stack, outer, open: 2 });
        }
    }

    /// The task left a section; `known` says whether that was seen to be entered.
    pub(crate) fn left(&mut self, task: TaskId, known: bool) -> Left {
        if !self.is_sure(task) {
            return Left::Section;
        }
        if let Some(nest) = self.open.get_mut(&task) {
            nest.open -= 1;
            if nest.open > 0 {
                return Left::Section;
            }
            let nest = *nest;
            self.open.remove(&task);
            self.outside.insert(task);
            return Left::Nest(nest);
        }
        if self.outside.contains(&task) {
            return Left::Nothing;
        }
        if known {
            if self.outside.len() >= MAX_TASKS {
                self.outside.clear();
            }
            self.outside.insert(task);
        }
        Left::Section
    }

    /// Calls of the task may be missing.
    pub(crate) fn doubt(&mut self, task: TaskId) {
        self.forget(task);
        if self.is_sure(task) {
            self.turn(task);
        }
    }

    /// The task ended: whoever gets its number is another one, which is outside.
    pub(crate) fn ended(&mut self, task: TaskId) {
        self.forget(task);
        if !self.is_sure(task) {
            self.turn(task);
        }
    }

    /// Calls of any task may be missing.
    pub(crate) fn doubt_all(&mut self) {
        self.open.clear();
        self.outside.clear();
        self.others.clear();
        self.unsure = true;
    }

    fn forget(&mut self, task: TaskId) {
        self.open.remove(&task);
        self.outside.remove(&task);
    }

    fn is_sure(&self, task: TaskId) -> bool {
        self.unsure == (!self.others.is_empty() && self.others.contains(&task))
    }

    fn turn(&mut self, task: TaskId) {
        if self.others.len() >= MAX_TASKS {
            self.doubt_all();
        } else if !self.others.remove(&task) {
            self.others.insert(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use lazymmu_abi::Record;

    use super::*;

    fn task(tid: usize) -> TaskId {
        TaskId::of(&Record { tid: tid as u32, ..Record::default() })
    }

    #[test]
    fn of_too_many_tasks_nothing_is_kept() {
        let mut nests = Nests::default();
        for tid in 1..=MAX_TASKS + 1 {
            nests.entered(task(tid), StackId(1), Some(StackId(2)));
        }
        assert_eq!(nests.open.len(), MAX_TASKS);
    }

    #[test]
    fn tasks_outside_are_forgotten_when_they_are_too_many() {
        let mut nests = Nests::default();
        for tid in 1..=MAX_TASKS {
            nests.left(task(tid), true);
        }
        assert_eq!(nests.left(task(1), true), Left::Nothing, "all of them are known");
        nests.left(task(MAX_TASKS + 1), true);
        assert_eq!(nests.outside.len(), 1);
        assert_eq!(nests.left(task(1), true), Left::Section);
    }

    /// What leaves tell of a task that entered a section inside another.
    fn nested(nests: &mut Nests, tid: usize) -> Left {
        nests.entered(task(tid), StackId(1), None);
        nests.entered(task(tid), StackId(2), Some(StackId(1)));
        assert_eq!(nests.left(task(tid), true), Left::Section, "the inner one, or nobody knows");
        nests.left(task(tid), true)
    }

    fn is_told(left: Left) -> bool {
        matches!(left, Left::Nest(Nest { inner: StackId(2), outer: StackId(1), .. }))
    }

    #[test]
    fn of_a_task_in_doubt_nothing_is_told_until_it_ends() {
        let mut nests = Nests::default();
        assert!(is_told(nested(&mut nests, 1)));
        for _ in 0..2 {
            nests.doubt(task(1));
            assert_eq!(nested(&mut nests, 1), Left::Section, "doubt about it twice is no less");
        }
        assert!(is_told(nested(&mut nests, 2)), "it is of one task");
        for _ in 0..2 {
            nests.ended(task(1));
            assert!(is_told(nested(&mut nests, 1)), "whoever gets its number");
        }
    }

    #[test]
    fn of_a_task_in_doubt_nothing_is_kept() {
        let mut nests = Nests::default();
        nests.entered(task(1), StackId(2), Some(StackId(1)));
        nests.left(task(2), true);
        assert_eq!((nests.open.len(), nests.outside.len()), (1, 1));
        nests.doubt(task(1));
        nests.doubt(task(2));
        nests.entered(task(1), StackId(2), Some(StackId(1)));
        assert!(nests.open.is_empty() && nests.outside.is_empty());
    }

    #[test]
    fn doubt_about_all_is_over_for_those_that_end() {
        let mut nests = Nests::default();
        nests.entered(task(1), StackId(2), Some(StackId(1)));
        nests.left(task(2), true);
        for _ in 0..2 {
            nests.doubt_all();
            assert!(nests.open.is_empty() && nests.outside.is_empty());
            assert_eq!(nested(&mut nests, 3), Left::Section);
            nests.ended(task(3));
            assert!(is_told(nested(&mut nests, 3)));
            assert_eq!(nested(&mut nests, 4), Left::Section, "another one");
        }
        nests.doubt(task(3));
        assert_eq!(nested(&mut nests, 3), Left::Section);
    }

    #[test]
    fn doubt_about_too_many_is_doubt_about_all() {
        let mut nests = Nests::default();
        for tid in 1..=MAX_TASKS {
            nests.doubt(task(tid));
        }
        let other = MAX_TASKS + 2;
        assert!(is_told(nested(&mut nests, other)), "there is room for all of them");
        nests.doubt(task(MAX_TASKS + 1));
        assert_eq!(nested(&mut nests, other), Left::Section);
        assert!(nests.others.is_empty());
    }
}

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
    nests: FxHashMap<TaskId, Nest>,
    /// Tasks that are known to be outside.
    outside: FxHashSet<TaskId>,
}

/// Of more tasks than this nothing is kept.
const MAX_TASKS: usize = 1 << 16;

impl Nests {
    /// The task entered a section; `inside` is the call that entered the one that it is in.
    pub(crate) fn entered(&mut self, task: TaskId, stack: StackId, inside: Option<StackId>) {
        self.outside.remove(&task);
        if let Some(nest) = self.nests.get_mut(&task) {
            // Inside the outer one, or after an inner one: then the mode is on again.
            nest.open = nest.open.saturating_add(1);
        } else if let Some(outer) = inside
            && self.nests.len() < MAX_TASKS
        {
            self.nests.insert(task, Nest { inner: stack, outer, open: 2 });
        }
    }

    /// The task left a section; `known` says whether that was seen to be entered.
    pub(crate) fn left(&mut self, task: TaskId, known: bool) -> Left {
        if let Some(nest) = self.nests.get_mut(&task) {
            nest.open -= 1;
            if nest.open > 0 {
                return Left::Section;
            }
            let nest = *nest;
            self.nests.remove(&task);
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

    /// Nothing is known of the task any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.nests.remove(&task);
        self.outside.remove(&task);
    }

    pub(crate) fn forget_all(&mut self) {
        self.nests.clear();
        self.outside.clear();
    }
}

//! The sections that are open, found by task.
//!
//! Only tasks inside a section are kept. Consecutive records of a CPU are mostly of one task, so each CPU remembers
//! where it was last.

use lazymmu_abi::Op;
use rustc_hash::FxHashMap;

use crate::pending::WriteId;
use crate::profile::ProfileMask;
use crate::section::{Effect, Mode, Step, Trust};
use crate::types::{CpuId, Nanos, StackId, TaskId, TaskName};

/// An open section (the outermost of the task).
#[derive(Debug)]
pub(crate) struct Section {
    /// Whose it is; none once it is closed.
    task: Option<TaskId>,
    pub(crate) mode: Mode,
    /// The stack of the call that entered it; none if that was before the first record.
    pub(crate) opener: StackId,
    /// The task's writes since the last flush.
    pub(crate) writes: Vec<WriteId>,
    /// What the rules want to know of it.
    pub(crate) story: Story,
    /// Where the task's last record came from.
    cpu: CpuId,
    /// Whether the task was switched out since.
    pub(crate) switched_out: bool,
    /// Whether it may have run elsewhere since its last call.
    pub(crate) away: bool,
    /// Entries pending of which no record tells, and how many of them a record has told of late.
    pub(crate) left_out: u64,
    /// See there.
    pub(crate) told_late: u64,
    /// When the queue was last empty, or what is in it forgotten.
    pub(crate) since: Nanos,
    /// What settled for some profiles since, and when last.
    pub(crate) settled: Vec<(Nanos, ProfileMask)>,
    /// Whether it did so without a word, so that calls are missing and nobody knows whether it is still inside.
    pub(crate) strayed: bool,
}

/// What happened in a section so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// Whether the kernel keeps counters of the mode, which makes what is known of it certain.
    pub(crate) counters: bool,
    /// Whether something in the section could not be explained, so that calls may be missing.
    pub(crate) doubtful: bool,
    /// Whether changes may be missing, so that the counts are too low.
    pub(crate) uncounted: bool,
    /// Entries that were written or changed.
    pub(crate) changed: u64,
    /// Times that something pending was flushed before the end.
    pub(crate) flushes: u64,
    /// Enters since the pause that is in effect which have not been left; `None` if it was not seen to begin.
    pub(crate) entered_paused: Option<u32>,
}

impl Section {
    /// Takes note of a mode call after which the section goes on.
    pub(crate) fn went_on(&mut self, op: Op, step: Step) {
        let story = &mut self.story;
        story.entered_paused = match (op, step.effect) {
            _ if step.trust != Trust::Sure => None,
            (_, Effect::Paused) => Some(0),
            (_, Effect::Resumed) => None,
            (Op::Enter, Effect::Nothing) => story.entered_paused.map(|count| count.saturating_add(1)),
            (Op::Leave, Effect::Nothing) => story.entered_paused.map(|count| count.saturating_sub(1)),
            _ => story.entered_paused,
        };
        self.mode = step.mode;
        self.away = false;
        self.strayed &= !self.story.counters;
    }

    /// Whether the mode is on, as far as that is known.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.mode.active() && !self.strayed
    }

    /// Where the task's last record came from.
    pub(crate) fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// The queue is empty from here on, or nothing is known of it. Returns how many entries of it no record told.
    #[inline]
    pub(crate) fn emptied(&mut self, now: Nanos) -> u64 {
        self.since = now;
        self.settled.clear();
        let untold = self.left_out.saturating_sub(self.told_late);
        (self.left_out, self.told_late) = (0, 0);
        untold
    }

    /// Takes note of a record of the task. Returns false if the task is on another CPU now and no record told that it
    /// was switched out: then others may be missing as well.
    #[inline]
    pub(crate) fn seen_on(&mut self, cpu: CpuId) -> bool {
        if self.cpu == cpu && !self.switched_out {
            return true;
        }
        let told = self.cpu == cpu || self.switched_out;
        (self.cpu, self.switched_out) = (cpu, false);
        told
    }
}

/// Names an open section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectionId(usize);

/// All open sections.
#[derive(Default)]
pub(crate) struct Sections {
    by_task: FxHashMap<TaskId, usize>,
    store: Vec<Section>,
    free: Vec<usize>,
    /// By CPU: the section found last. It may be another task's by now.
    recent: Vec<usize>,
}

/// The log of a closed section keeps its memory up to this many writes.
const KEPT_WRITES: usize = 512;

impl Sections {
    #[inline]
    pub(crate) fn find(&mut self, task: TaskId, cpu: CpuId) -> Option<SectionId> {
        if let Some(index) = self.recent.get(usize::from(cpu.0))
            && let Some(section) = self.store.get(*index)
            && section.task == Some(task)
        {
            return Some(SectionId(*index));
        }
        if self.by_task.is_empty() { None } else { self.look_up(task, cpu) }
    }

    #[inline(never)]
    fn look_up(&mut self, task: TaskId, cpu: CpuId) -> Option<SectionId> {
        let index = *self.by_task.get(&task)?;
        self.remember(cpu, index);
        Some(SectionId(index))
    }

    /// The task's open section, wherever it was last seen.
    pub(crate) fn of(&self, task: TaskId) -> Option<SectionId> {
        self.by_task.get(&task).map(|index| SectionId(*index))
    }

    pub(crate) fn has(&self, task: TaskId) -> bool {
        self.by_task.contains_key(&task)
    }

    /// Every open section with its task, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (TaskId, &Section)> {
        self.by_task.iter().map(|(task, index)| (*task, &self.store[*index]))
    }

    /// The task's open section, to look at.
    pub(crate) fn peek(&self, task: TaskId) -> Option<&Section> {
        self.by_task.get(&task).map(|index| &self.store[*index])
    }

    #[inline]
    pub(crate) fn get(&mut self, id: SectionId) -> &mut Section {
        &mut self.store[id.0]
    }

    /// Opens a section for a task that has none.
    pub(crate) fn open(&mut self, task: TaskId, cpu: CpuId, mode: Mode, opener: StackId) -> SectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.store.push(Section {
                task: None,
                mode,
                opener,
                writes: Vec::new(),
                story: Story::default(),
                cpu,
                switched_out: false,
                away: false,
                left_out: 0,
                told_late: 0,
                since: Nanos(0),
                settled: Vec::new(),
                strayed: false,
            });
            self.store.len() - 1
        });
        let section = &mut self.store[index];
        (section.task, section.mode, section.opener) = (Some(task), mode, opener);
        (section.cpu, section.switched_out, section.away) = (cpu, false, false);
        section.strayed = false;
        section.story = Story::default();
        self.by_task.insert(task, index);
        self.remember(cpu, index);
        SectionId(index)
    }

    /// Closes a section, whose writes the caller has taken out of the table.
    pub(crate) fn close(&mut self, id: SectionId) {
        let section = &mut self.store[id.0];
        section.writes.clear();
        section.writes.shrink_to(KEPT_WRITES);
        if let Some(task) = section.task.take() {
            self.by_task.remove(&task);
            self.free.push(id.0);
        }
    }

    /// Every open section, in no order.
    pub(crate) fn ids(&self) -> Vec<SectionId> {
        self.by_task.values().map(|index| SectionId(*index)).collect()
    }

    fn remember(&mut self, cpu: CpuId, index: usize) {
        let cpu = usize::from(cpu.0);
        if cpu >= self.recent.len() {
            self.recent.resize(cpu + 1, usize::MAX);
        }
        self.recent[cpu] = index;
    }
}

/// The names of tasks.
#[derive(Default)]
pub(crate) struct Names(FxHashMap<TaskId, TaskName>);

/// More names than this are not kept; they only serve the examples of findings.
const MAX_NAMES: usize = 1 << 16;

impl Names {
    pub(crate) fn insert(&mut self, task: TaskId, name: TaskName) {
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        self.0.insert(task, name);
    }

    pub(crate) fn remove(&mut self, task: TaskId) {
        self.0.remove(&task);
    }

    pub(crate) fn get(&self, task: TaskId) -> Option<TaskName> {
        self.0.get(&task).copied()
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
    fn a_closed_section_leaves_its_place_to_the_next() {
        let mut sections = Sections::default();
        for tid in 1..1000 {
            let id = sections.open(task(tid), CpuId(0), Mode::default(), StackId::NONE);
            assert!(sections.has(task(tid)) && !sections.has(task(tid + 1)));
            sections.close(id);
        }
        assert_eq!(sections.store.len(), 1);
    }

    #[test]
    fn what_was_left_out_is_counted_once() {
        let mut sections = Sections::default();
        let id = sections.open(task(1), CpuId(0), Mode::default(), StackId::NONE);
        let section = sections.get(id);
        (section.left_out, section.told_late) = (5, 2);
        section.settled.push((Nanos(1), ProfileMask::ALL));
        assert_eq!(section.emptied(Nanos(9)), 3);
        assert!(section.settled.is_empty() && section.since == Nanos(9));
        section.left_out = 4;
        assert_eq!(section.emptied(Nanos(10)), 4, "what came late before was of another batch");
        assert_eq!(section.emptied(Nanos(11)), 0);
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        let name = TaskName([0; 16]);
        for tid in 1..=MAX_NAMES {
            names.insert(task(tid), name);
        }
        assert_eq!(names.0.len(), MAX_NAMES);
        names.insert(task(MAX_NAMES + 1), name);
        assert_eq!((names.0.len(), names.get(task(MAX_NAMES + 1))), (1, Some(name)));
    }
}

//! Findings while they add up: one per place in the kernel, not one per event.
//!
//! What is kept grows with the number of different call stacks that break a rule, never with the length of the
//! trace.

use rustc_hash::FxHashMap;

use lazymmu_abi::{Context, Kind};

use crate::profile::ProfileMask;
use crate::rules::{Breach, RuleId};
use crate::types::{CpuId, EntryAddr, Nanos, ProcessId, StackId, TaskId, TaskName};

/// What makes two hazards the same occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The rule that is broken.
    pub rule: RuleId,
    /// What is wrong, where it is no access that meets a pending write.
    pub breach: Option<Breach>,
    /// The byte of the operation that wrote; `None` if no pending write has to do with it.
    pub write_op: Option<u8>,
    /// The kind of record of the access.
    pub access_kind: Kind,
    /// The byte of the operation that came too early, or at the wrong place.
    pub access_op: u8,
    /// The byte of the level of the entry; 0 if it is no entry.
    pub level: u8,
    /// The stack of the write, if there is one.
    pub write: Option<StackId>,
    /// The stack of the access.
    pub access: StackId,
    /// The stack of the call that entered the section; `None` outside of one.
    pub opener: Option<StackId>,
}

/// What the values say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The access got what was written: nothing was deferred here.
    Same,
    /// The access got something else: the write really was not there yet.
    Different,
    /// The values were not compared: one is not known, the architecture is not understood, or something else changed
    /// the entry in between.
    NotCompared,
}

/// One event in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// When the access was, since the first record.
    pub time: Nanos,
    /// Where the access ran.
    pub cpu: CpuId,
    /// The context of the access.
    pub context: Context,
    /// The task of the access.
    pub task: TaskId,
    /// Its process.
    pub process: ProcessId,
    /// Its name, if it was told.
    pub name: Option<TaskName>,
    /// The write that was pending, if there was one.
    pub write: Option<Written>,
    /// The entry; `None` if it is not about one.
    pub entry: Option<EntryAddr>,
    /// What the write put there.
    pub pending: Option<u64>,
    /// What the access got.
    pub seen: Option<u64>,
    /// What memory held at the access; right after a read-modify-write.
    pub memory: Option<u64>,
    /// What the values say.
    pub proof: Proof,
}

/// Who wrote, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// When the write was, since the first record.
    pub time: Nanos,
    /// Where it ran.
    pub cpu: CpuId,
    /// The task.
    pub task: TaskId,
    /// Its process.
    pub process: ProcessId,
    /// Its name at the access, if it was told.
    pub name: Option<TaskName>,
}

/// One hazard by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// The place.
    pub place: Place,
    /// The profiles on which it breaks.
    pub breaks: ProfileMask,
    /// The event.
    pub example: Example,
}

/// All hazards at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The place.
    pub place: Place,
    /// How many there were.
    pub count: u64,
    /// In how many of them the values differed.
    pub proven: u64,
    /// The profiles on which at least one of them breaks.
    pub breaks: ProfileMask,
    /// The first of them.
    pub first: Example,
    /// The first of them in which the values differed.
    pub first_proven: Option<Example>,
}

/// All occurrences, in the order in which each was first seen.
#[derive(Default)]
pub(crate) struct Occurrences {
    by_place: FxHashMap<Place, usize>,
    all: Vec<Occurrence>,
    /// Hazards between two tasks, until it is certain that no flush in between was lost.
    held: Vec<Hazard>,
    /// Whether nothing is held back.
    eager: bool,
    /// Every hazard by itself since it was last emptied, if someone watches.
    log: Option<Vec<Hazard>>,
}

/// More hazards than this are not held back at one time; they would be counts of the same places.
const MAX_HELD: usize = 4096;

impl Occurrences {
    pub(crate) fn watch(&mut self) {
        self.log.get_or_insert_default();
    }

    pub(crate) fn hold_nothing(&mut self) {
        self.eager = true;
    }

    pub(crate) fn take_log(&mut self) -> Vec<Hazard> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn add(&mut self, place: Place, breaks: ProfileMask, example: Example) {
        if let Some(log) = &mut self.log {
            log.push(Hazard { place, breaks, example });
        }
        let all = &mut self.all;
        let index = *self.by_place.entry(place).or_insert_with(|| {
            let none = ProfileMask::NONE;
            all.push(Occurrence {
                place,
                count: 0,
                proven: 0,
                breaks: none,
                first: example,
                first_proven: None,
            });
            all.len() - 1
        });
        let occurrence = &mut self.all[index];
        occurrence.count += 1;
        occurrence.breaks = occurrence.breaks.or(breaks);
        if example.proof == Proof::Different {
            occurrence.proven += 1;
            occurrence.first_proven.get_or_insert(example);
        }
    }

    /// Holds back a hazard with the write of another task. Whether that task's CPU lost the record of a flush is told
    /// only by the next record from there, which is at the latest the task's own next one.
    pub(crate) fn hold(&mut self, hazard: Hazard) {
        if self.eager {
            self.add(hazard.place, hazard.breaks, hazard.example);
        } else if self.held.len() < MAX_HELD {
            self.held.push(hazard);
        }
    }

    /// Whether anything is held back.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is held back because of writes of that task is certain; because of any, if no task is given.
    #[cold]
    pub(crate) fn confirm(&mut self, writer: Option<TaskId>) {
        let held = std::mem::take(&mut self.held);
        for hazard in held {
            if writer.is_none() || hazard.example.write.map(|write| write.task) == writer {
                self.add(hazard.place, hazard.breaks, hazard.example);
            } else {
                self.held.push(hazard);
            }
        }
    }

    /// What is held back because of writes of that task is in doubt; because of any, if no task is given.
    pub(crate) fn withdraw(&mut self, writer: Option<TaskId>) {
        self.held.retain(|hazard| writer.is_some() && hazard.example.write.map(|write| write.task) != writer);
    }

    pub(crate) fn all(&self) -> &[Occurrence] {
        &self.all
    }
}

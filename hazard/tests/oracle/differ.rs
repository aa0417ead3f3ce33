//! Where engine and oracle may differ: the whole list, and how each difference must look to be one of them.

use lazymmu_hazard::profile::ProfileId;

use crate::arch::{self, Does};
use crate::kernel::{Event, What};
use crate::machine::{Early, Machine};
use crate::program::Program;

/// Why engine and oracle may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Exception {
    /// Reported, not wrong: the entry was changed at once after the write, so what the access saw is the change. The
    /// write still waits and will undo it; that was told at the change.
    ChangedSince,
    /// Reported, not wrong: the batch was full in between. The engine does not count on that.
    BatchFull,
    /// Reported, not wrong: an interrupt's write flushed the batch. The engine does not count on that.
    InterruptFlush,
    /// Either way: the task had softirqs off, where the kernel takes the mode for off. No record tells.
    SoftirqsOff,
    /// Wrong, not reported: another task wrote the entry later; the engine keeps the latest write of an entry.
    HiddenByAnother,
    /// Wrong, not reported: the same task wrote the entry later, by an operation that this architecture does not queue.
    HiddenByOwn,
    /// Wrong, not reported: a read-modify-write in the queue of s390, where it is in order with its own task.
    QueuedInOrder,
    /// Reported on `strict`, where both writes wait in order: an architecture does one of them at once, and code that is
    /// wrong on one architecture is wrong.
    ContractOfAll,
    /// Missed on s390: the entry was changed since, so the cache of the other task may hold it.
    OwnCache,
    /// With losses: a later write is lost, or that it waits, so an earlier one that waits as well is blamed.
    HiderLost,
}

impl Exception {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChangedSince => "reported though the entry was changed at once since",
            Self::BatchFull => "reported though a full batch was flushed",
            Self::InterruptFlush => "reported though an interrupt's write flushed",
            Self::SoftirqsOff => "softirqs off, which no record tells",
            Self::HiddenByAnother => "missed behind a later write of another task",
            Self::HiddenByOwn => "missed behind the task's later write that is not queued there",
            Self::QueuedInOrder => "missed: a read-modify-write in the cache of s390",
            Self::ContractOfAll => "reported by the contract because an architecture breaks",
            Self::OwnCache => "missed: a changed entry on s390, which another cache may hold",
            Self::HiderLost => "with losses: the later write was lost, the earlier is blamed",
        }
    }
}

/// Whether a later write that may wait took the place of `write` at the entry, in the engine's table.
fn hider(events: &[Event], access: u32, write: u32, entry: u8) -> Option<&Event> {
    let between = &events[write as usize + 1..access as usize];
    between
        .iter()
        .rev()
        .find(|event| event.may_wait() && event.access().is_some_and(|(_, entries)| entries.contains(&entry)))
}

/// Reported and not wrong: why?
pub(crate) fn too_much(
    program: &Program,
    events: &[Event],
    access: u32,
    write: u32,
    profile: ProfileId,
) -> Option<Exception> {
    let (earlier, later) = (&events[write as usize], &events[access as usize]);
    if earlier.softirqs_off {
        return Some(Exception::SoftirqsOff);
    }
    let mut machine = Machine::new(profile, program.batch);
    machine.play(&events[..access as usize]);
    let (_, written) = earlier.access()?;
    let (_, touched) = later.access()?;
    let seen =
        written.filter(|entry| touched.contains(entry) && hider(events, access, write, *entry).is_none());
    // An access of several entries may itself fill the batch on its way.
    let mut after = Machine::new(profile, program.batch);
    after.play(&events[..=access as usize]);
    let why = seen.map(|entry| match after.early(write, entry) {
        Some(Early::BatchFull) => Some(Exception::BatchFull),
        Some(Early::Interrupt) => Some(Exception::InterruptFlush),
        None if machine.waits(write, entry) && machine.changed_since(write, entry) => {
            Some(Exception::ChangedSince)
        }
        None => None,
    });
    // Every entry at which the engine saw the write must be explained.
    why.collect::<Option<Vec<_>>>()?.first().copied()
}

/// Wrong and not reported: why?
pub(crate) fn too_little(
    events: &[Event],
    access: u32,
    write: u32,
    entries: &[u8],
    profile: ProfileId,
) -> Option<Exception> {
    let (earlier, later) = (&events[write as usize], &events[access as usize]);
    let (op, _) = earlier.access()?;
    let between = &events[write as usize + 1..access as usize];
    // A call without effect: a flush may have gone unseen, so the engine accuses nobody.
    let doubt = |event: &Event| {
        let call = matches!(event.what, What::Mode { .. });
        call && event.softirqs_off && event.task == earlier.task
    };
    if later.softirqs_off || between.iter().any(doubt) {
        return Some(Exception::SoftirqsOff);
    }
    if arch::does(profile, op) == Does::Cache {
        return Some(Exception::QueuedInOrder);
    }
    let why = entries.iter().map(|entry| {
        let hider = hider(events, access, write, *entry)?;
        let (op, _) = hider.access()?;
        match (hider.task == earlier.task, hider.softirqs_off) {
            (_, true) => Some(Exception::SoftirqsOff),
            (false, _) => Some(Exception::HiddenByAnother),
            (true, _) => (arch::does(profile, op) != Does::Queue).then_some(Exception::HiddenByOwn),
        }
    });
    why.collect::<Option<Vec<_>>>()?.first().copied()
}

/// Whether the write really waits at an entry at which a later write took its place in the engine's table: if that one
/// is not known to wait, it does not.
pub(crate) fn unhidden(
    program: &Program,
    events: &[Event],
    access: u32,
    write: u32,
    profile: ProfileId,
) -> Option<Exception> {
    if events[write as usize].softirqs_off {
        return Some(Exception::SoftirqsOff);
    }
    let mut machine = Machine::new(profile, program.batch);
    machine.play(&events[..access as usize]);
    let (_, mut written) = events[write as usize].access()?;
    let (_, touched) = events[access as usize].access()?;
    let waits = written.any(|entry| {
        touched.contains(&entry)
            && hider(events, access, write, entry).is_some()
            // Or would, but for what the engine does not count on.
            && (machine.waits(write, entry) || machine.early(write, entry).is_some())
    });
    waits.then_some(Exception::HiderLost)
}

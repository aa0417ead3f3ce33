//! Where engine and oracle may differ: the whole list, and how each difference must look to be one of them.

use lazymmu_abi::{Kind, Op};
use lazymmu_hazard::profile::ProfileId;

use crate::arch::{self, Does};
use crate::check::Places;
use crate::kernel::{Event, What};
use crate::machine::{Early, Machine};
use crate::program::Program;

/// Why engine and oracle may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Exception {
    /// Reported, not wrong: memory has something newer than the write, so what the access saw is that. The write still
    /// waits and will undo it: what the access goes on with does not last.
    ChangedSince,
    /// Reported, not wrong: the batch was full in between. The engine does not count on that. Or wrong, not reported: that
    /// was the batch of a later write, which is blamed instead.
    BatchFull,
    /// Either way: the task had softirqs off, where the kernel takes the mode for off. No record tells.
    SoftirqsOff,
    /// Wrong, not reported: the use of a mapping that a read-modify-write made, whose record has the old value only.
    ValueUntold,
    /// Reported on `strict`, where both writes wait in order: an architecture does one of them at once, and code that is
    /// wrong on one architecture is wrong.
    ContractOfAll,
    /// Wrong, not reported, on s390: what the accessor found in a cache or in memory is the work of a read-modify-write that
    /// was itself wrong, and was told.
    MadeOfOld,
    /// Wrong, not reported, on s390 between two tasks: something changed the entry around every cache that is known since
    /// the write. The engine takes the accessor to look at its own task's change, as it cannot know the cache of a task
    /// that it did not see enter.
    ChangedAround,
    /// Reported, not wrong: whether ptep_try_set() stores depends on what it finds. The engine takes it to store, so that
    /// every write that waits will go over it, not only the latest.
    MayStore,
    /// With losses: a later write or change is lost, or that it waits, so an earlier one that waits as well is blamed.
    HiderLost,
    /// With losses: it is wrong, and with all records a call with softirqs off left the engine in doubt.
    DoubtLost,
}

impl Exception {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChangedSince => "reported though the entry was changed at once since",
            Self::BatchFull => "reported though a full batch was flushed",
            Self::SoftirqsOff => "softirqs off, which no record tells",
            Self::MayStore => "reported though ptep_try_set() did not store",
            Self::ValueUntold => "missed: a use of what a read-modify-write maps, which it does not tell",
            Self::ContractOfAll => "reported by the contract because an architecture breaks",
            Self::MadeOfOld => "missed: on s390, made of an old value, which was told where it was made",
            Self::ChangedAround => "missed: on s390, changed around the caches since",
            Self::HiderLost => "with losses: the later write was lost, the earlier is blamed",
            Self::DoubtLost => "with losses: found, as what left it in doubt with softirqs off was lost",
        }
    }
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
    let mut machine = Machine::new(profile, program);
    machine.play(&events[..access as usize]);
    let (_, written) = earlier.access()?;
    let touched = later.touched()?;
    // An access of several entries may itself fill the batch on its way.
    let mut after = Machine::new(profile, program);
    after.play(&events[..=access as usize]);
    let mut why = Vec::new();
    for entry in written.filter(|entry| touched.contains(entry)) {
        why.push(match after.early(write, entry) {
            Some(Early::BatchFull) => Exception::BatchFull,
            // In a task the mode counts as on, unless softirqs are off.
            Some(Early::NotActive) if softirqs_were_off(events, access, write) => Exception::SoftirqsOff,
            None if !machine.waits(write, entry) => continue,
            // A use is held against the task's own writes only.
            None if matches!(later.what, What::Use { .. }) && machine.overtaken(write, entry) => {
                Exception::ChangedSince
            }
            None if machine.newer_waits(write, entry) => match later.access() {
                Some((Op::PtepTrySet, _)) => Exception::MayStore,
                // The newer one was flushed in the engine's table, by a flush that had no effect.
                _ if flushed_in_vain(events, access, write) => Exception::SoftirqsOff,
                _ => continue,
            },
            None if machine.overtaken(write, entry) => Exception::ChangedSince,
            Some(Early::NotActive) | None => return None,
        });
    }
    // Every entry at which the engine saw the write must be explained.
    why.first().copied()
}

/// Whether a task that had softirqs off called for a flush in between.
fn flushed_in_vain(events: &[Event], access: u32, write: u32) -> bool {
    let flush = |event: &Event| matches!(event.what, What::Mode { op: Op::Flush, .. });
    events[write as usize + 1..access as usize].iter().any(|event| event.softirqs_off && flush(event))
}

/// Wrong and not reported: why?
pub(crate) fn too_little(
    program: &Program,
    events: &[Event],
    access: u32,
    write: u32,
    entries: &[u8],
    profile: ProfileId,
    all: &Places,
) -> Option<Exception> {
    let (earlier, later) = (&events[write as usize], &events[access as usize]);
    let (op, _) = earlier.access()?;
    if matches!(later.what, What::Use { .. }) && op.info().kind == Kind::Rmw {
        return Some(Exception::ValueUntold);
    }
    let between = &events[write as usize + 1..access as usize];
    // A call without effect: a flush may have gone unseen, so the engine accuses nobody.
    let doubt = |event: &Event| {
        let call = matches!(event.what, What::Mode { .. });
        call && event.softirqs_off && event.task == earlier.task
    };
    // And what it takes to wait does not.
    let queued_in_vain = later.softirqs_off && later.kind() != Some(Kind::Read);
    if queued_in_vain || between.iter().any(doubt) {
        return Some(Exception::SoftirqsOff);
    }
    let mut machine = Machine::new(profile, program);
    machine.play(&events[..access as usize]);
    let why = entries.iter().map(|entry| {
        let changes = |event: &&Event| {
            let at = event.access().is_some_and(|(_, entries)| entries.contains(entry));
            at && event.kind() != Some(Kind::Read)
        };
        if between.iter().filter(changes).any(|event| event.softirqs_off) {
            return Some(Exception::SoftirqsOff);
        }
        // Who wrote later called with softirqs off since. What is under a write of which nobody knows is not known either.
        let called = |(number, event): (usize, &Event)| {
            let call = event.softirqs_off && matches!(event.what, What::Mode { .. });
            call && between[..number].iter().filter(changes).any(|change| change.task == event.task)
        };
        if between.iter().enumerate().any(called) {
            return Some(Exception::SoftirqsOff);
        }
        let full = |number: u32| machine.early(number, *entry) == Some(Early::BatchFull);
        if (write + 1..access).any(full) {
            return Some(Exception::BatchFull);
        }
        let by_cache = later.access().is_some_and(|(op, _)| arch::does(profile, op) == Does::Cache);
        let around = |event: &Event| {
            let cached = |op| matches!(arch::does(profile, op), Does::Queue | Does::Cache);
            !event.section_on || event.access().is_some_and(|(op, _)| !cached(op))
        };
        // A change of what was too old already: that was told there.
        let told = |number: u32| {
            let wrong = all.range((number, 0, ProfileId::Strict)..(number + 1, 0, ProfileId::Strict));
            wrong.into_iter().any(|((.., of), at)| *of == profile && at.contains(entry))
        };
        let derived = |number: &u32| events[*number as usize].kind() == Some(Kind::Rmw) && told(*number);
        if by_cache && profile == ProfileId::S390 && (0..access).any(|number| derived(&number)) {
            return Some(Exception::MadeOfOld);
        }
        let others = later.task != earlier.task && profile == ProfileId::S390;
        (others && by_cache && between.iter().filter(changes).any(around)).then_some(Exception::ChangedAround)
    });
    why.collect::<Option<Vec<_>>>()?.first().copied()
}

/// Whether a task that had softirqs off wrote in between.
fn softirqs_were_off(events: &[Event], access: u32, write: u32) -> bool {
    let between = &events[write as usize + 1..=access as usize];
    between.iter().any(|event| event.softirqs_off && event.access().is_some())
}

/// On s390: whether a change in between is among what was lost, which another task's accessor may look at.
pub(crate) fn change_lost(
    events: &[Event],
    access: u32,
    write: u32,
    profile: ProfileId,
    missing: &[u32],
) -> Option<Exception> {
    let touched = events[access as usize].touched()?;
    let changes = |number: &&u32| {
        let event = &events[**number as usize];
        let at = event
            .access()
            .is_some_and(|(_, entries)| entries.start < touched.end && touched.start < entries.end);
        (write..access).contains(*number) && at && event.kind() != Some(Kind::Read)
    };
    let lost = profile == ProfileId::S390 && missing.iter().any(|number| changes(&number));
    lost.then_some(Exception::HiderLost)
}

/// Whether the write really waits at an entry at which a newer one waits as well, which is what is blamed if it is known.
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
    let mut machine = Machine::new(profile, program);
    machine.play(&events[..access as usize]);
    let (_, mut written) = events[write as usize].access()?;
    let touched = events[access as usize].touched()?;
    // What is stored at once with softirqs off is taken to wait where the section is known.
    let between = &events[write as usize + 1..access as usize];
    let taken_to_wait = |entry: u8| {
        let changes = |event: &Event| event.softirqs_off && event.kind() != Some(Kind::Read);
        let at = |event: &Event| event.access().is_some_and(|(_, entries)| entries.contains(&entry));
        between.iter().any(|event| changes(event) && at(event))
    };
    let waits = written.any(|entry| {
        touched.contains(&entry)
            && (machine.newer_waits(write, entry) || machine.newer_early(write, entry) || taken_to_wait(entry))
            // Or would, but for what the engine does not count on.
            && (machine.waits(write, entry) || machine.early(write, entry).is_some())
    });
    waits.then_some(Exception::HiderLost)
}

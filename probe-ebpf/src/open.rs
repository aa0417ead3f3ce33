//! The sections that are open: what the programs keep of each while its task is inside.
//!
//! A table by thread id, in sets of a few places, so that a lookup is one access to an array. A task's place is taken
//! and changed by programs that run in that task alone, so only the taking of a free one needs an atomic.
//! Interrupts leave it alone.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use lazymmu_abi::LeftOut;

use crate::atomic::{compare_and_swap, is_zero};
use crate::stack::Slot;
use crate::task;

/// Sets of places; a power of two.
pub(crate) const SETS: u32 = 2048;
/// Places of a set: so many tasks whose ids are the same under the mask may be in a section at one time.
const WAYS: usize = 4;

/// Marks a thread id in [`Open::owner`], so that no place that is taken has 0 there.
const TAKEN: u64 = 1 << 32;

/// The places of tasks whose thread ids are the same under the mask.
#[repr(C)]
pub(crate) struct Set([Open; WAYS]);

/// All of them. A static, and no map of many values: its address is a constant of the programs, so a place is found by
/// adding to that, without the steps of a lookup.
#[repr(transparent)]
struct Table(UnsafeCell<[Set; SETS as usize]>);

// SAFETY: only reached through pointers; who may write what is said above.
unsafe impl Sync for Table {}

static OPEN: Table = Table(UnsafeCell::new([const { Set([const { Open::FREE }; WAYS]) }; SETS as usize]));

/// The set of that number, as far as there are so many.
#[inline(always)]
fn set(number: u32) -> *mut Set {
    // SAFETY: there are SETS of them.
    unsafe { OPEN.0.get().cast::<Set>().add((number & (SETS - 1)) as usize) }
}

/// An open section.
#[repr(C)]
pub(crate) struct Open {
    /// The thread id and [`TAKEN`]; 0 if the place is free.
    owner: u64,
    /// The id of the call stack that entered; 0 if that is not known.
    pub(crate) opener: u64,
    /// The second address of that stack: where the function that entered will return to. 0 if there is none.
    pub(crate) outer: u64,
    /// Names the place and the time from one flush to the next: what is pending has the tag of its time.
    pub(crate) tag: u64,
    /// How many sections the task is in, where the kernel does not count.
    pub(crate) depth: u32,
    /// The first write that is kept back since the last flush, and the last: places in [`crate::maps::HELD`] from 1 on;
    /// 0 if there is none.
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// How many writes are kept back.
    pub(crate) held: u32,
    /// What has no record of its own since the task's last record of the mode.
    pub(crate) left_out: LeftOut,
    /// Whether an inner leave has ended the mode, where the kernel does not count: 0 or 1.
    pub(crate) off: u32,
    /// The task's process.
    tgid: u32,
    reserved: u32,
    /// The last call stack of a program of the drop-in: [`Slot::Read`] to [`Slot::Rmw`].
    recent: [Recent; RECENT],
    /// See [`Open::forget`].
    word: u64,
}

/// How many programs keep their last call stack with the section.
const RECENT: usize = Slot::Rmw as usize + 1;

/// A call stack that is known by its first address, as the section has entered with one only.
#[repr(C)]
#[derive(Clone, Copy)]
struct Recent {
    /// 0 if there is none.
    caller: u64,
    stack: u64,
}

/// When so much is left out of a section, the rest is told: no count may overflow by one access more.
const FULL: u32 = LeftOut::MOST / 2;

impl Open {
    const FREE: Self = Self {
        owner: 0,
        opener: 0,
        outer: 0,
        tag: 0,
        depth: 0,
        first: 0,
        last: 0,
        held: 0,
        left_out: LeftOut { accesses: 0, changed: 0, pending: 0 },
        off: 0,
        tgid: 0,
        reserved: 0,
        recent: [Recent { caller: 0, stack: 0 }; RECENT],
        word: 0,
    };

    /// The call stack that the program had last in this section, if it began with that address.
    #[inline(always)]
    pub(crate) fn recent(&self, slot: Slot, caller: u64) -> Option<u64> {
        let recent = self.recent.get(slot as usize)?;
        (recent.caller == caller).then_some(recent.stack)
    }

    /// Keeps it.
    #[inline(always)]
    pub(crate) fn keep_recent(&mut self, slot: Slot, caller: u64, stack: u64) {
        if let Some(recent) = self.recent.get_mut(slot as usize) {
            *recent = Recent { caller, stack };
        }
    }

    /// The same number, of which neither the compiler nor the verifier knows any more where it came from. The section must be
    /// the current task's.
    #[inline(always)]
    pub(crate) fn forget(&mut self, word: u64) -> u64 {
        let place = &raw mut self.word;
        // SAFETY: it is this section's.
        unsafe {
            place.write_volatile(word);
            place.read_volatile()
        }
    }
    /// Thread id and thread group id of its task.
    #[inline(always)]
    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.owner as u32, self.tgid)
    }

    /// Whether no more may be left out.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.left_out.accesses >= FULL || self.left_out.changed >= FULL
    }
}

/// Where the number of the place stands in a tag.
const PLACE: u32 = 40;

/// Whether the section of a tag is open, and has not flushed since.
#[inline(always)]
pub(crate) fn is_current(tag: u64) -> bool {
    let place = (tag >> PLACE) as u32;
    // SAFETY: the set is a whole one and the way is below WAYS.
    let current = unsafe { &raw const (*set(place / WAYS as u32)).0[place as usize % WAYS].tag };
    // SAFETY: as above.
    unsafe { tag != 0 && current.read_volatile() == tag }
}

/// Whether two tags are of one place, so that one of them is old if they differ.
#[inline(always)]
pub(crate) fn are_of_one(tag: u64, other: u64) -> bool {
    (tag ^ other) >> PLACE == 0
}

/// The place of a task that is in a section.
#[inline(always)]
pub(crate) fn find(tid: u32) -> Option<NonNull<Open>> {
    let mut way = 0;
    at(tid, TAKEN | u64::from(tid), &mut way)
}

/// The first place of a task's set that has this owner, and its number in the set.
#[inline(always)]
fn at(tid: u32, owner: u64, at: &mut usize) -> Option<NonNull<Open>> {
    let set = set(tid);
    // SAFETY: `set` is a whole one.
    let first = unsafe { &raw mut (*set).0[0] };
    // It is that nearly always.
    // SAFETY: as above.
    if unsafe { (&raw const (*first).owner).read_volatile() } == owner {
        return NonNull::new(first);
    }
    let mut found = 0;
    for way in 1..WAYS {
        // SAFETY: as above, and `way` is below WAYS.
        let its = unsafe { (&raw const (*set).0[way].owner).read_volatile() };
        let here = is_zero(its ^ owner) & (found ^ 1);
        found |= here;
        *at += way * here as usize;
    }
    if found == 0 {
        return None;
    }
    // SAFETY: `at` is below WAYS.
    NonNull::new(unsafe { &raw mut (*set).0[*at % WAYS] })
}

/// The stack that entered a section, and its second address; both are 0 if there is none.
#[inline(always)]
pub(crate) fn opener(open: Option<NonNull<Open>>) -> (u64, u64) {
    match open {
        // SAFETY: it is the current task's.
        Some(open) => unsafe { (open.as_ref().opener, open.as_ref().outer) },
        None => (0, 0),
    }
}

/// Keeps the stack that entered the current task's section, and its second address.
#[inline(always)]
pub(crate) fn entered(opener: u64, outer: u64) {
    if let Some(open) = find(task::current_tid()) {
        // SAFETY: it is the current task's.
        unsafe {
            (*open.as_ptr()).opener = opener;
            (*open.as_ptr()).outer = outer;
        }
    }
}

/// What was pending is no more.
///
/// # Safety
///
/// It must be the current task's.
#[inline(always)]
pub(crate) unsafe fn flushed(open: *mut Open) {
    // SAFETY: the caller's promise.
    unsafe {
        let tag = &raw mut (*open).tag;
        tag.write_volatile(tag.read_volatile() + 1);
        ((*open).first, (*open).last, (*open).held) = (0, 0, 0);
    }
}

/// Takes what has no record.
///
/// # Safety
///
/// It must be the current task's.
#[inline(always)]
pub(crate) unsafe fn take_left_out(open: *mut Open) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let left_out = (*open).left_out;
        (*open).left_out = LeftOut { accesses: 0, changed: 0, pending: 0 };
        left_out.packed()
    }
}

/// A place for a task that had none; `None` if all that it may have are taken.
#[inline(always)]
pub(crate) fn take(tid: u32) -> Option<NonNull<Open>> {
    let mut way = 0;
    let open = at(tid, 0, &mut way)?;
    let place = open.as_ptr();
    // SAFETY: it is a place in the map.
    if unsafe { compare_and_swap(&raw mut (*place).owner, 0, TAKEN | u64::from(tid)) } != 0 {
        // Another CPU was faster. That is as rare as a set that is full, and is taken for one.
        return None;
    }
    // SAFETY: as above; it is this task's now.
    unsafe {
        (*place).opener = 0;
        (*place).outer = 0;
        (*place).depth = 0;
        (*place).off = 0;
        for slot in 0..RECENT {
            (*place).recent[slot].caller = 0;
        }
        (*place).tgid = task::current_ids().1;
        if (*place).tag == 0 {
            // From then on it only grows. 0 and 1 have a meaning for those that are pending.
            (*place).tag = (u64::from(tid & (SETS - 1)) * WAYS as u64 + way as u64) << PLACE | 2;
        }
        let _ = take_left_out(place);
        flushed(place);
    }
    Some(open)
}

/// Gives a place back.
///
/// # Safety
///
/// It must be the current task's.
#[inline(always)]
pub(crate) unsafe fn give_back(open: *mut Open) {
    // SAFETY: the caller's promise.
    unsafe {
        flushed(open);
        (&raw mut (*open).owner).write_volatile(0);
    }
}

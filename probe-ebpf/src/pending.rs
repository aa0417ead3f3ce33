//! The writes that are kept back with `Scope::Suspects`: by entry, until their section flushes.
//!
//! A table by the address of the entry, in sets of a few places. Nothing is ever taken out: what was written before its
//! section flushed has an old tag ([`crate::open`]), and its place is as good as free. A write of several entries has a
//! place for each, and all of them name the one that has the record.
//!
//! CPUs may want a place of one set at the same time, so it is taken with an atomic; who looks just then finds nothing
//! there yet.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_loop;
use lazymmu_abi::{Deferral, Flags, Kind, Record};

use crate::atomic::{compare_and_swap, is_zero, opaque, swap};
use crate::emit::Hit;
use crate::maps::{self, HELD, PENDING};
use crate::open::{self, Open};
use crate::task;

/// Sets of places, if user space says nothing else.
pub(crate) const SETS: u32 = 1;
/// Places of a set.
pub(crate) const WAYS: usize = 4;
/// A place that is just being taken.
const BUSY: u64 = 1;
/// The most entries of one write, and the most writes of a section, that are looked at: those of all that a table can
/// have, several times over.
const MOST: u32 = 8192;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Spreads entries of one set over its places: 2^64 over the golden ratio, made odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The places of entries whose addresses are the same under the mask.
#[repr(C)]
pub(crate) struct Set([Place; WAYS]);

/// An entry that is pending.
#[repr(C)]
struct Place {
    entry: u64,
    /// That of its section at the time.
    tag: u64,
    /// Where its record is: a number in [`HELD`].
    held: u64,
}

/// A write that is kept back.
#[repr(C)]
pub(crate) struct Held {
    record: Record,
    /// The section's next one, from 1 on; 0 if there is none.
    next: u64,
    /// Whether it was told.
    told: u64,
}

/// What is found at an entry.
pub(crate) struct Found {
    /// A write of the same section, of one entry, that was not told.
    pub(crate) own: Option<NonNull<Held>>,
    /// Whether there is anything else.
    pub(crate) more: bool,
    /// A place that is free, if one was found at once, and its number.
    free: Option<NonNull<Place>>,
    number: u32,
    /// The tag that is there.
    stale: u64,
}

#[inline(always)]
fn set_of(entry: u64) -> u32 {
    (entry / ENTRY) as u32 & maps::pending_mask()
}

/// What is pending at an entry, as the task sees it whose section this is.
#[inline(always)]
pub(crate) fn find(open: NonNull<Open>, entry: u64) -> Found {
    let nothing = Found { own: None, more: false, free: None, number: 0, stale: 0 };
    let set_number = set_of(entry);
    let Some(set) = PENDING.get_ptr_mut(set_number) else { return nothing };
    let mut at = WAYS as u64;
    for way in 0..WAYS {
        // SAFETY: `set` is a whole value of the map and `way` below WAYS.
        if unsafe { (&raw const (*set).0[way].entry).read_volatile() } == entry {
            if at != WAYS as u64 {
                // The long way tells.
                return Found { more: true, ..nothing };
            }
            at = way as u64;
        }
    }
    // SAFETY: the section is the current task's.
    let at = unsafe { (*open.as_ptr()).forget(at) };
    let here = at < WAYS as u64;
    // Without one, any that is free will do; more are looked at on the long way.
    let way = if here { at } else { entry.wrapping_mul(SPREAD) >> 62 };
    // SAFETY: the section is the current task's.
    let (way, tag) = unsafe { ((*open.as_ptr()).forget(way) as usize % WAYS, open.as_ref().tag) };
    // SAFETY: `set` is a whole value of the map and `way` below WAYS.
    let place = unsafe { &raw mut (*set).0[way] };
    // SAFETY: as above.
    let (its, held) = unsafe { ((&raw const (*place).tag).read_volatile(), (*place).held) };
    if !here || its != tag {
        // What the entry had before is mostly stale.
        let old = its != tag && its > BUSY && open::are_of_one(its, tag);
        let taken = !old && (its == BUSY || open::is_current(its));
        let free = if taken { None } else { NonNull::new(place) };
        let number = set_number * WAYS as u32 + way as u32;
        return Found { more: taken && here, free, number, stale: its, ..nothing };
    }
    let Some(held) = HELD.get_ptr_mut(held as u32).and_then(NonNull::new) else { return nothing };
    // SAFETY: it is a whole value of the map.
    let plain = unsafe { held.as_ref().told == 0 && held.as_ref().record.count == 1 };
    if plain { Found { own: Some(held), ..nothing } } else { Found { more: true, ..nothing } }
}

/// What it means that a task's access comes upon a write of its own section.
pub(crate) enum Meeting {
    /// Nothing: the access sees the write, wherever it is.
    Harmless,
    /// Nothing, and the write counts no more, as the access goes over it wherever it waits.
    Replaces,
    /// It must be told.
    Suspicious,
}

impl Held {
    /// Compares what waits with what comes, both of one entry.
    #[inline(always)]
    pub(crate) fn met_by(&self, kind: u8, op: u8) -> Meeting {
        let waits = maps::waits(self.record.op);
        let reads = kind == Kind::Read as u8;
        if kind != Kind::Write as u8 && waits & maps::sees(op) & !Deferral::COUNTED != 0 {
            Meeting::Suspicious
        } else if reads {
            Meeting::Harmless
        } else if waits & !maps::waits(op) == 0 && waits & Deferral::COUNTED == 0 {
            // What counts twice is told, so that each entry that is counted has its own write.
            Meeting::Replaces
        } else {
            Meeting::Suspicious
        }
    }

    /// Its record, to be replaced by that of another write of the same section.
    #[inline(always)]
    pub(crate) fn record(&mut self) -> *mut Record {
        &raw mut self.record
    }
}

/// Keeps a write of one entry back, whose record is filled in where it is kept. False if no place was found at once.
#[inline(always)]
pub(crate) fn hold(open: *mut Open, entry: u64, found: &Found, fill: impl FnOnce(*mut Record)) -> bool {
    // SAFETY: the section is the current task's.
    let tag = unsafe { (*open).tag };
    let Some(place) = found.free else { return false };
    // SAFETY: it is a place of the table.
    if unsafe { compare_and_swap(&raw mut (*place.as_ptr()).tag, found.stale, BUSY) } != found.stale {
        return false;
    }
    let Some(held) = HELD.get_ptr_mut(found.number) else { return false };
    // SAFETY: the place is this section's.
    unsafe {
        fill(&raw mut (*held).record);
        (*held).told = 0;
    }
    append(open, found.number, held);
    // SAFETY: it is a place of the table, and this program's until it has a tag.
    unsafe { put(place.as_ptr(), entry, found.number, tag) };
    true
}

/// Puts a write that is still to be told behind the section's others.
#[inline(always)]
fn append(open: *mut Open, number: u32, held: *mut Held) {
    // SAFETY: the place is this section's, and the section the current task's.
    unsafe {
        (*held).next = 0;
        let last = (*open).last;
        if last == 0 {
            (*open).first = number + 1;
        } else if let Some(last) = HELD.get_ptr_mut(last - 1) {
            (*last).next = u64::from(number) + 1;
        }
        (*open).last = number + 1;
        (*open).held += 1;
    }
}

/// Takes a place for an entry: one that the section has for it already, or one that is free. Gives its number.
#[inline(always)]
fn place_for(entry: u64, tag: u64) -> Option<u32> {
    let number = set_of(entry);
    let set = PENDING.get_ptr_mut(number)?;
    // A place that the entry had before, else the first one: then the others, as far as they are.
    let mut first = 0;
    for way in 1..WAYS {
        // SAFETY: `set` is a whole value of the map and `way` below WAYS.
        let there = unsafe { (&raw const (*set).0[way].entry).read_volatile() };
        first |= way * is_zero(there ^ entry) as usize;
    }
    // Below WAYS as it is; the verifier of 6.1 wants to see that.
    let first = opaque(first as u64) as usize;
    for next in 0..WAYS {
        let way = (first + next) % WAYS;
        // SAFETY: as above.
        let place = unsafe { &raw mut (*set).0[way] };
        // SAFETY: as above.
        let (there, its) = unsafe {
            ((&raw const (*place).entry).read_volatile(), (&raw const (*place).tag).read_volatile())
        };
        let number = number * WAYS as u32 + way as u32;
        if its == tag && there == entry {
            return Some(number);
        }
        if its == BUSY || open::is_current(its) {
            continue;
        }
        // SAFETY: as above.
        if unsafe { compare_and_swap(&raw mut (*place).tag, its, BUSY) } == its {
            return Some(number);
        }
    }
    None
}

/// Fills a place that was taken.
#[inline(always)]
fn publish(entry: u64, number: u32, held: u32, tag: u64) {
    let Some(set) = PENDING.get_ptr_mut(number / WAYS as u32) else { return };
    // SAFETY: `set` is a whole value of the map, the way below WAYS, and the place this program's until it has a tag.
    unsafe { put(&raw mut (*set).0[number as usize % WAYS], entry, held, tag) };
}

/// # Safety
///
/// It must be a place of the table, and this program's until it has a tag.
#[inline(always)]
unsafe fn put(place: *mut Place, entry: u64, held: u32, tag: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        (*place).entry = entry;
        (*place).held = held.into();
        (&raw mut (*place).tag).write_volatile(tag);
    }
}

/// What the functions that are called for each entry share.
struct Walk {
    /// Those of the hit.
    slot: u64,
    time: u64,
    entry: u64,
    tag: u64,
    /// Where the first entry's place is.
    number: u32,
    /// Whether anything was found.
    found: u32,
    /// Whether anything had no place.
    full: u32,
    /// The next write of a section, from 1 on.
    next: u32,
}

/// Tells of every write that is pending at some entries. Gives whether there is any.
#[inline(always)]
pub(crate) fn tell(hit: Hit, entry: u64, count: u32) -> bool {
    let mut walk =
        Walk { slot: hit.slot(), time: hit.time(), entry, tag: 0, number: 0, found: 0, full: 0, next: 0 };
    each(count, tell_at, &mut walk);
    walk.found != 0
}

/// Remembers all entries of a write, whose record is told or not. False if some had no place.
#[inline(always)]
pub(crate) fn remember(hit: Hit, open: *mut Open, record: *mut Record, told: u64) -> bool {
    // SAFETY: the section is the current task's, and `record` the program's own.
    let (tag, entry, count) = unsafe { ((*open).tag, (*record).entry, (*record).count) };
    let Some(number) = place_for(entry, tag) else { return false };
    let Some(held) = HELD.get_ptr_mut(number) else { return false };
    // SAFETY: the place is this section's.
    unsafe {
        (*held).record.time = (*record).time;
        maps::copy(&raw mut (*held).record, record);
        (*held).told = told;
    }
    if told == 0 {
        append(open, number, held);
    }
    let mut walk =
        Walk { slot: hit.slot(), time: hit.time(), entry, tag, number, found: 0, full: 0, next: 0 };
    publish(entry, number, number, tag);
    walk.entry += ENTRY;
    if count > 1 {
        each(u32::from(count) - 1, remember_at, &mut walk);
    }
    walk.full == 0
}

/// Tells of every write that the current task's section has kept back: something happens that may be too early for any.
#[inline(always)]
pub(crate) fn tell_own(hit: Hit) {
    if !maps::only_suspects() {
        return;
    }
    let Some(open) = open::find(task::current_tid()) else { return };
    // SAFETY: the section is the current task's.
    let (next, held) = unsafe { (open.as_ref().first, open.as_ref().held) };
    let mut walk =
        Walk { slot: hit.slot(), time: hit.time(), entry: 0, tag: 0, number: 0, found: 0, full: 0, next };
    if held > MOST {
        hit.lose(Kind::Write as u8);
    }
    each(held, tell_next, &mut walk);
}

#[inline(always)]
fn each(count: u32, work: unsafe extern "C" fn(u64, *mut Walk) -> i64, walk: &mut Walk) {
    let count = if count > MOST { MOST } else { count };
    // SAFETY: the function takes what is passed on to it.
    unsafe { bpf_loop(count, work as *mut c_void, core::ptr::from_mut(walk).cast(), 0) };
}

unsafe extern "C" fn tell_at(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: it is the caller's.
    let walk = unsafe { &mut *walk };
    let entry = walk.entry;
    walk.entry += ENTRY;
    let Some(set) = PENDING.get_ptr(set_of(entry)) else { return 1 };
    for way in 0..WAYS {
        // SAFETY: `set` is a whole value of the map and `way` below WAYS.
        let place = unsafe { &raw const (*set).0[way] };
        // SAFETY: as above.
        let (there, tag, held) = unsafe {
            (
                (&raw const (*place).entry).read_volatile(),
                (&raw const (*place).tag).read_volatile(),
                (*place).held,
            )
        };
        if there == entry && tag > BUSY && open::is_current(tag) {
            walk.found = 1;
            tell_one(walk.slot, walk.time, held as u32);
        }
    }
    0
}

unsafe extern "C" fn tell_next(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: it is the caller's.
    let walk = unsafe { &mut *walk };
    if walk.next == 0 {
        return 1;
    }
    let number = walk.next - 1;
    let Some(held) = HELD.get_ptr(number) else { return 1 };
    // SAFETY: `held` is a whole value of the map.
    walk.next = unsafe { (*held).next } as u32;
    tell_one(walk.slot, walk.time, number);
    0
}

unsafe extern "C" fn remember_at(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: it is the caller's.
    let walk = unsafe { &mut *walk };
    match place_for(walk.entry, walk.tag) {
        Some(number) => publish(walk.entry, number, walk.number, walk.tag),
        None => walk.full = 1,
    }
    walk.entry += ENTRY;
    0
}

/// Sends a write that was kept back, if nobody has yet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_one(slot: u64, time: u64, number: u32) -> u64 {
    let Some(held) = HELD.get_ptr_mut(number) else { return 0 };
    let Some(record) = maps::record_of_another(slot) else { return 0 };
    // SAFETY: `held` is a whole value of the map.
    if unsafe { swap(&raw mut (*held).told, 1) } != 0 {
        return 0;
    }
    let Some(hit) = Hit::again(slot, time) else { return 0 };
    // SAFETY: as above; `record` is this program's own on this CPU.
    unsafe {
        maps::copy(record, &raw const (*held).record);
        (*record).memory = (*held).record.time;
        (*record).flags |= Flags::HELD | Flags::MEMORY;
        hit.send_any(&*record);
    }
    1
}

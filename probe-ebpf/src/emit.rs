//! The way into the rings, and the account of what did not get in.
//!
//! A program works on a hit inside of [`during`], which tells user space so: while the slot of a program says that it
//! runs, what it sends is not in a ring for certain. So user space knows up to which time it has everything.
//!
//! Each item is counted as produced before room is asked for. Without room it is counted as lost, and the next
//! item of that CPU is sent only after `Lost` records that tell of it: a loss is never told after something that
//! came later. All counters are per CPU. What is counted of each item is by program, which does not nest in itself there,
//! and needs no atomic; losses are by kind, and atomic, because the programs of one CPU nest in each other.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use lazymmu_abi::{Counters, Flags, KINDS, Kind, RUNNERS, Record, StackItem};

use crate::atomic::{add, opaque, swap};
use crate::maps::{self, RINGS, Ring};
use crate::stack::{SLOTS, Slot};
use crate::task;

/// The slot of a loss that is not one record of a known kind.
const UNKNOWN: usize = 0;

/// The bytes that a ring keeps before each item (BPF_RINGBUF_HDR_SZ).
const HEADER: u64 = 8;

const _: () = assert!(SLOTS as usize <= RUNNERS);

/// What a program works on. All that it sends is of one time.
#[derive(Clone, Copy)]
pub(crate) struct Hit {
    time: u64,
    /// This CPU's whole value of the map.
    counters: *mut Counters,
    /// The program's [`Slot`], which is below `RUNNERS`.
    slot: usize,
}

/// Works on a hit.
#[inline(always)]
pub(crate) fn during(slot: Slot, work: impl FnOnce(Hit)) {
    let Some(counters) = maps::counters() else { return };
    // There is a place for each slot; the verifier wants to see that.
    let slot = opaque(slot as u64) as usize;
    if slot >= RUNNERS {
        return;
    }
    // SAFETY: `counters` is this CPU's whole value of the map.
    let running = unsafe { &raw mut (*counters).running[slot] };
    // SAFETY: as above. Another CPU may see this a little later than it was done, and so after the time was taken; that is
    // far less than what the sorter takes off for it.
    unsafe { running.write_volatile(Counters::STARTING) };
    let time = now();
    // SAFETY: as above.
    unsafe { running.write_volatile(time) };
    work(Hit { time, counters, slot });
    // SAFETY: as above. A ring is given an item by an exchange (`bpf_ringbuf_commit` in kernel/bpf/ringbuf.c, 6.1 to 7.2),
    // which is a barrier: what was sent can be seen before this.
    unsafe { running.write_volatile(0) };
}

impl Hit {
    /// A record of the current task, here and now.
    #[inline(always)]
    pub(crate) fn record(self, kind: Kind, op: u8) -> Record {
        let (tid, tgid) = task::current_ids();
        Record { time: self.time, tid, tgid, cpu: cpu(), kind: kind as u8, op, ..Record::default() }
    }

    /// The hit that a program works on, by its slot and time.
    #[inline(always)]
    pub(crate) fn again(slot: u64, time: u64) -> Option<Hit> {
        let counters = maps::counters()?;
        let slot = opaque(slot) as usize;
        if slot < RUNNERS { Some(Hit { time, counters, slot }) } else { None }
    }

    /// The program's slot.
    #[inline(always)]
    pub(crate) fn slot(self) -> u64 {
        self.slot as u64
    }

    /// Sends a record. False if it was lost.
    #[inline(always)]
    pub(crate) fn send(self, record: &Record, kind: Kind) -> bool {
        self.output(record, kind)
    }

    /// Sends a record of a kind that it says itself. False if it was lost, or is of none.
    #[inline(always)]
    pub(crate) fn send_any(self, record: &Record) -> bool {
        let kind = opaque(record.kind.into()) as usize;
        kind < KINDS && self.output_as(record, kind)
    }

    /// Sends a record that is filled in where it is sent from. False if it was lost, or its kind is none.
    #[inline(always)]
    pub(crate) fn send_in_place(self, kind: u8, fill: impl FnOnce(*mut Record)) -> bool {
        let kind = opaque(kind.into()) as usize;
        if kind >= KINDS {
            return false;
        }
        self.produced();
        if self.all_is_told()
            && let Some(ring) = ring()
            && let Some(mut entry) = ring.reserve(0)
        {
            fill(entry.as_mut_ptr());
            entry.submit(wake::<Record>(self.counters));
            return true;
        }
        // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
        unsafe { lose(self.counters, kind) };
        false
    }

    /// Sends a call stack. False if it was lost.
    #[inline(always)]
    pub(crate) fn send_stack(self, item: &StackItem) -> bool {
        self.output(item, Kind::Stack)
    }

    /// When it happened.
    #[inline(always)]
    pub(crate) fn time(self) -> u64 {
        self.time
    }

    /// Counts a record that cannot be made.
    #[inline(always)]
    pub(crate) fn lose(self, kind: u8) {
        let kind = opaque(kind.into()) as usize;
        if kind < KINDS {
            self.produced();
            // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
            unsafe { lose(self.counters, kind) };
        }
    }

    /// Counts that something is missing that cannot be told as a number of records of one kind.
    #[inline(always)]
    pub(crate) fn lose_unknown(self) {
        self.produced();
        // SAFETY: `counters` is this CPU's whole value of the map.
        unsafe { lose(self.counters, UNKNOWN) };
    }

    /// Counts an item.
    #[inline(always)]
    fn produced(self) {
        // SAFETY: `counters` is this CPU's whole value of the map, `slot` is below RUNNERS, and no other program counts there.
        unsafe {
            let produced = (&raw mut (*self.counters).produced).cast::<u64>().add(self.slot);
            produced.write_volatile(produced.read_volatile() + 1);
        }
    }

    #[inline(always)]
    fn output<T>(self, item: &T, kind: Kind) -> bool {
        slot(kind).is_some_and(|kind| self.output_as(item, kind))
    }

    /// `kind` must be below `KINDS`.
    #[inline(always)]
    fn output_as<T>(self, item: &T, kind: usize) -> bool {
        let counters = self.counters;
        self.produced();
        if self.all_is_told()
            && let Some(ring) = ring()
            && ring.output_untyped::<T>(item, wake::<T>(counters)).is_ok()
        {
            return true;
        }
        // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
        unsafe { lose(counters, kind) };
        false
    }

    /// Tells of what this CPU has lost. False if there is no room for that.
    #[inline(always)]
    fn all_is_told(self) -> bool {
        // SAFETY: `counters` is this CPU's whole value of the map.
        let untold = unsafe { core::ptr::read_volatile(&raw const (*self.counters).untold_total) };
        untold == 0 || tell(self.time) == 0
    }
}

/// The slot of a kind. Always there; the verifier wants to see that it is.
#[inline(always)]
fn slot(kind: Kind) -> Option<usize> {
    let slot = opaque(kind as u64) as usize;
    if slot < KINDS { Some(slot) } else { None }
}

/// This CPU's ring.
#[inline(always)]
fn ring() -> Option<&'static Ring> {
    RINGS.get(u32::from(cpu()) & maps::ring_mask())
}

/// Sends a `Lost` record for each kind of which this CPU has lost something since it last told. Returns how many
/// kinds are still untold because the ring has no room. `time` is that of what comes next, so that these stay before
/// it where records are put in the order of their times.
///
/// A subprogram of its own, so that the rare path is verified and compiled once.
#[inline(never)]
fn tell(time: u64) -> u64 {
    let Some(counters) = maps::counters() else { return 1 };
    let Some(ring) = ring() else { return 1 };
    for kind in 0..KINDS {
        // SAFETY: `counters` is this CPU's whole value of the map and `kind` is below KINDS.
        let untold = unsafe { &raw mut (*counters).untold[kind] };
        // SAFETY: as above.
        if unsafe { untold.read_volatile() } == 0 {
            continue;
        }
        // Room first: what is taken from `untold` must be told.
        let Some(mut entry) = ring.reserve(0) else { return 1 };
        // SAFETY: as above.
        let count = unsafe { swap(untold, 0) };
        // SAFETY: as above.
        unsafe { add(&raw mut (*counters).untold_total, count.wrapping_neg()) };
        let record = entry.as_mut_ptr();
        for word in 0..size_of::<Record>() / 8 {
            // SAFETY: a record is that many words. Volatile, as the compiler would call a function for all of it.
            unsafe { record.cast::<u64>().add(word).write_volatile(0) };
        }
        // SAFETY: all of it is initialised.
        unsafe {
            (*record).time = time;
            (*record).value = count;
            (*record).cpu = cpu();
            (*record).kind = Kind::Lost as u8;
            (*record).op = kind as u8;
            (*record).flags = Flags::VALUE;
        }
        if count == 0 {
            // A program that interrupted this one here has told it.
            entry.discard(BPF_RB_NO_WAKEUP.into());
        } else {
            entry.submit(wake::<Record>(counters));
        }
    }
    0
}

/// Whether the next item of this type is to wake the reader.
///
/// The reader looks by itself many times a second, so it is woken only when the ring fills faster than that: each time
/// that this CPU has sent so many bytes. A program that comes in between may be forgotten here, which moves the next
/// time by an item.
#[inline(always)]
fn wake<T>(counters: *mut Counters) -> u64 {
    let size = size_of::<T>() as u64 + HEADER;
    // SAFETY: `counters` is this CPU's whole value of the map.
    let sent = unsafe {
        let sent = &raw mut (*counters).sent;
        let all = sent.read_volatile() + size;
        sent.write_volatile(all);
        all
    };
    let flag =
        if sent & u64::from(maps::wake_step() - 1) < size { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    flag.into()
}

/// # Safety
///
/// `counters` must be this CPU's value of the map and `kind` below `KINDS`.
#[inline(always)]
unsafe fn lose(counters: *mut Counters, kind: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*counters).lost[kind], 1);
        add(&raw mut (*counters).untold[kind], 1);
        add(&raw mut (*counters).untold_total, 1);
    }
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
pub(crate) fn cpu() -> u16 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_get_smp_processor_id() as u16 }
}

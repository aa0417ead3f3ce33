//! The way into the rings, and the account of what did not get in.
//!
//! A program works on a hit inside of [`during`], which tells user space so: while the slot of a program says that it
//! runs, what it sends is not in a ring for certain. So user space knows up to which time it has everything.
//!
//! Each item is counted as produced before room is asked for. Without room it is counted as lost, and the next
//! item of that CPU is sent only after `Lost` records that tell of it: a loss is never told after something that
//! came later. All counters are per CPU, and atomic, because the programs of one CPU nest.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use lazymmu_abi::{Counters, Flags, KINDS, Kind, RUNNERS, Record, StackItem};

use crate::atomic::{add, opaque, swap};
use crate::maps::{self, COUNTERS, RINGS, Ring};
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
}

/// Works on a hit.
#[inline(always)]
pub(crate) fn during(slot: Slot, work: impl FnOnce(Hit)) {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
    // There is a place for each slot; the verifier wants to see that.
    let slot = opaque(slot as u64) as usize;
    if slot >= RUNNERS {
        return;
    }
    // SAFETY: `counters` is this CPU's whole value of the map.
    let running = unsafe { &raw mut (*counters).running[slot] };
    // SAFETY: as above. The exchange is a barrier: the time is later than when user space can see this.
    unsafe { swap(running, Counters::STARTING) };
    let time = now();
    // SAFETY: as above.
    unsafe { running.write_volatile(time) };
    work(Hit { time, counters });
    // SAFETY: as above. The exchange is a barrier: what was sent can be seen before this.
    unsafe { swap(running, 0) };
}

impl Hit {
    /// A record of the current task, here and now.
    #[inline(always)]
    pub(crate) fn record(self, kind: Kind, op: u8) -> Record {
        let (tid, tgid) = task::current_ids();
        Record { time: self.time, tid, tgid, cpu: cpu(), kind: kind as u8, op, ..Record::default() }
    }

    /// Sends a record. False if it was lost.
    #[inline(always)]
    pub(crate) fn send(self, record: &Record, kind: Kind) -> bool {
        self.output(record, kind)
    }

    /// Sends a record of a kind that it says itself. False if it was lost, or is of none.
    #[inline(always)]
    pub(crate) fn send_any(self, record: &Record) -> bool {
        let kind = record.kind as usize;
        kind < KINDS && self.output_as(record, kind)
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
    pub(crate) fn lose(self, kind: Kind) {
        let Some(kind) = slot(kind) else { return };
        // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
        unsafe {
            add(&raw mut (*self.counters).produced[kind], 1);
            lose(self.counters, kind);
        }
    }

    /// Counts that something is missing that cannot be told as a number of records of one kind.
    #[inline(always)]
    pub(crate) fn lose_unknown(self) {
        // SAFETY: `counters` is this CPU's whole value of the map.
        unsafe {
            add(&raw mut (*self.counters).produced[UNKNOWN], 1);
            lose(self.counters, UNKNOWN);
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
        // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
        unsafe {
            add(&raw mut (*counters).produced[kind], 1);
            let told =
                core::ptr::read_volatile(&raw const (*counters).untold_total) == 0 || tell(self.time) == 0;
            if told
                && let Some(ring) = ring()
                && ring.output_untyped::<T>(item, wake::<T>(ring)).is_ok()
            {
                return true;
            }
            lose(counters, kind);
        }
        false
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
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return 1 };
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
        entry.write(Record {
            time,
            value: count,
            cpu: cpu(),
            kind: Kind::Lost as u8,
            op: kind as u8,
            flags: Flags::VALUE,
            ..Record::default()
        });
        if count == 0 {
            // A program that interrupted this one here has told it.
            entry.discard(BPF_RB_NO_WAKEUP.into());
        } else {
            entry.submit(wake::<Record>(ring));
        }
    }
    0
}

/// Whether the next item of this type is to wake the reader.
///
/// The reader looks by itself many times a second, so it is woken only when the ring fills faster than that: each
/// time the unread part grows over a multiple of the step. Two CPUs that grow it over that at the same moment may
/// both miss it; then the next step wakes.
#[inline(always)]
fn wake<T>(ring: &Ring) -> u64 {
    let map = core::ptr::from_ref(ring).cast_mut().cast::<c_void>();
    // SAFETY: the map is a ring.
    let unread = unsafe { bpf_ringbuf_query(map, BPF_RB_AVAIL_DATA.into()) } + size_of::<T>() as u64 + HEADER;
    let below = unread & u64::from(maps::wake_step() - 1);
    let flag = if below < size_of::<T>() as u64 + HEADER { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
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

//! The way into the rings, and the account of what did not get in.
//!
//! A program works on a hit inside of [`during`], which tells user space so: while the slot of a program says that it
//! runs, what it sends is not in a ring for certain. So user space knows up to which time it has everything.
//!
//! Records go into rings of our own (`Head`), call stacks, of which there are few, into those of the kernel.
//!
//! Each item is counted as produced before room is asked for. Without room it is counted as lost, and the next
//! item of that CPU is sent only after `Lost` records that tell of it: a loss is never told after something that
//! came later. All counters are per CPU. What is counted of each item is by program, which does not nest in itself there,
//! and needs no atomic; losses are by kind, and atomic, because the programs of one CPU nest in each other.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use lazymmu_abi::{Counters, Flags, KINDS, Kind, RUNNERS, Record, StackItem};

use crate::atomic::{add, opaque, swap};
use crate::maps;
use crate::stack::{SLOTS, Slot};
use crate::task;

/// The slot of a loss that is not one record of a known kind.
const UNKNOWN: usize = 0;

/// Bytes of a record by which a stack counts when the reader is to be woken: rings of stacks are a quarter of the others'
/// size.
const SIZE_OF_STACK: u64 = 4 * size_of::<StackItem>() as u64;

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
    if let Some(hit) = Hit::begin(slot) {
        work(hit);
        hit.end();
    }
}

impl Hit {
    /// Begins to work on a hit: [`during`], where the compiler is to make no function of the work.
    #[inline(always)]
    pub(crate) fn begin(slot: Slot) -> Option<Hit> {
        let counters = maps::counters()?;
        // There is a place for each slot; the verifier wants to see that.
        let slot = opaque(slot as u64) as usize;
        if slot >= RUNNERS {
            return None;
        }
        // SAFETY: `counters` is this CPU's whole value of the map.
        let running = unsafe { &raw mut (*counters).running[slot] };
        // SAFETY: as above. Another CPU may see this a little later than it was done, and so after the time was taken; that is
        // far less than what the sorter takes off for it.
        unsafe { running.write_volatile(Counters::STARTING) };
        let time = now();
        // SAFETY: as above.
        unsafe { running.write_volatile(time) };
        Some(Hit { time, counters, slot })
    }

    /// Ends it.
    #[inline(always)]
    pub(crate) fn end(self) {
        // SAFETY: `counters` is this CPU's whole value of the map, and `slot` below RUNNERS. A ring is given an item by an
        // exchange (`show` here, `bpf_ringbuf_commit` in kernel/bpf/ringbuf.c, 6.1 to 7.2), which is a barrier: what was sent
        // can be seen before this.
        unsafe { (&raw mut (*self.counters).running).cast::<u64>().add(self.slot).write_volatile(0) };
    }

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

    /// Sends a record of this kind. False if it was lost.
    #[inline(always)]
    pub(crate) fn send(self, record: &Record, kind: Kind) -> bool {
        // SAFETY: both are whole records.
        self.send_in_place(kind as u8, |place| unsafe { maps::copy(place, record) })
    }

    /// Sends a record of a kind that it says itself. False if it was lost, or is of none.
    #[inline(always)]
    pub(crate) fn send_any(self, record: &Record) -> bool {
        // SAFETY: both are whole records.
        self.send_in_place(record.kind, |place| unsafe { maps::copy(place, record) })
    }

    /// Sends a record, of which all but the time is filled in where it is sent from. False if it was lost, or its kind is none.
    #[inline(always)]
    pub(crate) fn send_in_place(self, kind: u8, fill: impl FnOnce(*mut Record)) -> bool {
        let kind = opaque(kind.into()) as usize;
        if kind >= KINDS {
            return false;
        }
        self.produced();
        if self.all_is_told()
            && let Some(place) = maps::place(cpu())
        {
            fill(place);
            // SAFETY: the place is this program's own.
            unsafe { show(place, self.time) };
            count_sent(self.counters, size_of::<Record>() as u64);
            return true;
        }
        // SAFETY: `counters` is this CPU's whole value of the map, and `kind` is below KINDS.
        unsafe { lose(self.counters, kind) };
        false
    }

    /// Sends a call stack. False if it was lost.
    #[inline(always)]
    pub(crate) fn send_stack(self, item: &StackItem) -> bool {
        self.produced();
        if self.all_is_told()
            && let Some(ring) = maps::stack_ring(cpu())
            && ring.output(item, BPF_RB_NO_WAKEUP.into()).is_ok()
        {
            count_sent(self.counters, SIZE_OF_STACK);
            return true;
        }
        // SAFETY: `counters` is this CPU's whole value of the map, and the kind is below KINDS.
        unsafe { lose(self.counters, Kind::Stack as usize) };
        false
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

    /// Tells of what this CPU has lost. False if there is no room for that.
    #[inline(always)]
    fn all_is_told(self) -> bool {
        // SAFETY: `counters` is this CPU's whole value of the map.
        let untold = unsafe { core::ptr::read_volatile(&raw const (*self.counters).untold_total) };
        untold == 0 || tell_losses(self.time) == 0
    }
}

/// Shows a record to the reader.
///
/// # Safety
///
/// `place` must be one of a ring, this program's own and filled in.
#[inline(always)]
unsafe fn show(place: *mut Record, time: u64) {
    // SAFETY: the caller's promise. The exchange is a barrier: everything else is there before the time.
    unsafe { swap(&raw mut (*place).time, time) };
}

/// Sends a `Lost` record for each kind of which this CPU has lost something since it last told. Returns how many
/// kinds are still untold because the ring has no room. `time` is that of what comes next, so that these stay before
/// it where records are put in the order of their times.
///
/// A subprogram of its own, so that the rare path is verified and compiled once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_losses(time: u64) -> u64 {
    let Some(counters) = maps::counters() else { return 1 };
    for kind in 0..KINDS {
        // SAFETY: `counters` is this CPU's whole value of the map and `kind` is below KINDS.
        let untold = unsafe { &raw mut (*counters).untold[kind] };
        // SAFETY: as above.
        if unsafe { untold.read_volatile() } == 0 {
            continue;
        }
        // Room first: what is taken from `untold` must be told.
        let Some(place) = maps::place(cpu()) else { return 1 };
        // SAFETY: as above.
        let count = unsafe { swap(untold, 0) };
        // SAFETY: as above.
        unsafe { add(&raw mut (*counters).untold_total, count.wrapping_neg()) };
        for word in 1..size_of::<Record>() / 8 {
            // SAFETY: a record is that many words. Volatile, as the compiler would call a function for all of it.
            unsafe { place.cast::<u64>().add(word).write_volatile(0) };
        }
        // SAFETY: all of it is initialised, and the place this program's own.
        unsafe {
            (*place).value = count;
            (*place).cpu = cpu();
            // If a program that interrupted this one here has told it, the reader passes by this.
            (*place).kind = if count == 0 { 0 } else { Kind::Lost as u8 };
            (*place).op = kind as u8;
            (*place).flags = Flags::VALUE;
            show(place, time);
        }
        count_sent(counters, size_of::<Record>() as u64);
    }
    0
}

/// Counts what was sent, and wakes the reader if it is time to.
///
/// The reader looks by itself many times a second, so it is woken only when the rings fill faster than that: each time
/// that this CPU has sent so many bytes. A program that comes in between may be forgotten here, which moves the next
/// time by an item.
#[inline(always)]
fn count_sent(counters: *mut Counters, size: u64) {
    // SAFETY: `counters` is this CPU's whole value of the map.
    let sent = unsafe {
        let sent = &raw mut (*counters).sent;
        let all = sent.read_volatile() + size;
        sent.write_volatile(all);
        all
    };
    if sent & u64::from(maps::wake_step() - 1) < size {
        wake_reader();
    }
}

/// Wakes the reader, who waits for the ring of stacks, with an item that is none. If there is no room for it, the reader
/// comes soon by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wake_reader() -> u64 {
    if let Some(ring) = maps::stack_ring(cpu())
        && let Some(nothing) = ring.reserve_untyped::<u64>(0)
    {
        nothing.discard(BPF_RB_FORCE_WAKEUP.into());
    }
    0
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

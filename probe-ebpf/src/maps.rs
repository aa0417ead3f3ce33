//! The maps and the global that the programs share with user space.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use lazymmu_abi::{
    Code, Counters, Deferral, Head, MAX_RINGS, REGISTER_WORDS, Record, Scope, Settings, Site, SiteSettings,
    StackItem,
};

use crate::atomic::fetch_add;
use crate::{pending, stack, xen};

/// Records on their way to user space: the places of all rings, one ring behind the other. User space says how many
/// there are, and maps them: see [`Head`].
#[map]
static PLACES: Array<Record> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where each of these rings stands.
#[map]
static HEADS: Array<Head> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Call stacks on their way to user space. The size only describes the kind of map to the kernel, and is whole pages
/// everywhere; user space makes the rings, and may make smaller ones.
pub(crate) type StackRing = btf_maps::RingBuf<StackItem, { 64 << 10 }>;

/// The rings of stacks, of which each CPU uses one. User space fills in as many as it says in the settings.
#[btf_map]
static STACK_RINGS: btf_maps::ArrayOfMaps<StackRing, { MAX_RINGS as usize }> = btf_maps::ArrayOfMaps::new();

/// The number of a CPU's rings.
#[inline(always)]
fn ring_of(cpu: u16) -> u32 {
    u32::from(cpu) & ring_mask()
}

/// A CPU's ring of stacks.
#[inline(always)]
pub(crate) fn stack_ring(cpu: u16) -> Option<&'static StackRing> {
    STACK_RINGS.get(ring_of(cpu))
}

/// A place in a CPU's ring of records, to be filled in: everything but the time at first.
#[inline(always)]
pub(crate) fn place(cpu: u16) -> Option<*mut Record> {
    let ring = ring_of(cpu);
    let head = HEADS.get_ptr_mut(ring)?;
    // SAFETY: `head` is a whole value of the map.
    let given = unsafe {
        // In this order: no more are taken than were given.
        let taken = (&raw const (*head).taken).read_volatile();
        let waiting = (&raw const (*head).given).read_volatile().wrapping_sub(taken);
        // Below 0 where a processor reads in another order, and others went on meanwhile.
        if waiting.cast_signed() >= i64::from(ring_limit()) {
            return None;
        }
        fetch_add(&raw mut (*head).given, 1)
    };
    PLACES.get_ptr_mut(ring * ring_places() + (given as u32 & (ring_places() - 1)))
}

/// What was produced and lost, by CPU; user space says how many there can be. It maps this, because to ask the kernel for a
/// value is to keep programs on probed instructions from running: see `capture::sys`.
#[map]
static COUNTERS: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// This CPU's.
#[inline(always)]
pub(crate) fn counters() -> Option<*mut Counters> {
    // SAFETY: the helper has no precondition.
    COUNTERS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// Where each program builds its call stack: [`crate::stack::Slot`] is the index.
#[map]
pub(crate) static SCRATCH: PerCpuArray<StackItem> = PerCpuArray::with_max_entries(crate::stack::SLOTS, 0);

/// Where each program builds records that are too large for the stack: its own, and behind all of these one for each that
/// tells of what another program kept back.
#[map]
static RECORDS: PerCpuArray<Record> = PerCpuArray::with_max_entries(2 * stack::SLOTS, 0);

/// The place of a program's record.
#[inline(always)]
pub(crate) fn record(slot: stack::Slot) -> Option<*mut Record> {
    RECORDS.get_ptr_mut(slot as u32)
}

/// The place of the record that it tells of.
#[inline(always)]
pub(crate) fn record_of_another(slot: u64) -> Option<*mut Record> {
    RECORDS.get_ptr_mut(stack::SLOTS + slot as u32)
}

/// Copies a record but for its time, which is its first word, word by word and inline.
///
/// # Safety
///
/// Both must be whole and aligned, and this program may write the one.
#[inline(always)]
pub(crate) unsafe fn copy(to: *mut Record, from: *const Record) {
    const { assert!(core::mem::offset_of!(Record, time) == 0) };
    for word in 1..size_of::<Record>() / 8 {
        // SAFETY: the caller's promise. Volatile, as the compiler would call a function for all of it.
        unsafe { to.cast::<u64>().add(word).write_volatile(from.cast::<u64>().add(word).read_volatile()) };
    }
}

/// Words that a program puts down and takes up again: see [`forget`].
#[map]
static WORDS: PerCpuArray<[u64; WORDS_OF_EACH]> = PerCpuArray::with_max_entries(stack::SLOTS, 0);

/// How many words a program may put down.
const WORDS_OF_EACH: usize = 4;

/// The same words, of which neither the compiler nor the verifier knows any more where they came from: what follows is
/// compiled and verified once and not for each way that leads there.
#[inline(always)]
pub(crate) fn forget<const N: usize>(slot: stack::Slot, words: [u64; N]) -> Option<[u64; N]> {
    const { assert!(N <= WORDS_OF_EACH) };
    let place = WORDS.get_ptr_mut(slot as u32)?;
    let mut again = [0; N];
    for index in 0..N {
        // SAFETY: `place` is a whole value of the map, this program's own on this CPU.
        unsafe {
            (&raw mut (*place)[index]).write_volatile(words[index]);
            again[index] = (&raw const (*place)[index]).read_volatile();
        }
    }
    Some(again)
}

/// Which entries are pending, with [`Scope::Suspects`]. User space says how many; else there is one set.
#[map]
pub(crate) static PENDING: Array<pending::Set> = Array::with_max_entries(pending::SETS, 0);

/// The writes that they have, by the number of the place of the first entry.
#[map]
pub(crate) static HELD: Array<pending::Held> =
    Array::with_max_entries(pending::SETS * pending::WAYS as u32, 0);

/// The call stacks inside of sections that are known without being taken, for each program that asks for them.
#[map]
pub(crate) static KNOWN: PerCpuArray<stack::Known> =
    PerCpuArray::with_max_entries(stack::KNOWN_BY_PROGRAM * stack::KNOWING_PROGRAMS, 0);

/// The architecture's mode, by CPU, as its own calls tell.
#[map]
pub(crate) static ARCH: PerCpuArray<xen::Mode> = PerCpuArray::with_max_entries(1, 0);

/// The ids of stacks that were sent. A stack whose id was evicted is sent again, which does no harm.
#[map]
pub(crate) static SENT: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16384, 0);

/// The names that were sent, by tid. The same holds.
#[map]
pub(crate) static NAMES: LruHashMap<u32, [u64; 2]> = LruHashMap::with_max_entries(8192, 0);

/// The instructions that are probed, by the cookie of the probe. User space makes it as large as it has some.
#[map]
pub(crate) static SITES: Array<Site> = Array::with_max_entries(1, 0);

/// Where the programs for probed instructions keep the registers.
#[map]
pub(crate) static SITE_REGISTERS: PerCpuArray<[u64; REGISTER_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Not 0 once every instruction is probed that is going to be, and until the first is no more.
#[map]
pub(crate) static ARMED: Array<u32> = Array::with_max_entries(1, 0);

/// Overridden by user space at load.
#[unsafe(no_mangle)]
static SITE_SETTINGS: SiteSettings = SiteSettings {
    per_cpu: 0,
    preempt_count: 0,
    stack_pointer: 0,
    own: [Code { start: 0, len: 0 }; SiteSettings::OWN],
};

/// Overridden by user space at load.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    scope: Scope::Sections as u32,
    enable_count: Settings::NO_OFFSET,
    pause_count: Settings::NO_OFFSET,
    pid: Settings::NO_OFFSET,
    wake_step: 1 << 21,
    instruction: Settings::NO_OFFSET,
    ring_mask: 0,
    ring_places: 1,
    ring_limit: 0,
    pending_mask: 0,
    stacks: 1,
    by_cpu: 0,
    schedule: Code { start: 0, len: 0 },
    exit: Code { start: 0, len: 0 },
};

/// Overridden by user space at load.
#[unsafe(no_mangle)]
static DEFERRAL: Deferral = Deferral::UNKNOWN;

/// Where the store of an operation waits. The compiler must not use the values that stand above.
#[inline(always)]
pub(crate) fn waits(op: u8) -> u8 {
    // SAFETY: the table has a place for every byte, and nothing writes it once the programs are loaded.
    unsafe { core::ptr::read_volatile(&raw const DEFERRAL.waits[op as usize]) }
}

/// Where an operation looks at memory.
#[inline(always)]
pub(crate) fn sees(op: u8) -> u8 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const DEFERRAL.sees[op as usize]) }
}

/// Reads one setting. Volatile, because the compiler must not use the value that stands above; one number at a time,
/// because then the verifier knows it as a constant.
macro_rules! setting {
    ($field:ident $(. $inner:ident)?) => {{
        // SAFETY: the field is initialised and nothing writes it once the programs are loaded.
        unsafe { core::ptr::read_volatile(&raw const SETTINGS.$field $(. $inner)?) }
    }};
}

#[inline(always)]
pub(crate) fn scope() -> u32 {
    setting!(scope)
}

#[inline(always)]
pub(crate) fn enable_count_offset() -> u32 {
    setting!(enable_count)
}

#[inline(always)]
pub(crate) fn pause_count_offset() -> u32 {
    setting!(pause_count)
}

#[inline(always)]
pub(crate) fn pid_offset() -> u32 {
    setting!(pid)
}

#[inline(always)]
pub(crate) fn wake_step() -> u32 {
    setting!(wake_step)
}

#[inline(always)]
pub(crate) fn instruction_offset() -> u32 {
    setting!(instruction)
}

#[inline(always)]
fn ring_mask() -> u32 {
    setting!(ring_mask)
}

#[inline(always)]
fn ring_places() -> u32 {
    setting!(ring_places)
}

#[inline(always)]
fn ring_limit() -> u32 {
    setting!(ring_limit)
}

#[inline(always)]
pub(crate) fn pending_mask() -> u32 {
    setting!(pending_mask)
}

/// Whether only what comes upon a pending write is emitted.
#[inline(always)]
pub(crate) fn only_suspects() -> bool {
    scope() == Scope::Suspects as u32
}

#[inline(always)]
pub(crate) fn stacks() -> bool {
    setting!(stacks) != 0
}

/// Whether the mode is a state of each CPU as well.
#[inline(always)]
pub(crate) fn by_cpu() -> bool {
    setting!(by_cpu) != 0
}

/// Where `sched_switch` is traced.
#[inline(always)]
pub(crate) fn schedule() -> Code {
    Code { start: setting!(schedule.start), len: setting!(schedule.len) }
}

/// Where `sched_process_exit` is traced.
#[inline(always)]
pub(crate) fn exit() -> Code {
    Code { start: setting!(exit.start), len: setting!(exit.len) }
}

/// The kernel's table of what to add to addresses of what each CPU has; 0 if it is not known.
#[inline(always)]
pub(crate) fn per_cpu() -> u64 {
    // SAFETY: as for `setting!`.
    unsafe { core::ptr::read_volatile(&raw const SITE_SETTINGS.per_cpu) }
}

/// Where `preempt_count` is, before that is added.
#[inline(always)]
pub(crate) fn preempt_count() -> u64 {
    // SAFETY: as for `setting!`.
    unsafe { core::ptr::read_volatile(&raw const SITE_SETTINGS.preempt_count) }
}

/// Where `struct pt_regs` has the stack pointer.
#[inline(always)]
pub(crate) fn stack_pointer() -> u64 {
    // SAFETY: as for `setting!`.
    unsafe { core::ptr::read_volatile(&raw const SITE_SETTINGS.stack_pointer) }
}

/// Whether an address is in a function of the architecture's own that calls the mode.
#[inline(always)]
pub(crate) fn is_own(address: u64) -> bool {
    let mut own = false;
    for index in 0..SiteSettings::OWN {
        // SAFETY: as for `setting!`.
        let Code { start, len } = unsafe { core::ptr::read_volatile(&raw const SITE_SETTINGS.own[index]) };
        own |= address.wrapping_sub(start) < len;
    }
    own
}

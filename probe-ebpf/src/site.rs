//! Instructions of a kernel without the drop-in, probed one by one: `site_access` where an entry of a page table is
//! accessed, `site_section` where the mode changes.
//!
//! Kprobes, so both come before the instruction; what it is going to do is worked out from the registers, after the
//! table that user space has filled in. So a read tells what memory holds, a write what is going to be written and not
//! what memory held after it, and a read-modify-write what it is going to replace.
//!
//! While one of them runs, the kernel lets none in on that CPU, not from an interrupt either (`kprobe_running` in
//! arch/x86/kernel/kprobes/{core,ftrace}.c, `trace_call_bpf` in kernel/trace/bpf_trace.c; 6.1 to 7.2): what it skips, it
//! counts. So they share the memory that they work in.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_get_smp_processor_id, bpf_probe_read_kernel as bpf_probe_read_kernel_bytes,
};
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use lazymmu_abi::{Context, Flags, Kind, Op, REGISTER_WORDS, Record, Settings, Site};

use crate::emit::Hit;
use crate::maps::{self, ARMED, SITE_RECORD, SITE_REGISTERS, SITES};
use crate::stack::{self, Slot, Taken};
use crate::{emit, open, section, task};

/// The parts of `preempt_count` (include/linux/preempt.h, 6.1 to 7.2).
const SOFTIRQ_OFFSET: u32 = 1 << 8;
const HARDIRQ_OFFSET: u32 = 1 << 16;
const HARDIRQ_MASK: u32 = 0xf << 16;
const NMI_OFFSET: u32 = 1 << 20;
const NMI_MASK: u32 = 0xf << 20;

#[kprobe]
fn site_access(ctx: ProbeContext) -> u32 {
    if armed()
        && task::wanted()
        && let Some(site) = site(&ctx)
    {
        emit::during(Slot::Site, |hit| access(&ctx, hit, site));
    }
    0
}

#[kprobe]
fn site_section(ctx: ProbeContext) -> u32 {
    if armed()
        && let Some(site) = site(&ctx)
    {
        // A leave flushes as well, by a call of its own that comes after it. Then it has told of that already.
        if site.op != Op::Flush as u8 || task::current_in_section() {
            emit::during(Slot::Site, |hit| call(&ctx, hit, site));
        }
    }
    0
}

#[inline(always)]
fn armed() -> bool {
    // SAFETY: user space writes the whole word at once.
    ARMED.get_ptr(0).is_some_and(|armed| unsafe { armed.read_volatile() } != 0)
}

#[inline(always)]
fn site(ctx: &ProbeContext) -> Option<&'static Site> {
    // SAFETY: `ctx` is the context of the program.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    SITES.get(cookie as u32)
}

/// The registers as they were before the instruction, in memory of this program's own: they are too many for the stack.
#[derive(Clone, Copy)]
struct Registers(*const [u64; REGISTER_WORDS]);

impl Registers {
    #[inline(always)]
    fn of(ctx: &ProbeContext) -> Option<Self> {
        let words = SITE_REGISTERS.get_ptr_mut(0)?;
        let size = size_of::<[u64; REGISTER_WORDS]>() as u32;
        // SAFETY: `words` has that size; the helper reads any address and fails where there is nothing to read.
        let read = unsafe { bpf_probe_read_kernel_bytes(words.cast(), size, ctx.as_ptr()) };
        (read == 0).then_some(Self(words))
    }

    /// What a register holds; 0 for none.
    #[inline(always)]
    fn get(self, word: u8) -> u64 {
        let word = usize::from(word);
        // SAFETY: `words` is this program's own on this CPU, and has so many.
        if word < REGISTER_WORDS { unsafe { (*self.0)[word] } } else { 0 }
    }

    /// The instruction pointer, which is one behind the probe's address (`kprobe_int3_handler` in
    /// arch/x86/kernel/kprobes/core.c, `kprobe_ftrace_handler` in arch/x86/kernel/kprobes/ftrace.c; 6.1 to 7.2).
    #[inline(always)]
    fn instruction(self) -> u64 {
        let offset = maps::instruction_offset();
        if offset == Settings::NO_OFFSET { 0 } else { self.get((offset / 8) as u8) }
    }
}

/// An access: all but its stack goes into the record first.
#[inline(always)]
fn access(ctx: &ProbeContext, hit: Hit, site: &Site) {
    let Some(record) = SITE_RECORD.get_ptr_mut(0) else { return };
    let Some(registers) = Registers::of(ctx) else { return hit.lose_unknown() };
    // SAFETY: `record` is this program's own on this CPU.
    unsafe {
        begin(record, hit, site, registers);
        fill(record, site, registers);
    }
    finish(ctx, hit, site, record, true);
}

/// Fills in what is accessed.
///
/// # Safety
///
/// `record` must be a whole `Record` that nothing else writes.
#[inline(always)]
unsafe fn fill(record: *mut Record, site: &Site, registers: Registers) {
    let address = registers
        .get(site.base)
        .wrapping_add(registers.get(site.index).wrapping_mul(u64::from(site.scale)))
        .wrapping_add(site.displacement);
    // An instruction that looks at some bytes of an entry points to these.
    let entry = address & !7;
    // SAFETY: the caller's promise; the helper reads any address and fails where there is nothing to read.
    unsafe {
        (*record).entry = entry;
        if site.kind == Kind::Write as u8 {
            if site.flags & Site::IMMEDIATE != 0 {
                (*record).value = site.immediate;
                (*record).flags |= Flags::VALUE;
            } else if site.value != Site::NO_REGISTER {
                (*record).value = registers.get(site.value);
                (*record).flags |= Flags::VALUE;
            }
        } else if let Ok(now) = bpf_probe_read_kernel(entry as *const u64) {
            (*record).value = now;
            (*record).flags |= Flags::VALUE;
            if site.kind == Kind::Read as u8 {
                (*record).memory = now;
                (*record).flags |= Flags::MEMORY;
            }
        }
        if site.count != Site::NO_REGISTER {
            let count = registers.get(site.count) as u32;
            (*record).count = if count > u32::from(u16::MAX) { u16::MAX } else { count as u16 };
        }
    }
}

/// A mode call: the counters are told as they are going to be after it.
#[inline(always)]
fn call(ctx: &ProbeContext, hit: Hit, site: &Site) {
    let Some(record) = SITE_RECORD.get_ptr_mut(0) else { return };
    let Some(registers) = Registers::of(ctx) else { return hit.lose_unknown() };
    let op = site.op;
    section::send_name(hit);
    // SAFETY: `record` is this program's own on this CPU.
    let context = unsafe {
        begin(record, hit, site, registers);
        (*record).count = 0;
        (&raw const (*record).flags).read_volatile()
    };
    let odd = if let Some((mut enable, mut pause)) = task::counters() {
        match op {
            op if op == Op::Enter as u8 => enable = enable.wrapping_add(1),
            op if op == Op::Leave as u8 => enable = enable.wrapping_sub(1),
            op if op == Op::Pause as u8 => pause = pause.wrapping_add(1),
            op if op == Op::Resume as u8 => pause = pause.wrapping_sub(1),
            _ => {}
        }
        // SAFETY: as above.
        unsafe {
            (*record).value = enable.into();
            (*record).memory = pause.into();
            (*record).flags |= Flags::VALUE | Flags::MEMORY;
        }
        enable != 0 || pause != 0
    } else if context == Context::Task as u8 {
        let (tid, _) = task::current_ids();
        section::count(ctx, hit, op, tid, open::find(tid)).0
    } else {
        task::current_in_section()
    };
    finish(ctx, hit, site, record, odd || op == Op::Enter as u8);
}

/// What every record has.
///
/// # Safety
///
/// As for [`fill`].
#[inline(always)]
unsafe fn begin(record: *mut Record, hit: Hit, site: &Site, registers: Registers) {
    let base = hit.record(Kind::Read, site.op);
    // SAFETY: the caller's promise.
    unsafe {
        record.write(Record {
            kind: site.kind,
            level: site.level,
            count: 1,
            caller: registers.instruction(),
            flags: context(),
            ..base
        });
    }
}

/// Takes the call stack, which begins with the instruction itself or with whatever called the function that begins there,
/// and sends the record.
#[inline(always)]
fn finish(ctx: &ProbeContext, hit: Hit, site: &Site, record: *mut Record, stack: bool) {
    // SAFETY: `record` is this program's own on this CPU.
    unsafe {
        if stack {
            let after = (&raw const (*record).caller).read_volatile();
            let function = site.flags & Site::FUNCTION != 0;
            let Taken { caller, id, .. } = stack::take_probed(ctx, hit, Slot::Site, after, function);
            (*record).caller = caller;
            (*record).stack = id;
        }
        hit.send_any(&*record);
    }
}

/// In which context the instruction stands. The trap that a probe is counts as an NMI (`exc_int3` in
/// arch/x86/kernel/traps.c, 6.1 to 7.2), but for one that ftrace serves; no code that touches page tables runs in a real
/// one.
#[inline(always)]
pub(crate) fn context() -> u8 {
    let Some(count) = preempt_count() else { return Context::Task as u8 };
    let count = if count & NMI_MASK == 0 { count } else { count.wrapping_sub(NMI_OFFSET + HARDIRQ_OFFSET) };
    if count & NMI_MASK != 0 {
        Context::Nmi as u8
    } else if count & HARDIRQ_MASK != 0 {
        Context::Hardirq as u8
    } else if count & SOFTIRQ_OFFSET != 0 {
        Context::Softirq as u8
    } else {
        Context::Task as u8
    }
}

#[inline(always)]
fn preempt_count() -> Option<u32> {
    let table = maps::per_cpu();
    if table == 0 {
        return None;
    }
    // SAFETY: the helper has no precondition.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
    // SAFETY: the helper reads any address and fails where there is nothing to read.
    unsafe {
        let offset = bpf_probe_read_kernel((table + 8 * cpu) as *const u64).ok()?;
        bpf_probe_read_kernel(maps::preempt_count().wrapping_add(offset) as *const u32).ok()
    }
}

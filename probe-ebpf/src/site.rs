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

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_get_smp_processor_id, bpf_probe_read_kernel as bpf_probe_read_kernel_bytes,
};
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use lazymmu_abi::{Context, Flags, Kind, Op, REGISTER_WORDS, Record, Settings, Site};

use crate::access::{self, Access};
use crate::emit::Hit;
use crate::maps::{self, ARMED, SITE_REGISTERS, SITES};
use crate::open::Open;
use crate::section::{self, Changed};
use crate::stack::{self, Slot};
use crate::{emit, open, task};

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
        emit::during(Slot::Site, |hit| accessed(&ctx, hit, site));
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

    /// Where the call stack begins: with the instruction itself, or with what called the function that begins there, whose
    /// return address is on top of the stack.
    #[inline(always)]
    fn caller(self, site: &Site) -> u64 {
        if site.flags & Site::FUNCTION == 0 {
            return self.instruction();
        }
        let top = self.get((maps::stack_pointer() / 8) as u8);
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        unsafe { bpf_probe_read_kernel(top as *const u64) }.unwrap_or(0)
    }
}

/// An access: all but its stack goes into the record first.
#[inline(always)]
fn accessed(ctx: &ProbeContext, hit: Hit, site: &Site) {
    let Some(record) = maps::record(Slot::Site) else { return };
    let Some(registers) = Registers::of(ctx) else { return hit.lose_unknown() };
    // SAFETY: `record` is this program's own on this CPU.
    unsafe {
        begin(record, hit, site, registers);
        fill(record, site, registers);
    }
    access::seen_in(ctx, hit, Probed(record));
}

/// An access as the registers tell it: its record, in memory of this program's own.
#[derive(Clone, Copy)]
struct Probed(*mut Record);

impl Access for Probed {
    #[inline(always)]
    fn slot(&self) -> Slot {
        Slot::Site
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        // SAFETY: the record is this program's own on this CPU.
        unsafe { (*self.0).kind }
    }

    #[inline(always)]
    fn op(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.0).op }
    }

    #[inline(always)]
    fn entry(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).entry }
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).count.into() }
    }

    #[inline(always)]
    fn context(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.0).flags & Flags::CONTEXT }
    }

    #[inline(always)]
    fn stack(&self, ctx: &impl EbpfContext, hit: Hit, opener: (u64, u64)) -> u64 {
        // SAFETY: as above.
        stack::take_inside(ctx, hit, Slot::Site, unsafe { (*self.0).caller }, opener)
    }

    #[inline(always)]
    fn known_stack(&self, open: &mut Open) -> Option<u64> {
        // SAFETY: as above.
        stack::known_inside(Slot::Site, unsafe { (*self.0).caller }, open)
    }

    #[inline(always)]
    unsafe fn describe(&self, record: *mut Record) {
        if record != self.0 {
            // SAFETY: the caller's promise.
            unsafe { maps::copy(record, self.0) };
        }
    }

    /// It was looked at from the beginning.
    #[inline(always)]
    fn memory(&self) -> Option<u64> {
        None
    }
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
    let Some(record) = maps::record(Slot::Site) else { return };
    let Some(registers) = Registers::of(ctx) else { return hit.lose_unknown() };
    // A flush and a switch of tasks leave the mode and enter it again for the architecture's own sake.
    if site.flags & Site::FUNCTION != 0 && maps::is_own(registers.caller(site)) {
        return;
    }
    let op = site.op;
    // SAFETY: `record` is this program's own on this CPU.
    let context = unsafe {
        begin(record, hit, site, registers);
        (*record).count = 0;
        (&raw const (*record).flags).read_volatile()
    };
    let mut inside = None;
    if let Some((mut enable, mut pause)) = task::counters() {
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
        inside = Some(enable != 0 || pause != 0);
    }
    let Changed { left_out, odd, fresh } =
        section::change(ctx, hit, op, context == Context::Task as u8, inside);
    let words = [left_out, u64::from(odd || op == Op::Enter as u8), fresh.into()];
    let Some([left_out, wanted, fresh]) = maps::forget(Slot::Site, words) else { return };
    // SAFETY: as above.
    unsafe {
        (*record).entry = left_out;
        if wanted != 0 {
            let caller = (&raw const (*record).caller).read_volatile();
            let taken = stack::take_return(ctx, hit, Slot::Site, caller);
            (*record).stack = taken.id;
            if fresh != 0 {
                open::entered(taken.id, taken.outer);
            }
        }
        hit.send_any(&*record);
    }
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
            caller: registers.caller(site),
            flags: context(),
            ..base
        });
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

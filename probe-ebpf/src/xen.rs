//! The mode as a Xen PV guest before 7.2 has it by CPU: `xen_enter_lazy_mmu` and `xen_leave_lazy_mmu`, at their entry.
//!
//! The generic calls come here, and so do a flush inside of the mode and a context switch, which leave it and enter it
//! again (arch/x86/xen/mmu_pv.c and enlighten_pv.c, 6.12). Nothing tells the context, so records say `Task`.
//!
//! And the stores of any Xen PV guest without the drop-in: behind every accessor that an architecture may defer stand
//! `xen_set_pte` and its like, whoever uses it, modules too. These programs come at their exit, when the store is queued
//! or done, so what memory holds then tells which.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use lazymmu_abi::{Flags, Kind, Level, Op, Record};

use aya_ebpf::EbpfContext;

use crate::access::{self, Access};
use crate::emit::Hit;
use crate::maps::{self, ARCH};
use crate::open::Open;
use crate::stack::{self, Slot, Taken};
use crate::{emit, site, task};

/// What the architecture's calls have told of a CPU. All that is in there only chooses what is sent.
#[repr(C)]
pub(crate) struct Mode {
    /// [`OFF`], [`ON`], or 0 if nothing was told.
    state: u32,
    /// The task for which it is on.
    owner: u32,
    /// Whether a switch was told; then who went and who came.
    switched: u32,
    previous: u32,
    next: u32,
    reserved: u32,
}

const OFF: u32 = 1;
const ON: u32 = 2;

/// Whether the mode of the CPU may be that of the current task, which is inside a section. If not, the engine wants to know.
#[inline(always)]
pub(crate) fn agrees() -> bool {
    if !maps::by_cpu() {
        return true;
    }
    let Some(mode) = ARCH.get_ptr(0) else { return false };
    let (tid, _) = task::current_ids();
    // SAFETY: `mode` is this CPU's value of the map.
    unsafe { (*mode).state == 0 || (*mode).state == ON && (*mode).owner == tid }
}

/// A task goes and another comes. Gives whether the mode is a state of the CPU.
#[inline(always)]
pub(crate) fn switched(next: u32) -> bool {
    if !maps::by_cpu() {
        return false;
    }
    let Some(mode) = ARCH.get_ptr_mut(0) else { return false };
    // SAFETY: as above.
    unsafe {
        ((*mode).switched, (*mode).previous, (*mode).next) = (1, task::current_ids().0, next);
        (*mode).state != 0
    }
}

/// `(void)`
#[fentry(function = "xen_enter_lazy_mmu")]
fn xen_enter_lazy_mmu(ctx: FEntryContext) -> i32 {
    called(&ctx, Slot::ArchEnter, Op::ArchEnter);
    0
}

/// `(void)`
#[fentry(function = "xen_leave_lazy_mmu")]
fn xen_leave_lazy_mmu(ctx: FEntryContext) -> i32 {
    called(&ctx, Slot::ArchLeave, Op::ArchLeave);
    0
}

/// Takes a stack only where the mode of the CPU is already as the call would have it, or is not known: nothing else
/// is asked where it came from.
#[inline(always)]
fn called(ctx: &FEntryContext, slot: Slot, op: Op) {
    emit::during(slot, |hit| {
        let state = if matches!(op, Op::ArchEnter) { ON } else { OFF };
        let (tid, _) = task::current_ids();
        let mut odd = true;
        if let Some(mode) = ARCH.get_ptr_mut(0) {
            // SAFETY: `mode` is this CPU's value of the map; the kernel calls these functions with preemption off or
            // saves what they change at a switch.
            unsafe {
                odd = (*mode).state == state || (*mode).state == 0;
                (*mode).state = state;
                // At a switch it is called for the next task before that is the current one (`__switch_to` in
                // arch/x86/kernel/process_64.c, 6.12).
                let next = (*mode).switched != 0 && (*mode).previous == tid;
                (*mode).owner = if next { (*mode).next } else { tid };
            }
        }
        let Taken { caller, id, .. } = if odd { stack::take_caller(ctx, hit, slot) } else { Taken::NONE };
        let base = hit.record(Kind::Section, op as u8);
        let record = match task::counters() {
            Some((enable, pause)) => Record {
                value: enable.into(),
                memory: pause.into(),
                flags: Flags::VALUE | Flags::MEMORY,
                ..base
            },
            None => base,
        };
        hit.send(&Record { caller, stack: id, ..record }, Kind::Section);
    });
}

/// `(pte_t *ptep, pte_t pteval)`
#[fexit(function = "xen_set_pte")]
fn xen_set_pte(ctx: FExitContext) -> i32 {
    stored(&ctx, Slot::XenPte, (Op::SetPte, Level::Pte), ctx.arg(0), ctx.arg(1));
    0
}

/// `(struct vm_area_struct *vma, unsigned long addr, pte_t *ptep, pte_t pte)`
#[fexit(function = "xen_ptep_modify_prot_commit")]
fn xen_ptep_modify_prot_commit(ctx: FExitContext) -> i32 {
    stored(&ctx, Slot::XenCommit, (Op::ModifyProtCommit, Level::Pte), ctx.arg(2), ctx.arg(3));
    0
}

/// `(pmd_t *ptr, pmd_t val)`
#[fexit(function = "xen_set_pmd")]
fn xen_set_pmd(ctx: FExitContext) -> i32 {
    stored(&ctx, Slot::XenPmd, (Op::SetPmd, Level::Pmd), ctx.arg(0), ctx.arg(1));
    0
}

/// `(pud_t *ptr, pud_t val)`
#[fexit(function = "xen_set_pud")]
fn xen_set_pud(ctx: FExitContext) -> i32 {
    stored(&ctx, Slot::XenPud, (Op::SetPud, Level::Pud), ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn stored(ctx: &FExitContext, slot: Slot, (op, level): (Op, Level), entry: u64, value: u64) {
    if !task::wanted() {
        return;
    }
    emit::during(slot, |hit| {
        let Some(record) = maps::record(slot) else { return };
        let mut flags = site::context() | Flags::VALUE;
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        let memory = match unsafe { bpf_probe_read_kernel(entry as *const u64) } {
            Ok(memory) => {
                flags |= Flags::MEMORY;
                memory
            }
            Err(_) => 0,
        };
        let base = hit.record(Kind::Write, op as u8);
        let level = level as u8;
        // SAFETY: `record` is this program's own on this CPU.
        unsafe { record.write(Record { entry, value, memory, count: 1, level, flags, ..base }) };
        access::seen_in(ctx, hit, Stored { slot, record });
    });
}

/// A store of Xen: its record, in memory of the program's own. Who made it is known only once its stack is taken.
#[derive(Clone, Copy)]
struct Stored {
    slot: Slot,
    record: *mut Record,
}

impl Access for Stored {
    #[inline(always)]
    fn slot(&self) -> Slot {
        self.slot
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        Kind::Write as u8
    }

    #[inline(always)]
    fn op(&self) -> u8 {
        // SAFETY: the record is this program's own on this CPU.
        unsafe { (*self.record).op }
    }

    #[inline(always)]
    fn entry(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.record).entry }
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        1
    }

    #[inline(always)]
    fn context(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.record).flags & Flags::CONTEXT }
    }

    #[inline(always)]
    fn stack(&self, ctx: &impl EbpfContext, hit: Hit, _opener: (u64, u64)) -> u64 {
        let Taken { caller, id, .. } = stack::take_caller(ctx, hit, self.slot);
        // SAFETY: as above.
        unsafe { (*self.record).caller = caller };
        id
    }

    #[inline(always)]
    fn known_stack(&self, _open: &mut Open) -> Option<u64> {
        if maps::stacks() { None } else { Some(0) }
    }

    #[inline(always)]
    unsafe fn describe(&self, record: *mut Record) {
        if record != self.record {
            // SAFETY: the caller's promise.
            unsafe { maps::copy(record, self.record) };
        }
    }

    /// It was looked at from the beginning.
    #[inline(always)]
    fn memory(&self) -> Option<u64> {
        None
    }
}

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

use crate::maps::ARCH;
use crate::stack::{self, Slot, Taken};
use crate::{emit, site, task};

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
        let on = u32::from(matches!(op, Op::ArchEnter));
        let mut odd = true;
        if let Some(mode) = ARCH.get_ptr_mut(0) {
            // SAFETY: `mode` is this CPU's value of the map; the kernel calls these functions with preemption off or
            // saves what they change at a switch, and what comes in between costs a stack too many or too few.
            unsafe {
                odd = mode.read_volatile() == on;
                mode.write_volatile(on);
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
        let mut flags = site::context() | Flags::VALUE;
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        let memory = match unsafe { bpf_probe_read_kernel(entry as *const u64) } {
            Ok(memory) => {
                flags |= Flags::MEMORY;
                memory
            }
            Err(_) => 0,
        };
        let Taken { caller, id, .. } = stack::take_caller(ctx, hit, slot);
        let base = hit.record(Kind::Write, op as u8);
        let level = level as u8;
        hit.send(
            &Record { entry, value, memory, caller, stack: id, count: 1, level, flags, ..base },
            Kind::Write,
        );
    });
}

//! The mode as a Xen PV guest before 7.2 has it by CPU: `xen_enter_lazy_mmu` and `xen_leave_lazy_mmu`, at their entry.
//!
//! The generic calls come here, and so do a flush inside of the mode and a context switch, which leave it and enter it
//! again (arch/x86/xen/mmu_pv.c and enlighten_pv.c, 6.12). Nothing tells the context, so records say `Task`.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use lazymmu_abi::{Flags, Kind, Op, Record};

use crate::maps::ARCH;
use crate::stack::{self, Slot, Taken};
use crate::{emit, task};

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
        let Taken { caller, id } = if odd { stack::take_caller(ctx, hit, slot) } else { Taken::NONE };
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

//! Page faults that the kernel takes on its own addresses: `exceptions:page_fault_kernel`.
//!
//! Copies from and to user space fault as well, on addresses of user space; these are left out.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use lazymmu_abi::{Flags, Kind, Record, Settings};

use crate::stack::{self, Slot};
use crate::{emit, maps, pending, task};

/// The kernel's half of the address space, on every architecture that has this tracepoint and one space for both
/// (x86 in 6.12, x86 and riscv in 7.2).
const KERNEL_HALF: u64 = 1 << 63;

/// `(unsigned long address, struct pt_regs *regs, unsigned long error_code)`
///
/// Called before the fault is handled. The tracepoint tells nothing of the context, so records say `Task`.
#[btf_tracepoint(function = "page_fault_kernel")]
fn page_fault_kernel(ctx: BtfTracePointContext) -> i32 {
    let address: u64 = ctx.arg(0);
    let offset = maps::instruction_offset();
    if address & KERNEL_HALF != 0 && offset != Settings::NO_OFFSET && task::wanted() {
        let registers: *const c_void = ctx.arg(1);
        // SAFETY: the verifier checks that the running kernel's `struct pt_regs` has eight readable bytes there.
        let caller = unsafe { core::ptr::read_volatile(registers.byte_add(offset as usize).cast::<u64>()) };
        emit::during(Slot::Fault, |hit| {
            pending::tell_own(hit);
            let base = hit.record(Kind::Fault, 0);
            let record = Record {
                entry: address,
                value: ctx.arg(2),
                caller,
                stack: stack::take_at(&ctx, hit, Slot::Fault, caller),
                flags: Flags::VALUE,
                ..base
            };
            hit.send(&record, Kind::Fault);
        });
    }
    0
}

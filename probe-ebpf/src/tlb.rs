//! Flushes of the TLB: x86's `flush_tlb_mm_range` and `flush_tlb_kernel_range`, at their entry.
//!
//! Both wait for other CPUs, which is forbidden in interrupts (on_each_cpu_cond_mask in kernel/smp.c, 6.12 and 7.2),
//! so the context is always that of the task.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use lazymmu_abi::{Flags, Kind, Record};

use crate::stack::{self, Slot};
use crate::{emit, pending, task};

/// `(struct mm_struct *mm, unsigned long start, unsigned long end, unsigned int stride_shift, bool freed_tables)`
#[fentry(function = "flush_tlb_mm_range")]
fn flush_tlb_mm_range(ctx: FEntryContext) -> i32 {
    if task::wanted() {
        flush(&ctx, Slot::TlbMm, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    }
    0
}

/// `(unsigned long start, unsigned long end)`
#[fentry(function = "flush_tlb_kernel_range")]
fn flush_tlb_kernel_range(ctx: FEntryContext) -> i32 {
    if task::wanted() {
        flush(&ctx, Slot::TlbKernel, 0, ctx.arg(0), ctx.arg(1));
    }
    0
}

#[inline(always)]
fn flush(ctx: &FEntryContext, slot: Slot, mm: u64, start: u64, end: u64) {
    emit::during(slot, |hit| {
        pending::tell_own(hit);
        let base = hit.record(Kind::TlbFlush, 0);
        let stack::Taken { caller, id, .. } = stack::take_caller(ctx, hit, slot);
        let record = Record {
            entry: start,
            value: end,
            memory: mm,
            caller,
            stack: id,
            flags: Flags::VALUE | Flags::MEMORY,
            ..base
        };
        hit.send(&record, Kind::TlbFlush);
    });
}

//! Accesses to page-table entries: `lazy_mmu_read`, `lazy_mmu_write`, `lazy_mmu_rmw` of the drop-in.
//!
//! The hooks come after the operation, so memory is read as the accessor left it.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use lazymmu_abi::{Flags, Kind, Op, Record};

use crate::emit::Hit;
use crate::stack::{self, Slot};
use crate::{emit, task};

/// The level of each operation, by its number; 0 for what is no operation on entries.
static LEVELS: [u8; 256] = {
    let mut levels = [0; 256];
    let mut i = 0;
    while i < Op::ALL.len() {
        if let Some(level) = Op::ALL[i].info().level {
            levels[Op::ALL[i] as usize] = level as u8;
        }
        i += 1;
    }
    levels
};

/// `(void *entry, unsigned long val, unsigned int op, unsigned int context, unsigned long caller)`
#[btf_tracepoint(function = "lazy_mmu_read")]
fn lazy_mmu_read(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        let access = Access {
            kind: Kind::Read,
            slot: Slot::Read,
            entry: ctx.arg(0),
            value: ctx.arg(1),
            count: 1,
            op: ctx.arg(2),
            context: ctx.arg(3),
            caller: ctx.arg(4),
        };
        emit::during(Slot::Read, |hit| access.emit(&ctx, hit));
    }
    0
}

/// `(void *entry, unsigned long val, unsigned int nr, unsigned int op, unsigned long addr, unsigned int context,
/// unsigned long caller)`
#[btf_tracepoint(function = "lazy_mmu_write")]
fn lazy_mmu_write(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        emit::during(Slot::Write, |hit| many(&ctx, Kind::Write, Slot::Write).emit(&ctx, hit));
    }
    0
}

/// The same arguments as `lazy_mmu_write`, with the value that was replaced for the one that was written.
#[btf_tracepoint(function = "lazy_mmu_rmw")]
fn lazy_mmu_rmw(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        emit::during(Slot::Rmw, |hit| many(&ctx, Kind::Rmw, Slot::Rmw).emit(&ctx, hit));
    }
    0
}

/// One access, as a hook tells it.
struct Access {
    kind: Kind,
    slot: Slot,
    entry: u64,
    value: u64,
    count: u32,
    op: u32,
    context: u32,
    caller: u64,
}

#[inline(always)]
fn many(ctx: &BtfTracePointContext, kind: Kind, slot: Slot) -> Access {
    Access {
        kind,
        slot,
        entry: ctx.arg(0),
        value: ctx.arg(1),
        count: ctx.arg(2),
        op: ctx.arg(3),
        context: ctx.arg(5),
        caller: ctx.arg(6),
    }
}

impl Access {
    #[inline(always)]
    fn emit(&self, ctx: &BtfTracePointContext, hit: Hit) {
        let mut flags = self.context as u8 & Flags::CONTEXT | Flags::VALUE;
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        let memory = match unsafe { bpf_probe_read_kernel(self.entry as *const u64) } {
            Ok(memory) => {
                flags |= Flags::MEMORY;
                memory
            }
            Err(_) => 0,
        };
        let base = hit.record(self.kind, self.op as u8);
        let record = Record {
            entry: self.entry,
            value: self.value,
            memory,
            caller: self.caller,
            stack: stack::take(ctx, hit, self.slot, self.caller),
            count: if self.count > u32::from(u16::MAX) { u16::MAX } else { self.count as u16 },
            level: LEVELS[self.op as usize & 0xff],
            flags,
            ..base
        };
        hit.send(&record, self.kind);
    }
}

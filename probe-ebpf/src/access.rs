//! Accesses to page-table entries: `lazy_mmu_read`, `lazy_mmu_write`, `lazy_mmu_rmw` of the drop-in.
//!
//! The hooks come after the operation, so memory is read as the accessor left it. With `Scope::Suspects`, most of what
//! comes here is only counted, and writes are kept back until something comes upon them.

use core::ptr::NonNull;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use lazymmu_abi::{Context, Deferral, Flags, Kind, Op, Record};

use crate::emit::Hit;
use crate::open::{self, Open};
use crate::pending::{self, Found, Meeting};
use crate::stack::{self, Slot};
use crate::{emit, maps, task};

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
        access.seen(&ctx);
    }
    0
}

/// `(void *entry, unsigned long val, unsigned int nr, unsigned int op, unsigned long addr, unsigned int context,
/// unsigned long caller)`
#[btf_tracepoint(function = "lazy_mmu_write")]
fn lazy_mmu_write(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        many(&ctx, Kind::Write, Slot::Write).seen(&ctx);
    }
    0
}

/// The same arguments as `lazy_mmu_write`, with the value that was replaced for the one that was written.
#[btf_tracepoint(function = "lazy_mmu_rmw")]
fn lazy_mmu_rmw(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        many(&ctx, Kind::Rmw, Slot::Rmw).seen(&ctx);
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
    fn seen(&self, ctx: &BtfTracePointContext) {
        if !maps::only_suspects() {
            emit::during(self.slot, |hit| {
                let (opener, outer) = open::opener(self.open());
                let Some([opener, outer]) = maps::forget(self.slot, [opener, outer]) else { return };
                let stack = stack::take_inside(ctx, hit, self.slot, self.caller, (opener, outer));
                self.send(hit, &mut self.record_at(hit.time(), stack));
            });
        } else if let Some([0]) = maps::forget(self.slot, [self.is_harmless().into()]) {
            emit::during(self.slot, |hit| self.weigh(ctx, hit));
        }
    }

    /// What is kept of the section that the task is in, if it is the task that makes the access.
    #[inline(always)]
    fn open(&self) -> Option<NonNull<Open>> {
        let in_task = self.context as u8 & Flags::CONTEXT == Context::Task as u8;
        if in_task { open::find(task::current_ids().0) } else { None }
    }

    /// The short way for what nearly every access is: of one entry, by a task inside a section with the mode on, and upon
    /// nothing that it could miss or pass by. True if nothing is to be done any more.
    #[inline(always)]
    fn is_harmless(&self) -> bool {
        let Some(open) = self.open() else { return false };
        // SAFETY: the section is the current task's.
        let (tag, full) = unsafe { (open.as_ref().tag, open.as_ref().is_full()) };
        if self.count != 1 || full || !task::is_on() {
            return false;
        }
        let op = self.op as u8;
        let may_wait = self.kind as u8 != Kind::Read as u8 && maps::waits(op) != 0;
        let Found { own, more } = pending::find(self.entry, tag);
        if more {
            return false;
        }
        match own {
            None if may_wait => {
                let Some(record) = self.kept_back(open) else { return false };
                if !pending::hold(open.as_ptr(), &record) {
                    return false;
                }
            }
            None => {}
            Some(mut held) => {
                // SAFETY: the section is the current task's, and so is what it has kept back.
                let held = unsafe { held.as_mut() };
                match held.met_by(self.kind, op) {
                    Meeting::Harmless => return self.count_in(open, false),
                    Meeting::Suspicious => return false,
                    Meeting::Replaces => {
                        let Some(record) = self.kept_back(open) else { return false };
                        held.replace(&record);
                    }
                }
            }
        }
        self.count_in(open, may_wait)
    }

    /// Counts what has no record. Always true.
    #[inline(always)]
    fn count_in(&self, open: NonNull<Open>, waits: bool) -> bool {
        // SAFETY: the section is the current task's.
        let left_out = unsafe { &mut (*open.as_ptr()).left_out };
        let entries = if self.count == 0 { 1 } else { self.count };
        left_out.accesses += 1;
        if self.kind as u8 != Kind::Read as u8 {
            left_out.changed += entries;
        }
        if waits && maps::waits(self.op as u8) & Deferral::COUNTED != 0 {
            left_out.pending += entries;
        }
        true
    }

    /// The record of a write that may have to be told later; `None` if its stack is not known, and must be taken first.
    #[inline(always)]
    fn kept_back(&self, open: NonNull<Open>) -> Option<Record> {
        // SAFETY: the section is the current task's.
        let stack = unsafe { stack::known_inside(self.slot, self.caller, open.as_ref()) }?;
        Some(self.record_at(emit::now(), stack))
    }

    /// The record without what memory holds.
    #[inline(always)]
    fn record_at(&self, time: u64, stack: u64) -> Record {
        let (tid, tgid) = task::current_ids();
        Record {
            time,
            entry: self.entry,
            value: self.value,
            memory: 0,
            caller: self.caller,
            stack,
            tid,
            tgid,
            count: if self.count > u32::from(u16::MAX) { u16::MAX } else { self.count as u16 },
            cpu: emit::cpu(),
            kind: self.kind as u8,
            op: self.op as u8,
            level: LEVELS[self.op as usize & 0xff],
            flags: self.context as u8 & Flags::CONTEXT | Flags::VALUE,
        }
    }

    /// Tells of the access if it comes upon anything pending, with that; else keeps it back, or counts it.
    #[inline(always)]
    fn weigh(&self, ctx: &BtfTracePointContext, hit: Hit) {
        let entries = if self.count == 0 { 1 } else { self.count };
        let found = pending::tell(hit, self.entry, entries);
        let open = self.open();
        let (opener, outer) = open::opener(open);
        let (full, on) = match open {
            // SAFETY: the section is the current task's.
            Some(open) => (unsafe { open.as_ref().is_full() }, task::is_on()),
            None => (false, false),
        };
        // What an interrupt does in a section may be wrong by itself.
        let told = found || full || self.context as u8 & Flags::CONTEXT != Context::Task as u8;
        let waits = on && self.kind as u8 != Kind::Read as u8 && maps::waits(self.op as u8) != 0;
        let words = [opener, outer, u64::from(told), u64::from(waits) | u64::from(on) << 1];
        let Some([opener, outer, told, what]) = maps::forget(self.slot, words) else { return };
        if told != 0 || what & 1 != 0 {
            let stack = stack::take_inside(ctx, hit, self.slot, self.caller, (opener, outer));
            let Some([stack, told, what]) = maps::forget(self.slot, [stack, told, what]) else { return };
            let mut record = self.record_at(hit.time(), stack);
            if what & 1 != 0
                && let Some(open) = self.open()
                && !pending::remember(hit, open.as_ptr(), &record, told)
            {
                hit.lose(self.kind);
            }
            if told != 0 {
                self.send(hit, &mut record);
                return;
            }
        }
        if what & 2 != 0
            && let Some(open) = self.open()
        {
            self.count_in(open, what & 1 != 0);
        }
    }

    #[inline(always)]
    fn send(&self, hit: Hit, record: &mut Record) {
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        if let Ok(memory) = unsafe { bpf_probe_read_kernel(self.entry as *const u64) } {
            record.flags |= Flags::MEMORY;
            record.memory = memory;
        }
        hit.send(record, self.kind);
    }
}

//! Accesses to page-table entries: `lazy_mmu_read`, `lazy_mmu_write`, `lazy_mmu_rmw` of the drop-in, and what is done with
//! an access, whichever hook tells it.
//!
//! The hooks come after the operation, so memory is read as the accessor left it. With `Scope::Suspects`, most of what
//! comes here is only counted, and writes are kept back until something comes upon them.
//!
//! Records are built where they are needed: in the ring where the call stack is known, else in memory of maps, as the stack of
//! all functions that call each other is 512 bytes on kernels before 6.13, and too small for them.

use core::ptr::NonNull;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use lazymmu_abi::{Context, Deferral, Flags, Kind, Op, Record};

use crate::emit::Hit;
use crate::open::{self, Open};
use crate::pending::{self, Meeting};
use crate::stack::{self, Slot};
use crate::{emit, maps, task, xen};

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
        seen(&ctx, DropIn::<true> { ctx: &ctx, kind: Kind::Read, slot: Slot::Read });
    }
    0
}

/// `(void *entry, unsigned long val, unsigned int nr, unsigned int op, unsigned long addr, unsigned int context,
/// unsigned long caller)`
#[btf_tracepoint(function = "lazy_mmu_write")]
fn lazy_mmu_write(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        seen(&ctx, DropIn::<false> { ctx: &ctx, kind: Kind::Write, slot: Slot::Write });
    }
    0
}

/// The same arguments as `lazy_mmu_write`, with the value that was replaced for the one that was written.
#[btf_tracepoint(function = "lazy_mmu_rmw")]
fn lazy_mmu_rmw(ctx: BtfTracePointContext) -> i32 {
    if task::wanted() {
        seen(&ctx, DropIn::<false> { ctx: &ctx, kind: Kind::Rmw, slot: Slot::Rmw });
    }
    0
}

/// An access, as a hook tells it.
pub(crate) trait Access: Copy {
    /// Of which program.
    fn slot(&self) -> Slot;
    /// A [`Kind`].
    fn kind(&self) -> u8;
    /// An [`Op`].
    fn op(&self) -> u8;
    /// The first entry's address.
    fn entry(&self) -> u64;
    /// How many entries; 0 for one.
    fn count(&self) -> u32;
    /// A [`Context`].
    fn context(&self) -> u8;
    /// The id of its call stack, known or taken, for a section that was entered with the stack of the first number, of which
    /// the other is the second address.
    fn stack(&self, ctx: &impl EbpfContext, hit: Hit, opener: (u64, u64)) -> u64;
    /// The same if it is known; 0 if none is wanted.
    fn known_stack(&self, open: &mut Open) -> Option<u64>;
    /// Fills in everything but the time, the stack, the task and the CPU.
    ///
    /// # Safety
    ///
    /// `record` must be a whole `Record` that this program may write.
    unsafe fn describe(&self, record: *mut Record);
    /// What memory holds, if that was not looked at and can be.
    fn memory(&self) -> Option<u64>;
}

/// One of the drop-in: a read, or one of the others, whose arguments are more. What it tells lies in the program's context,
/// and is loaded from there each time; the verifier wants a constant place for each load.
#[derive(Clone, Copy)]
struct DropIn<'a, const READ: bool> {
    ctx: &'a BtfTracePointContext,
    kind: Kind,
    slot: Slot,
}

impl<const READ: bool> DropIn<'_, READ> {
    #[inline(always)]
    fn caller(self) -> u64 {
        self.ctx.arg(if READ { 4 } else { 6 })
    }
}

impl<const READ: bool> Access for DropIn<'_, READ> {
    #[inline(always)]
    fn slot(&self) -> Slot {
        self.slot
    }

    #[inline(always)]
    fn kind(&self) -> u8 {
        self.kind as u8
    }

    #[inline(always)]
    fn op(&self) -> u8 {
        self.ctx.arg::<u32>(if READ { 2 } else { 3 }) as u8
    }

    #[inline(always)]
    fn entry(&self) -> u64 {
        self.ctx.arg(0)
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        if READ { 1 } else { self.ctx.arg(2) }
    }

    #[inline(always)]
    fn context(&self) -> u8 {
        self.ctx.arg::<u32>(if READ { 3 } else { 5 }) as u8 & Flags::CONTEXT
    }

    #[inline(always)]
    fn stack(&self, ctx: &impl EbpfContext, hit: Hit, opener: (u64, u64)) -> u64 {
        stack::take_inside(ctx, hit, self.slot, self.caller(), opener)
    }

    #[inline(always)]
    fn known_stack(&self, open: &mut Open) -> Option<u64> {
        stack::known_inside(self.slot, self.caller(), open)
    }

    #[inline(always)]
    unsafe fn describe(&self, record: *mut Record) {
        let (count, op) = (self.count(), self.op());
        // SAFETY: the caller's promise.
        unsafe {
            (*record).entry = self.entry();
            (*record).value = self.ctx.arg(1);
            (*record).memory = 0;
            (*record).caller = self.caller();
            (*record).count = if count > u32::from(u16::MAX) { u16::MAX } else { count as u16 };
            (*record).kind = self.kind as u8;
            (*record).op = op;
            (*record).level = LEVELS[op as usize];
            (*record).flags = self.context() | Flags::VALUE;
        }
    }

    #[inline(always)]
    fn memory(&self) -> Option<u64> {
        // SAFETY: the helper reads any address and fails where there is nothing to read.
        unsafe { bpf_probe_read_kernel(self.entry() as *const u64) }.ok()
    }
}

#[inline(always)]
fn seen<const READ: bool>(ctx: &BtfTracePointContext, access: DropIn<'_, READ>) {
    if !maps::only_suspects() {
        if let Some(hit) = Hit::begin(access.slot) {
            tell(ctx, hit, access);
            hit.end();
        }
    } else if !is_harmless(access, None) {
        emit::during(access.slot, |hit| weigh(ctx, hit, access));
    }
}

/// The same inside of a hit.
#[inline(always)]
pub(crate) fn seen_in(ctx: &impl EbpfContext, hit: Hit, access: impl Access) {
    if !maps::only_suspects() {
        tell(ctx, hit, access);
    } else if let Some([0]) = maps::forget(access.slot(), [is_harmless(access, Some(hit.time())).into()]) {
        weigh(ctx, hit, access);
    }
}

/// Sends the access, whatever it is.
#[inline(always)]
fn tell(ctx: &impl EbpfContext, hit: Hit, access: impl Access) {
    let open = open(access);
    if let Some(open) = open
        // SAFETY: the section is the current task's.
        && let Some(stack) = access.known_stack(unsafe { &mut *open.as_ptr() })
    {
        // Before there is room: what is reserved and not yet sent holds up what comes behind it.
        let memory = access.memory();
        hit.send_in_place(access.kind(), |record| {
            // SAFETY: `record` is to be filled; the section is the current task's.
            unsafe {
                fill(access, record, open.as_ref().ids(), stack);
                put_memory(record, memory);
            }
        });
        return;
    }
    let (opener, outer) = open::opener(open);
    let Some([opener, outer]) = maps::forget(access.slot(), [opener, outer]) else { return };
    let stack = access.stack(ctx, hit, (opener, outer));
    let Some(record) = maps::record(access.slot()) else { return };
    // SAFETY: `record` is this program's own on this CPU.
    unsafe {
        fill(access, record, task::current_ids(), stack);
        send(hit, access, record);
    }
}

/// What is kept of the section that the task is in, if it is the task that makes the access.
#[inline(always)]
fn open(access: impl Access) -> Option<NonNull<Open>> {
    if access.context() == Context::Task as u8 { open::find(task::current_tid()) } else { None }
}

/// The short way for what nearly every access is: of one entry, by a task inside a section with the mode on, and upon
/// nothing that it could miss or pass by. True if nothing is to be done any more.
#[inline(always)]
fn is_harmless(access: impl Access, time: Option<u64>) -> bool {
    let Some(open) = open(access) else { return false };
    // SAFETY: the section is the current task's.
    let full = unsafe { open.as_ref().is_full() };
    if access.count() > 1 || full || !task::is_on(open) || !xen::agrees() {
        return false;
    }
    let op = access.op();
    let may_wait = access.kind() != Kind::Read as u8 && maps::waits(op) != 0;
    let found = pending::find(open, access.entry());
    if found.more {
        return false;
    }
    // SAFETY: the section is the current task's, and so is what it has kept back.
    let keep = |record: *mut Record, stack| unsafe {
        (*record).time = time.unwrap_or_else(emit::now);
        fill(access, record, open.as_ref().ids(), stack);
    };
    match found.own {
        None if may_wait => {
            // SAFETY: as above.
            let Some(stack) = access.known_stack(unsafe { &mut *open.as_ptr() }) else { return false };
            if !pending::hold(open.as_ptr(), access.entry(), &found, |record| keep(record, stack)) {
                return false;
            }
        }
        None => {}
        Some(mut held) => {
            // SAFETY: as above.
            let held = unsafe { held.as_mut() };
            match held.met_by(access.kind(), op) {
                Meeting::Harmless => return count_in(access, open, false),
                Meeting::Suspicious => return false,
                Meeting::Replaces => {
                    // SAFETY: as above.
                    let Some(stack) = access.known_stack(unsafe { &mut *open.as_ptr() }) else {
                        return false;
                    };
                    keep(held.record(), stack);
                }
            }
        }
    }
    count_in(access, open, may_wait)
}

/// Counts what has no record. Always true.
#[inline(always)]
fn count_in(access: impl Access, open: NonNull<Open>, waits: bool) -> bool {
    // SAFETY: the section is the current task's.
    let left_out = unsafe { &mut (*open.as_ptr()).left_out };
    let entries = entries(access);
    left_out.accesses += 1;
    if access.kind() != Kind::Read as u8 {
        left_out.changed += entries;
    }
    if waits && maps::waits(access.op()) & Deferral::COUNTED != 0 {
        left_out.pending += entries;
    }
    true
}

#[inline(always)]
fn entries(access: impl Access) -> u32 {
    let count = access.count();
    if count == 0 { 1 } else { count }
}

/// Fills in a record, but for the time and for what memory holds.
///
/// # Safety
///
/// `record` must be a whole `Record` that this program may write.
#[inline(always)]
unsafe fn fill(access: impl Access, record: *mut Record, (tid, tgid): (u32, u32), stack: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        access.describe(record);
        (*record).stack = stack;
        (*record).tid = tid;
        (*record).tgid = tgid;
        (*record).cpu = emit::cpu();
    }
}

/// Tells of the access if it comes upon anything pending, with that; else keeps it back, or counts it.
#[inline(always)]
fn weigh(ctx: &impl EbpfContext, hit: Hit, access: impl Access) {
    let slot = access.slot();
    let found = pending::tell(hit, access.entry(), entries(access));
    let open = open(access);
    let (opener, outer) = open::opener(open);
    let (full, on) = match open {
        // SAFETY: the section is the current task's.
        Some(open) => (unsafe { open.as_ref().is_full() }, task::is_on(open)),
        None => (false, false),
    };
    // What an interrupt does in a section may be wrong by itself.
    let told = found || full || access.context() != Context::Task as u8 || !xen::agrees();
    let waits = on && access.kind() != Kind::Read as u8 && maps::waits(access.op()) != 0;
    let words = [opener, outer, u64::from(told), u64::from(waits) | u64::from(on) << 1];
    let Some([opener, outer, told, what]) = maps::forget(slot, words) else { return };
    if told != 0 || what & 1 != 0 {
        let stack = access.stack(ctx, hit, (opener, outer));
        let Some([stack, told, what]) = maps::forget(slot, [stack, told, what]) else { return };
        let Some(record) = maps::record(slot) else { return };
        // SAFETY: `record` is this program's own on this CPU.
        unsafe {
            (*record).time = hit.time();
            fill(access, record, task::current_ids(), stack);
        }
        if what & 1 != 0
            && let Some(open) = self::open(access)
            && !pending::remember(hit, open.as_ptr(), record, told)
        {
            hit.lose(access.kind());
        }
        if told != 0 {
            // SAFETY: as above.
            unsafe { send(hit, access, record) };
            return;
        }
    }
    if what & 2 != 0
        && let Some(open) = self::open(access)
    {
        count_in(access, open, what & 1 != 0);
    }
}

/// Fills in what memory holds.
///
/// # Safety
///
/// As for [`fill`].
#[inline(always)]
unsafe fn put_memory(record: *mut Record, memory: Option<u64>) {
    if let Some(memory) = memory {
        // SAFETY: the caller's promise.
        unsafe {
            (*record).flags |= Flags::MEMORY;
            (*record).memory = memory;
        }
    }
}

/// # Safety
///
/// As for [`fill`].
#[inline(always)]
unsafe fn send(hit: Hit, access: impl Access, record: *mut Record) {
    // SAFETY: the caller's promise.
    unsafe {
        put_memory(record, access.memory());
        hit.send_any(&*record);
    }
}

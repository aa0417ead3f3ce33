//! The mode itself: `lazy_mmu_section` of the drop-in.

use core::ptr::NonNull;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::{info, warn};
use lazymmu_abi::{Context, Flags, Kind, Op, Record};

use crate::atomic::Once;
use crate::emit::Hit;
use crate::maps::{self, NAMES};
use crate::open::{self, Open};
use crate::stack::{self, Slot, Taken};
use crate::{emit, task};

const FLUSH: u8 = Op::Flush as u8;
const LEAVE: u8 = Op::Leave as u8;
const PAUSE: u8 = Op::Pause as u8;

/// `(unsigned int op, unsigned int enable_count, unsigned int pause_count, unsigned int context,
/// unsigned long caller)`
#[btf_tracepoint(function = "lazy_mmu_section")]
fn lazy_mmu_section(ctx: BtfTracePointContext) -> i32 {
    let op = ctx.arg::<u32>(0) as u8;
    let (enable_count, pause_count): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    let context = ctx.arg::<u32>(3) as u8 & Flags::CONTEXT;
    let caller: u64 = ctx.arg(4);

    greet(&ctx);
    emit::during(Slot::Section, |hit| {
        let by_task = context == Context::Task as u8;
        let inside = if task::kernel_counts() { Some(task::current_in_section()) } else { None };
        let Changed { left_out, odd, fresh } = change(&ctx, hit, op, by_task, inside);
        let words = [left_out, u64::from(odd || op == Op::Enter as u8), fresh.into(), caller];
        let Some([left_out, wanted, fresh, caller]) = maps::forget(Slot::Section, words) else { return };
        let mut taken = Taken::NONE;
        if wanted != 0 {
            taken = stack::take_return(&ctx, hit, Slot::Section, caller);
        }
        let words = [left_out, fresh, taken.id, taken.outer];
        let Some([left_out, fresh, stack, outer]) = maps::forget(Slot::Section, words) else { return };
        if fresh != 0 {
            open::entered(stack, outer);
        }
        let mut flags = context;
        // Kernels before 7.0 keep no counts; the drop-in says so with all bits set.
        if enable_count != u32::MAX {
            flags |= Flags::VALUE;
        }
        if pause_count != u32::MAX {
            flags |= Flags::MEMORY;
        }
        let base = hit.record(Kind::Section, op);
        let record = Record {
            entry: left_out,
            value: enable_count.into(),
            memory: pause_count.into(),
            caller,
            stack,
            flags,
            ..base
        };
        hit.send(&record, Kind::Section);
    });
    0
}

/// What a call of the mode means for what is kept of the task's section.
pub(crate) struct Changed {
    /// What had no record of its own: see [`lazymmu_abi::LeftOut`].
    pub(crate) left_out: u64,
    /// Whether the plain pair of an enter and a leave has no such call.
    pub(crate) odd: bool,
    /// Whether the task is in a section, and was not.
    pub(crate) fresh: bool,
}

/// Takes note of a call of the mode. `inside`: whether the task is in a section after it, if the kernel counts.
#[inline(always)]
pub(crate) fn change(
    ctx: &impl EbpfContext,
    hit: Hit,
    op: u8,
    by_task: bool,
    inside: Option<bool>,
) -> Changed {
    let (tid, _) = task::current_ids();
    let before = if by_task { open::find(tid) } else { None };
    if op == Op::Enter as u8 || before.is_none() {
        send_name(hit);
    }
    let mut left_out = 0;
    if let Some(open) = before {
        // SAFETY: it is the current task's.
        unsafe {
            left_out = open::take_left_out(open.as_ptr());
            // A flush too many does no harm: while the mode is off, nothing is kept back.
            if matches!(op, FLUSH | LEAVE | PAUSE) {
                open::flushed(open.as_ptr());
            }
        }
    }
    let (odd, open) = match inside {
        _ if !by_task => (task::current_in_section(), None),
        Some(inside) => follow(tid, before, inside),
        None => count(ctx, hit, op, tid, before),
    };
    Changed { left_out, odd, fresh: before.is_none() && open.is_some() && op == Op::Enter as u8 }
}

/// Keeps the task's place as long as the kernel says that it is in a section. Gives whether it is, and the place.
#[inline(always)]
fn follow(tid: u32, before: Option<NonNull<Open>>, inside: bool) -> (bool, Option<NonNull<Open>>) {
    let open = match before {
        Some(open) if !inside => {
            // SAFETY: it is the current task's.
            unsafe { open::give_back(open.as_ptr()) };
            None
        }
        // Without a place, stacks are taken in full.
        None if inside => open::take(tid),
        before => before,
    };
    (inside, open)
}

/// Keeps the count of sections that the kernel does not keep. It only decides which accesses are emitted and which
/// calls are odd: whether a nested section is an error is the engine's matter.
///
/// Odd is what the plain pair of an enter and a leave has not: a call after which the task is still inside, and a leave
/// of a task that was outside. Gives that, and the task's place if it is inside.
#[inline(always)]
fn count(
    ctx: &impl EbpfContext,
    hit: Hit,
    op: u8,
    tid: u32,
    before: Option<NonNull<Open>>,
) -> (bool, Option<NonNull<Open>>) {
    static SAID: Once = Once::new();
    if op == Op::Enter as u8 {
        let open = match before {
            Some(open) => Some(open),
            None => open::take(tid),
        };
        if let Some(open) = open {
            // SAFETY: it is the current task's.
            unsafe {
                (*open.as_ptr()).depth = (*open.as_ptr()).depth.saturating_add(1);
                (*open.as_ptr()).off = 0;
            }
        } else {
            hit.lose_unknown();
            if SAID.first() {
                warn!(ctx, "the table of sections is full: accesses of task {} are not seen", tid);
            }
        }
        return (before.is_some(), open);
    }
    let Some(open) = before else { return (op == Op::Leave as u8, None) };
    if op == Op::Leave as u8 {
        // SAFETY: it is the current task's.
        unsafe {
            if (*open.as_ptr()).depth < 2 {
                open::give_back(open.as_ptr());
                return (false, None);
            }
            (*open.as_ptr()).depth -= 1;
            (*open.as_ptr()).off = 1;
        }
    }
    (true, Some(open))
}

/// Sends the name of the current task if it was not sent before. Asked where a section begins, or one is heard of first.
#[inline(always)]
fn send_name(hit: Hit) {
    let Ok(name) = bpf_get_current_comm() else { return };
    let (tid, _) = task::current_ids();
    let halves = [half(&name, 0), half(&name, 8)];
    // SAFETY: the entry may be reused for another task meanwhile; then a name is sent once more, or once less
    // if that task has the very same name.
    let known = NAMES.get_ptr(tid).map(|known| unsafe { known.read() });
    if known == Some(halves) {
        return;
    }
    let base = hit.record(Kind::TaskName, 0);
    let record = Record { entry: halves[0], value: halves[1], flags: Flags::VALUE, ..base };
    if hit.send(&record, Kind::TaskName) {
        // If this fails the name is sent again, which does no harm.
        let _ = NAMES.insert(tid, halves, 0);
    }
}

/// Eight bytes of a name; the first one lowest.
#[inline(always)]
fn half(name: &[u8; 16], from: usize) -> u64 {
    let mut word = 0;
    for index in 0..8 {
        word |= u64::from(name[from + index]) << (8 * index);
    }
    word
}

/// Logs once what the programs were told, to compare with what user space believes to have told.
#[inline(always)]
fn greet(ctx: &BtfTracePointContext) {
    static SAID: Once = Once::new();
    if SAID.first() {
        info!(
            ctx,
            "settings: scope {}, enable_count at {}, pause_count at {}, pid at {}, wake step {}",
            maps::scope(),
            maps::enable_count_offset(),
            maps::pause_count_offset(),
            maps::pid_offset(),
            maps::wake_step()
        );
    }
}

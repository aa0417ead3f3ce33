//! The mode itself: `lazy_mmu_section` of the drop-in.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::{info, warn};
use lazymmu_abi::{Context, Flags, Kind, Op, Record};

use crate::atomic::Once;
use crate::emit::Hit;
use crate::maps::{self, NAMES, SECTIONS};
use crate::stack::{self, Slot};
use crate::{emit, task};

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
        send_name(hit);
        let odd = if task::kernel_counts() || context != Context::Task as u8 {
            task::current_in_section()
        } else {
            count(&ctx, hit, op)
        };

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
            value: enable_count.into(),
            memory: pause_count.into(),
            caller,
            stack: if odd || op == Op::Enter as u8 {
                stack::take(&ctx, hit, Slot::Section, caller)
            } else {
                0
            },
            flags,
            ..base
        };
        hit.send(&record, Kind::Section);
    });
    0
}

/// Keeps the count of sections that the kernel does not keep. It only decides which accesses are emitted and which
/// calls are odd: whether a nested section is an error is the engine's matter.
///
/// Odd is what the plain pair of an enter and a leave has not: a call after which the task is still inside, and a leave
/// of a task that was outside.
#[inline(always)]
pub(crate) fn count(ctx: &impl EbpfContext, hit: Hit, op: u8) -> bool {
    static SAID: Once = Once::new();
    let (tid, _) = task::current_ids();
    let depth = depth(tid);
    if op == Op::Enter as u8 {
        let depth = depth.map_or(1, |depth| depth.saturating_add(1));
        if SECTIONS.insert(tid, depth, 0).is_err() {
            hit.lose_unknown();
            if SAID.first() {
                warn!(ctx, "the table of sections is full: accesses of task {} are not seen", tid);
            }
        }
    } else if op == Op::Leave as u8 {
        if let Some(depth) = depth {
            if depth < 2 {
                // An entry that is there can be removed.
                let _ = SECTIONS.remove(tid);
                return false;
            }
            let _ = SECTIONS.insert(tid, depth - 1, 0);
        }
        return true;
    }
    depth.is_some()
}

#[inline(always)]
fn depth(tid: u32) -> Option<u32> {
    // SAFETY: only this task's own programs write or remove its entry.
    SECTIONS.get_ptr(tid).map(|depth| unsafe { depth.read() })
}

/// Sends the name of the current task if it was not sent before.
#[inline(always)]
pub(crate) fn send_name(hit: Hit) {
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

//! The scheduler: a section that is switched away from or into, and a task that ends inside one.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use lazymmu_abi::{Flags, Kind, Op, Record};

use crate::emit::{self, Hit};
use crate::stack::{self, Slot, Taken};
use crate::task::{self, Task};
use crate::{maps, open, pending, xen};

/// `(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`; the previous task
/// is still the current one.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let next: Task = ctx.arg(2);
    let inside = task::current_in_section();
    if inside || task::in_section(next) {
        emit::during(Slot::Switch, |hit| {
            // Where the mode is a state of the CPU, what is queued stays there.
            if xen::switched(task::tid(next)) && inside {
                pending::tell_own(hit);
            }
            switched(&ctx, hit, inside, next);
        });
    }
    0
}

/// `inside`: whether the previous task is in a section.
#[inline(always)]
fn switched(ctx: &BtfTracePointContext, hit: Hit, inside: bool, next: Task) {
    let preempt = ctx.arg::<u64>(0) & 1 != 0;
    let prev_state: u32 = ctx.arg(3);
    // The kernel counts the same as voluntary (nvcsw of __schedule in kernel/sched/core.c, 6.12 and 7.2): on the
    // way back to user space `preempt` is false, but a task that could run on is not there by its own will.
    let blocked = !preempt && prev_state != 0;
    // Who blocks in a section is asked where; that a task was preempted says nothing of what it was doing.
    let Taken { caller, id, .. } = if blocked && inside {
        stack::take_within(ctx, hit, Slot::Switch, maps::schedule())
    } else {
        Taken::NONE
    };
    let base = hit.record(Kind::Switch, if blocked { Op::Blocked } else { Op::Preempted } as u8);
    let record = Record {
        value: task::tid(next).into(),
        memory: prev_state.into(),
        caller,
        stack: id,
        flags: Flags::VALUE | Flags::MEMORY,
        ..base
    };
    hit.send(&record, Kind::Switch);
}

/// `(struct task_struct *p)` in 6.12, `(struct task_struct *p, bool group_dead)` in 7.2; `p` is the current task
/// (do_exit in kernel/exit.c, 6.12 and 7.2).
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    if task::current_in_section() {
        // Tids are used again.
        let open = open::find(task::current_ids().0);
        emit::during(Slot::Exit, |hit| {
            let base = hit.record(Kind::TaskExit, 0);
            let Taken { caller, id, .. } = stack::take_within(&ctx, hit, Slot::Exit, maps::exit());
            // SAFETY: it is the current task's.
            let left_out = open.map_or(0, |open| unsafe { open::take_left_out(open.as_ptr()) });
            hit.send(&Record { entry: left_out, caller, stack: id, ..base }, Kind::TaskExit);
        });
        if let Some(open) = open {
            // SAFETY: as above.
            unsafe { open::give_back(open.as_ptr()) };
        }
    }
    0
}

//! The scheduler: a section that is switched away from or into, and a task that ends inside one.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use lazymmu_abi::{Flags, Kind, Op, Record};

use crate::emit;
use crate::maps::SECTIONS;
use crate::task::{self, Task};

/// `(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)`; the previous task
/// is still the current one.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let next: Task = ctx.arg(2);
    if task::current_in_section() || task::in_section(next) {
        let preempt = ctx.arg::<u64>(0) & 1 != 0;
        let prev_state: u32 = ctx.arg(3);
        // The kernel counts the same as voluntary (nvcsw of __schedule in kernel/sched/core.c, 6.12 and 7.2): on the
        // way back to user space `preempt` is false, but a task that could run on is not there by its own will.
        let op = if preempt || prev_state == 0 { Op::Preempted } else { Op::Blocked };
        let base = emit::record(Kind::Switch, op as u8);
        let record = Record {
            value: task::tid(next).into(),
            memory: prev_state.into(),
            flags: Flags::VALUE | Flags::MEMORY,
            ..base
        };
        emit::send(&record, Kind::Switch);
    }
    0
}

/// `(struct task_struct *p)` in 6.12, `(struct task_struct *p, bool group_dead)` in 7.2; `p` is the current task
/// (do_exit in kernel/exit.c, 6.12 and 7.2).
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(_ctx: BtfTracePointContext) -> i32 {
    if task::current_in_section() {
        let record = emit::record(Kind::TaskExit, 0);
        emit::send(&record, Kind::TaskExit);
        if !task::kernel_counts() {
            // Tids are used again.
            let _ = SECTIONS.remove(task::current_ids().0);
        }
    }
    0
}

//! Whether a task is in a section.
//!
//! 7.0 and later keep two counters in the task; before that, the section program counts in the table of open sections.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_task_btf};
use lazymmu_abi::{Scope, Settings};

use crate::maps;
use crate::open::{self, Open};

/// A `struct task_struct` that the verifier knows as one, so that its members can be loaded without a helper.
pub(crate) type Task = *const c_void;

/// Thread id and thread group id of the current task.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    (both as u32, (both >> 32) as u32)
}

/// The current task's thread id. Where its place is known it is loaded from there, without a call.
#[inline(always)]
pub(crate) fn current_tid() -> u32 {
    if maps::pid_offset() == Settings::NO_OFFSET {
        return current_ids().0;
    }
    // SAFETY: the helper has no precondition and never gives NULL.
    let task = unsafe { bpf_get_current_task_btf() };
    tid(task.cast::<c_void>().cast_const())
}

/// Whether the running kernel keeps the counters itself.
#[inline(always)]
pub(crate) fn kernel_counts() -> bool {
    maps::enable_count_offset() != Settings::NO_OFFSET
}

/// Whether an access of the current task is to be emitted.
#[inline(always)]
pub(crate) fn wanted() -> bool {
    maps::scope() == Scope::All as u32 || current_in_section()
}

/// Whether the mode is on for the current task, whose section it is.
#[inline(always)]
pub(crate) fn is_on(open: NonNull<Open>) -> bool {
    if kernel_counts() {
        counters().is_some_and(|(enable, pause)| enable != 0 && pause == 0)
    } else {
        // SAFETY: it is the current task's.
        unsafe { open.as_ref().off == 0 }
    }
}

/// Whether the current task is in a section, paused or not.
#[inline(always)]
pub(crate) fn current_in_section() -> bool {
    if kernel_counts() {
        // SAFETY: the helper has no precondition and never gives NULL.
        let task = unsafe { bpf_get_current_task_btf() };
        counters_say_so(task.cast::<c_void>().cast_const())
    } else {
        map_says_so(current_tid())
    }
}

/// Whether the task is in a section, paused or not.
#[inline(always)]
pub(crate) fn in_section(task: Task) -> bool {
    if kernel_counts() { counters_say_so(task) } else { map_says_so(tid(task)) }
}

/// The thread id of a task.
#[inline(always)]
pub(crate) fn tid(task: Task) -> u32 {
    let offset = maps::pid_offset();
    if offset == Settings::NO_OFFSET {
        return 0;
    }
    // SAFETY: the verifier checks that the running kernel's `struct task_struct` has four readable bytes there.
    unsafe { core::ptr::read_volatile(task.byte_add(offset as usize).cast::<u32>()) }
}

/// The current task's enable and pause count, if the kernel keeps them.
#[inline(always)]
pub(crate) fn counters() -> Option<(u8, u8)> {
    // SAFETY: the helper has no precondition and never gives NULL.
    let task = unsafe { bpf_get_current_task_btf() };
    counters_of(task.cast::<c_void>().cast_const())
}

#[inline(always)]
fn counters_of(task: Task) -> Option<(u8, u8)> {
    let (enable, pause) = (maps::enable_count_offset(), maps::pause_count_offset());
    if enable == Settings::NO_OFFSET || pause == Settings::NO_OFFSET {
        return None;
    }
    // Byte by byte: the verifier refuses one load across two members.
    // SAFETY: the verifier checks that the running kernel's `struct task_struct` has a readable byte there.
    unsafe {
        Some((
            core::ptr::read_volatile(task.byte_add(enable as usize).cast::<u8>()),
            core::ptr::read_volatile(task.byte_add(pause as usize).cast::<u8>()),
        ))
    }
}

#[inline(always)]
fn counters_say_so(task: Task) -> bool {
    counters_of(task).is_some_and(|(enable, pause)| enable != 0 || pause != 0)
}

#[inline(always)]
fn map_says_so(tid: u32) -> bool {
    open::find(tid).is_some()
}

//! `switch-in-section`: what a CPU has of the mode does not fit the task that runs there.

use super::{Breach, Event, Info, RuleId, Severity};
use crate::cpus::Disagreement;
use crate::profile::Happening;

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    let what = match event {
        Event::Cpu(Disagreement::EnteredTwice) => "the mode was entered on a CPU where it was on",
        Event::Cpu(Disagreement::LeftTwice) => "the mode was left on a CPU where it was off",
        Event::Cpu(Disagreement::AnotherTasks) => "the mode of a task that was switched out is still on",
        Event::Cpu(Disagreement::LeftBehind) => {
            "writes wait in the queue of a CPU that the task is not on any more"
        }
        _ => return None,
    };
    Some(Breach { on: Happening::WrongOnCpu, what })
}

pub(super) static INFO: Info = Info {
    id: RuleId::SwitchInSection,
    name: "switch-in-section",
    severity: Severity::Error,
    title: "the mode of a CPU is not that of the task that runs there",
    contract: "The implementation must therefore assume preemption may be enabled upon entry to the mode \
               and cpu migration is possible; it must take steps to be robust against this.",
    contract_source: "include/linux/pgtable.h:211 (7.2.13), :207 (6.12.117)",
    explanation: "A section over kernel page tables holds no lock, so it may be preempted and go on \
                  elsewhere. An architecture whose queue is that of the CPU must leave the mode when the \
                  task goes and enter it when the task comes. Here it did not, or did it twice: the mode \
                  was entered where it was on, left where it was off, or found on by a task that has \
                  nothing to do with it, whose writes then join the other's queue.",
    example: "Xen PV in 7.0-rc: lazy_mmu_mode_enable() counted, and was preempted before it called \
              arch_enter_lazy_mmu_mode(). When the task came back, xen_end_context_switch() saw the count \
              and entered the mode; then the task went on and entered it again: BUG. Fixed by 4594437880ce. \
              powerpc (b9ef323ea168) and sparc64 (a1d416bf9faf) were preempted inside apply_to_page_range() \
              and now switch preemption off.\n\
              7.2.13: include/linux/pgtable.h:270 counts, arch/x86/xen/enlighten_pv.c:428 \
              xen_end_context_switch(). 6.12.117: arch/x86/xen/enlighten_pv.c:434, \
              arch/x86/include/asm/xen/hypervisor.h:77 enter_lazy().",
    profiles: "By the contract, which puts this on the architecture. As a Xen PV guest before 4594437880ce \
               the mode is a state of the CPU. powerpc with the hash MMU, sparc64 and s390 switch preemption off \
               inside a section, and arm64 keeps what waits with the task.",
    blind_spots: "It needs the architecture's own enter and leave, which are told only where the kernel has \
                  them as functions. A context switch alone is no error: the contract allows it, and the \
                  profiles say who flushes then.",
};

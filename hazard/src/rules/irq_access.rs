//! `irq-access`: an interrupt does something to a section that it came into.

use lazymmu_abi::Kind;

use super::{Breach, Encounter, Event, Info, RuleId, Severity, Who};
use crate::profile::{Happening, ProfileMask};

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.who != Who::InterruptOfWriter || encounter.raw {
        return ProfileMask::NONE;
    }
    match encounter.kind {
        Kind::Read | Kind::Rmw => encounter.waits.and(encounter.sees_memory),
        Kind::Write => encounter.waits.without(encounter.queued),
        _ => ProfileMask::NONE,
    }
}

/// What is wrong with the event. From 7.0 on the mode counts as off in an interrupt, and its calls do nothing.
pub(super) fn check_event(event: &Event) -> Option<Breach> {
    let (section, on, what) = match event {
        Event::InterruptCall { section } => {
            (section, Happening::InterruptCall, "an interrupt inside a section called the mode")
        }
        Event::InterruptWrite { section } => {
            (section, Happening::InterruptWrite, "an interrupt inside a section wrote an entry")
        }
        _ => return None,
    };
    (section.surely_active() && !section.story.counters).then_some(Breach { on, what })
}

pub(super) static INFO: Info = Info {
    id: RuleId::IrqAccess,
    name: "irq-access",
    severity: Severity::Error,
    title: "interrupt inside a section that works on page tables",
    contract: "The mode is disabled in interrupt context and calls to the lazy_mmu API have no effect.",
    contract_source: "include/linux/pgtable.h:217 (7.2.13); before 7.0 \"the mode cannot be used in \
                      interrupt context\", :211 (6.12.117)",
    explanation: "An interrupt came into a section. If it reads or changes an entry whose write waits, it \
                  sees or changes what was there before that write. Before 7.0 nothing tells the \
                  architecture that it is in an interrupt: a write may join the queue of the section, \
                  although the interrupt needs it now, and a leave of its own ends the mode for the section \
                  that it came into.",
    example: "KFENCE on x86 protects and unprotects its pages with set_pte(), in whatever context memory is \
              freed; on arm64 in 6.16 the barriers of such a write waited for the section that the softirq \
              had come into. Fixed by b81c688426a9. In 2009 change_page_attr() in an interrupt read a stale \
              table on x86 (4f06b0436b2d).\n\
              7.2.13: arch/x86/include/asm/kfence.h:65, include/linux/sched.h:1772 the mode counts as off. \
              6.12.117: arch/x86/include/asm/kfence.h:65, arch/x86/xen/enlighten_pv.c:144.",
    profiles: "An entry with a pending write: wherever the store waits. Any other entry: before 7.0 only, by \
               the contract, on powerpc with the hash MMU, where the batch of the CPU is active for the \
               interrupt too, and on arm64 from 6.16 to the fix. A call of the mode: before 7.0 only, by the \
               contract. Xen looks whether it is in an interrupt and counts the sections of a CPU; sparc64 \
               does not batch flushes of kernel entries.",
    blind_spots: "Accesses that do not use an accessor. What an interrupt does in a task that is in no \
                  section.",
};

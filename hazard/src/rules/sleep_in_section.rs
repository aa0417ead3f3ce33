//! `sleep-in-section`: a task blocks inside a section.

use lazymmu_abi::Op;

use super::{Breach, Event, Info, RuleId, Severity};
use crate::profile::Happening;

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    match event {
        Event::Switched { section, op: Op::Blocked } if section.surely_active() => {
            Some(Breach { on: Happening::Sleep, what: "a task blocked inside a section" })
        }
        _ => None,
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::SleepInSection,
    name: "sleep-in-section",
    severity: Severity::Error,
    title: "task that blocks inside a section",
    contract: "An implementation may handle this by disabling preemption, as a consequence generic code may \
               not sleep while the lazy MMU mode is active.",
    contract_source: "include/linux/pgtable.h:213 (7.2.13); 6.12.117 does not say it, :208 only that \
                      preemption is the implementation's matter",
    explanation: "A task inside a section gave up the CPU by its own will: it waits for memory, a lock, or \
                  a time. Where entering the mode switches preemption off, that is a sleep in atomic \
                  context.",
    example: "KASAN's shadow of vmalloc space was once allocated with GFP_KERNEL inside the section of \
              apply_to_pte_range(), for each entry. The pages are now allocated before. Fixed by \
              b6ea95a34cbd.\n\
              7.2.13: mm/kasan/shadow.c:370 allocates, :381 calls apply_to_page_range(); mm/memory.c:3334 \
              enters. 6.12.117: mm/kasan/shadow.c:369, :384; mm/memory.c:2811.",
    profiles: "By the contract, and where entering the mode switches preemption off: powerpc with the hash \
               MMU, sparc64, s390 with the series under review. As a Xen PV guest and on arm64 a context \
               switch flushes or issues what waits.",
    blind_spots: "Code that might sleep and did not. A task that is preempted is no finding, and neither is \
                  one that blocks while the mode is paused.",
};

//! `write-reorder`: an immediate write overtakes a write that waits.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity, Who};
use crate::profile::{ProfileId, ProfileMask};

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind != Kind::Write || encounter.who != Who::Writer || encounter.raw {
        return ProfileMask::NONE;
    }
    let overtakes = encounter.waits.without(encounter.queued);
    // The contract does not say which writes wait: code that is wrong on one architecture is wrong.
    if overtakes.is_empty() { overtakes } else { overtakes.with(ProfileId::Strict) }
}

pub(super) static INFO: Info = Info {
    id: RuleId::WriteReorder,
    name: "write-reorder",
    severity: Severity::Error,
    title: "write to a page-table entry that overtakes a write which is still pending",
    contract: "This allows PTE updates and page invalidations to be delayed until a call to leave lazy MMU \
               mode is issued.",
    contract_source: "include/linux/pgtable.h:197 (7.2.13), :195 (6.12.117)",
    explanation: "One write waits in a queue, and a later one by the same task to the same entry is done at \
                  once, because it is an operation that the architecture does not queue. When the queue is \
                  flushed, the older value goes over the newer one.",
    example: "No kernel is known to do this; the scenario pud-overtaken is constructed. What it takes is \
              there: on x86 set_pud() is a hook that Xen queues, and set_pud_at() is a plain store that it \
              does not. One after the other inside a section, they arrive in the other order. Today's \
              callers of set_pud_at() (mm/huge_memory.c, mm/mremap.c) enter no section.\n\
              7.2.13: arch/x86/xen/mmu_pv.c:482 xen_set_pud(), arch/x86/include/asm/pgtable.h:1213 \
              set_pud_at(). 6.12.117: arch/x86/include/asm/pgtable.h:1287 set_pud_at().",
    profiles: "Where one operation on an entry is queued and another is not: a Xen PV guest, and by the \
               contract, which does not say which writes wait. On s390 with the series under review only \
               PTEs wait. powerpc with the hash MMU, sparc64 and arm64 store at once.",
    blind_spots: "Writes that do not use an accessor. Writes of other tasks: nothing is certain of a task \
                  that was not seen to enter a section, so whether its write is done at once is not known; \
                  and two writes that wait in the queues of two CPUs come in the order of the flushes. A \
                  write from an interrupt is the matter of irq-access.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_later_write_is_not_queued_behind_is_overtaken() {
        let queue = ProfileMask::NONE.with(ProfileId::XenPv);
        let waits = queue.with(ProfileId::S390);
        let check = |waits, queued| {
            let (kind, who) = (Kind::Write, Who::Writer);
            let (late, sees_memory) = (ProfileMask::NONE, ProfileMask::ALL);
            check(Encounter { kind, who, raw: false, waits, late, sees_memory, queued })
        };
        assert_eq!(check(waits, queue), ProfileMask::NONE.with(ProfileId::S390).with(ProfileId::Strict));
        assert_eq!(check(waits, waits), ProfileMask::NONE, "what nothing overtakes breaks no contract");
    }
}

//! `use-before-flush`: a kernel mapping is used before the write that makes it is there.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity};
use crate::profile::{Happening, ProfileMask, broken_by};

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::Fault {
        encounter.waits.or(encounter.late).and(broken_by(Happening::Use))
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::UseBeforeFlush,
    name: "use-before-flush",
    severity: Severity::Error,
    title: "use of a kernel mapping whose entry is still pending",
    contract: "This allows PTE updates and page invalidations to be delayed until a call to leave lazy MMU \
               mode is issued.",
    contract_source: "include/linux/pgtable.h:197 (7.2.13), :195 (6.12.117)",
    explanation: "Inside a section a task changed an entry that maps kernel memory and, before the queue \
                  was flushed, used an address that this entry maps. The processor does not have the entry \
                  yet, and takes a page fault. If the handler repairs it with another write inside the \
                  section, that one waits as well, and the fault comes again.",
    example: "zap_pte_range() is in the mode and hands pages to the gather, whose tlb_next_batch() \
              allocates a page. With DEBUG_PAGEALLOC the allocator maps that page just now, inside the \
              section; the next user of the page may come before the entry. In 3.6 on Xen PV it was a fault \
              in vmalloc space: vmalloc_fault() set an entry of the top level, which waited. Fixed by \
              1160c2779b82.\n\
              7.2.13: mm/memory.c:1925 enters, mm/mmu_gather.c:37 allocates. 6.12.117: mm/memory.c:1603, \
              mm/mmu_gather.c:36.",
    profiles: "Breaks by the contract and as a Xen PV guest on x86, where the store waits; on arm64 the \
               store is done but its barriers wait. powerpc with the hash MMU and sparc64 flush only what \
               was mapped before. On s390 with the series under review only PTEs \
               of processes go to the cache.",
    blind_spots: "Uses that do not fault, which is all of them on a kernel that defers nothing. A fault \
                  tells an address and a pending write its entry's place in its table, so the two are \
                  matched by that place, and only writes that map kernel memory count: one of 512 faults on \
                  something else in such a section would match by chance. Only x86's tables are known. \
                  Faults of other tasks are not looked at.",
};

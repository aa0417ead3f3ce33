//! `raw-access`: an access around the accessors meets a write that waits.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity};
use crate::profile::ProfileMask;

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.raw && matches!(encounter.kind, Kind::Read | Kind::Write | Kind::Rmw) {
        encounter.waits
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::RawAccess,
    name: "raw-access",
    severity: Severity::Error,
    title: "access around the accessors to a page-table entry whose write is still pending",
    contract: "Note that using this interface requires that read hazards be removed from the code. [...] \
               the actual write to the page tables may not yet have taken place, so reads though a raw PTE \
               pointer after it has been modified are not guaranteed to be up to date.",
    contract_source: "include/linux/pgtable.h:201 (7.2.13), :199 (6.12.117)",
    explanation: "Code took the entry's value with a plain load, or stored with a plain store, where an \
                  accessor is there for it. The accessors are where an architecture looks into its queue; a \
                  plain load sees memory, which does not have the pending write yet, and a plain store is \
                  overwritten when the queue is flushed.",
    example: "page_vma_mapped_walk() reads the PMD with pmdp_get_lockless(), takes the lock, and reads it \
              again as *pvmw->pmd.\n\
              7.2.13: mm/page_vma_mapped.c:250 and :256. 6.12.117: mm/page_vma_mapped.c:247 and :252; \
              mm/gup.c:2983 compares with *pmdp.",
    profiles: "Breaks wherever the store itself waits: by the contract, as a Xen PV guest on x86, and on \
               s390 with the series under review, where the accessors would have been right.",
    blind_spots: "With the drop-in all of them: no accessor is called that it could trace. A probe plan has the \
                  loads and stores that the kernel's debug information or its code shows to be of entries, and no \
                  others. An access to an entry for which nothing waits does no harm and is not reported.",
};

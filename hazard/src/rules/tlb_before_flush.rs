//! `tlb-before-flush`: the TLB is flushed before the writes that it is flushed for are there.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity};
use crate::profile::{Happening, ProfileMask, broken_by};

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::TlbFlush {
        encounter.waits.and(broken_by(Happening::TlbFlush))
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::TlbBeforeFlush,
    name: "tlb-before-flush",
    severity: Severity::Error,
    title: "flush of the TLB for a page whose entry is still pending",
    contract: "This allows PTE updates and page invalidations to be delayed until a call to leave lazy MMU \
               mode is issued.",
    contract_source: "include/linux/pgtable.h:197 (7.2.13), :195 (6.12.117)",
    explanation: "A task changed entries inside a section and flushed the TLB for their range before the \
                  section was left. If the changes wait in a queue, any CPU may load the old entries into \
                  its TLB again between the flush and the leave. Nothing flushes these afterwards: a page \
                  that was write-protected or unmapped stays writable or mapped there.",
    example: "The PAGEMAP_SCAN ioctl: pagemap_scan_pmd_entry() write-protects entries inside a section, \
              calls flush_tlb_range(), and only then leaves. migrate_vma_collect_pmd() does the same.\n\
              7.2.13: fs/proc/task_mmu.c:2855 enters, :2497 writes, :2923 flushes, :2925 leaves; \
              mm/migrate_device.c:268, :457, :481, :483. 6.12.117: fs/proc/task_mmu.c:2504, :2164, :2586, \
              :2589; mm/migrate_device.c:106, :251, :275, :277.",
    profiles: "Breaks by the contract, and on no architecture that has the mode today. As a Xen PV guest on \
               x86 the flush is queued behind the stores. On s390 with the series under review the \
               instruction that stores the entries invalidates the TLB too. powerpc with the hash MMU, \
               sparc64 and arm64 store at once, and the flush finds the entries.",
    blind_spots: "Which page an entry maps is not in the records, only its place in its table: a flush of \
                  less than a whole table's range is matched by that, one of a larger range with every \
                  entry that waits. Only x86's tables are known, and only flushes by the task that wrote \
                  are looked at.",
};

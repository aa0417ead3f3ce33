//! `read-pending`: a task reads back what it has written before it was flushed.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity, Who};
use crate::profile::ProfileMask;

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::Read && encounter.who == Who::Writer && !encounter.raw {
        encounter.waits.and(encounter.sees_memory)
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::ReadPending,
    name: "read-pending",
    severity: Severity::Error,
    title: "read of a page-table entry whose write is still pending",
    contract: "Note that using this interface requires that read hazards be removed from the code. A read hazard could \
               result in the direct mode hypervisor case, since the actual write to the page tables may not yet have \
               taken place, so reads though a raw PTE pointer after it has been modified are not guaranteed to be up \
               to date.",
    contract_source: "include/linux/pgtable.h:201 (7.2.13), :199 (6.12.117)",
    explanation: "Inside a lazy MMU section an architecture may put the store to a page-table entry in a queue. It is \
                  certain to be in memory only after the mode was left, flushed or paused. The task wrote an entry and \
                  read it again before that. Where the store was queued, the read got the value from before the write, \
                  and whatever the code decides with it is decided on a page table that is about to change.",
    example: "fork of a range that a device holds exclusively. copy_pte_range() enters the mode, and finds a \
              device-exclusive entry; try_restore_exclusive_pte() calls restore_exclusive_pte(), which writes the \
              source entry with set_pte_at(). Back in copy_pte_range() the same entry is read with ptep_get(), to be \
              copied to the child.\n\
              7.2.13: mm/memory.c:1275 enters, :905 writes, :1309 reads. 6.12.117: mm/memory.c:1123, :757, :1157.",
    profiles: "Breaks by the contract and as a Xen PV guest on x86, where stores are queued as hypercalls. On s390 with \
               the series under review ptep_get() looks into the cache first, so only a read around the accessors is \
               stale (and the kernel's own sanitizer finds those). powerpc with the hash MMU, sparc64 and arm64 store \
               at once and only defer flushes or barriers.",
    blind_spots: "Reads that do not use an accessor (raw *ptep). Writes in a section that began before the first record. Where a task has softirqs switched off \
                  inside a section the kernel takes the mode for off, which the records do not tell: a finding there \
                  is wrong. The same holds for code that flushes by other means than leave, flush or pause.",
};

//! `rmw-pending`: an immediate read-modify-write overtakes a write that waits.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity, Who};
use crate::profile::ProfileMask;

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::Rmw && encounter.who != Who::InterruptOfWriter && !encounter.raw {
        encounter.waits.and(encounter.sees_memory)
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::RmwPending,
    name: "rmw-pending",
    severity: Severity::Error,
    title: "read-modify-write of a page-table entry whose write is still pending",
    contract: "This allows PTE updates and page invalidations to be delayed until a call to leave lazy MMU mode is \
               issued. [...] using this interface requires that read hazards be removed from the code.",
    contract_source: "include/linux/pgtable.h:197 (7.2.13), :195 (6.12.117)",
    explanation: "Accessors such as wrprotect_ptes() or ptep_get_and_clear() exchange the entry or clear a bit of it in \
                  memory at once: they have to know the old value, so they are not queued, and nothing orders them \
                  with the queue. On an entry with a queued write they work on the value from before that write, and \
                  when the queue is flushed its value goes over theirs: the change is lost. A few of them \
                  (ptep_set_access_flags(), ptep_modify_prot_start() on Xen) only read at once; then what they go on \
                  with is the old value. It is the same if another task changes the entry.",
    example: "The fork of the example of read-pending goes on: __copy_present_ptes() write-protects the source entry \
              with wrprotect_ptes(). That clears the write bit in memory; then the queued write of \
              restore_exclusive_pte() puts the writable entry back, and parent and child share a page that the parent \
              can write to.\n\
              7.2.13: mm/memory.c:1275 enters, :905 writes, :1106 write-protects. 6.12.117: mm/memory.c:1123, :757, \
              :958.",
    profiles: "Breaks by the contract and as a Xen PV guest on x86. On s390 with the series under review most \
               accessors work in the cache, in order; ptep_clear_flush() and ptep_set_access_flags() do not. powerpc \
               with the hash MMU, sparc64 and arm64 store at once.",
    blind_spots: "Changes that do not use an accessor. Of a change that covers several entries, the values are compared for the first entry only. Writes in a \
                  section that began before the first record.",
};

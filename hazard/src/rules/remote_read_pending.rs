//! `remote-read-pending`: another task reads what waits in the queue of a section.

use lazymmu_abi::Kind;

use super::{Encounter, Info, RuleId, Severity, Who};
use crate::profile::ProfileMask;

/// The profiles in which the encounter breaks the rule.
pub(super) fn check(encounter: Encounter) -> ProfileMask {
    if encounter.kind == Kind::Read && encounter.who == Who::Other && !encounter.raw {
        encounter.waits.and(encounter.sees_memory)
    } else {
        ProfileMask::NONE
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::RemoteReadPending,
    name: "remote-read-pending",
    severity: Severity::Error,
    title: "read of a page-table entry whose write by another task is still pending",
    contract: "Note that using this interface requires that read hazards be removed from the code. [...] \
               the actual write to the page tables may not yet have taken place, so reads though a raw PTE \
               pointer after it has been modified are not guaranteed to be up to date.",
    contract_source: "include/linux/pgtable.h:201 (7.2.13), :199 (6.12.117)",
    explanation: "A write that waits in the queue of a section is seen by nobody else: not by other CPUs, \
                  and not by their memory management units. Another task read the entry in that time and \
                  decided on the value from before the write. A lock helps only if the section is left, or \
                  its queue flushed, before the lock is given back.",
    example: "KASAN's shadow of vmalloc space. apply_to_pte_range() enters the mode and calls \
              kasan_populate_vmalloc_pte() for each entry, which takes init_mm's lock, sees that the entry \
              is none, sets it, and gives the lock back while the write still waits. A second CPU takes the \
              lock, reads none as well, and maps a second page. Fixed by c519c3c0a113.\n\
              6.12.117: mm/memory.c:2811 enters, mm/kasan/shadow.c:317 reads, :318 writes, :321 unlocks, \
              mm/memory.c:2824 leaves. 7.2.13: the mode is paused meanwhile, mm/kasan/shadow.c:308 and \
              :322.",
    profiles: "Breaks by the contract, as a Xen PV guest on x86, and on s390 with the series under review: \
               an accessor looks only into the cache of its own section. powerpc with the hash MMU, sparc64 and arm64 store at \
               once.",
    blind_spots: "Reads that do not use an accessor, and those of the hardware. A reader that can do with \
                  an old value, because it looks again or because something else tells it of the change \
                  (such as a sequence count), is reported all the same. Reads outside of sections are \
                  recorded with `--scope all` only.",
};

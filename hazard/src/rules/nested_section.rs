//! `nested-section`: before 7.0, a section inside another ends it.

use super::{Breach, Event, Info, RuleId, Severity};
use crate::profile::Happening;

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    let what = "a section was entered inside another";
    matches!(event, Event::NestLeft).then_some(Breach { on: Happening::InnerLeave, what })
}

pub(super) static INFO: Info = Info {
    id: RuleId::NestedSection,
    name: "nested-section",
    severity: Severity::Error,
    title: "section inside another on a kernel where sections must not nest",
    contract: "Nesting is not permitted and the mode cannot be used in interrupt context.",
    contract_source: "include/linux/pgtable.h:210 (6.12.117); from 7.0 on nesting is permitted, :226 \
                      (7.2.13)",
    explanation: "Before 7.0 the mode is on or off and nothing counts. If a function that enters the mode \
                  is called from inside a section, its leave ends the mode for the caller too: what the \
                  caller writes afterwards is not batched, and the caller's own leave leaves a mode that is \
                  not on.",
    example: "powerpc from 6.6 to 6.14: set_ptes() entered and left the mode itself, so that in \
              remap_pte_range() the mode was off after the first entry. Fixed by 47b8def9358c; set_ptes() \
              does not do so any more.\n\
              6.12.117: mm/memory.c:2555 enters, :2562 calls set_pte_at(), :2565 leaves; \
              arch/powerpc/mm/pgtable.c:204 says why it need not. 7.2.13: mm/memory.c:2923, \
              arch/powerpc/mm/pgtable.c:205.",
    profiles: "By the contract. On Xen sections of a CPU are counted; on powerpc with the hash MMU and \
               sparc64 what comes after the inner leave is flushed at once, which is slow but right.",
    blind_spots: "Kernels from 7.0 on keep counters, and nesting is right there. A section is reported when \
                  both were left; if a leave was never recorded, nothing is said.",
};

//! `wasted-section`: sections that gain nothing.

use super::{Breach, Event, Info, RuleId, Severity};
use crate::profile::Happening;
use crate::tasks::Story;

/// So many sections of one call path are needed to say something of it.
const ENOUGH: u64 = 16;

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    let Event::SectionOver { section, opened, wasted } = event else { return None };
    let mostly = *opened >= ENOUGH && wasted * 10 >= opened * 9;
    (mostly && section.is_wasted())
        .then_some(Breach { on: Happening::Waste, what: "nearly all sections here have nothing to batch" })
}

impl super::View {
    /// Whether nothing was batched: no or one entry, or a flush after nearly every one.
    pub(crate) const fn is_wasted(self) -> bool {
        let Story { changed, flushes, .. } = self.story;
        changed <= 1 || changed <= flushes
    }
}

pub(super) static INFO: Info = Info {
    id: RuleId::WastedSection,
    name: "wasted-section",
    severity: Severity::Advice,
    title: "sections that have nothing to batch",
    contract: "Some architectures may benefit from doing this, and it is beneficial for both shadow and \
               direct mode hypervisors, which may batch the PTE updates which happen during this window.",
    contract_source: "include/linux/pgtable.h:199 (7.2.13), :197 (6.12.117)",
    explanation: "A section is worth its two calls if several changes go together. At least nine of ten \
                  sections that this call path opened changed no entry or one, or flushed as often as they \
                  changed one. Nothing is said before the sixteenth section of a call path.",
    example: "change_pte_range() enters the mode before it knows whether an entry has to change: an \
              mprotect() that changes nothing gives sections without a write.\n\
              7.2.13: mm/mprotect.c:340 enters, :412 leaves. 6.12.117: mm/mprotect.c:109, :290.",
    profiles: "None is wrong because of it. Entering and leaving costs most where it switches preemption \
               off (powerpc with the hash MMU, sparc64).",
    blind_spots: "Sections that depend on the load: a machine that forks small processes differs from one \
                  that does not. Sections that began before the first record or had records missing are not \
                  counted.",
};

//! `section-leak`: enters and leaves do not pair.

use lazymmu_abi::Op;

use super::{Breach, Call, Event, Info, RuleId, Severity};
use crate::profile::Happening;
use crate::section::{HIGHEST, Mode, UNDERFLOWN};

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    let what = match event {
        Event::Call(call) if left_too_often(call) => "the mode was left without having been entered",
        Event::Call(call) if entered_too_often(call) => {
            "the mode was entered more often than the kernel can count"
        }
        Event::Miscounted { expected, told } if expected.enable != told.enable => {
            "the kernel counts other sections than were entered and left"
        }
        Event::Exited { section } if section.surely_active() => "the mode is still on when the task ends",
        _ => return None,
    };
    Some(Breach { on: Happening::Unpaired, what })
}

fn left_too_often(call: &Call) -> bool {
    let underflown = Mode { enable: UNDERFLOWN, pause: 0 };
    // Without counters it is certain only of a task that was seen to be outside.
    call.op == Op::Leave && call.after.map_or(call.from_outside, |after| after == underflown)
}

fn entered_too_often(call: &Call) -> bool {
    let full = Mode { enable: HIGHEST, pause: 0 };
    // What counters that do not follow leave in doubt was no enter that counted.
    call.op == Op::Enter
        && call.section.is_some_and(|section| !section.story.doubtful && section.mode == full)
}

pub(super) static INFO: Info = Info {
    id: RuleId::SectionLeak,
    name: "section-leak",
    severity: Severity::Error,
    title: "section that is not left as it was entered",
    contract: "Must be paired with a call to lazy_mmu_mode_disable(). [...] Must match a call to \
               lazy_mmu_mode_enable().",
    contract_source: "include/linux/pgtable.h:255 and :281 (7.2.13); 6.12.117 does not say it, but nothing \
                      there counts",
    explanation: "A path through the code enters the mode and does not leave it, or the other way round. A \
                  mode that stays on lets writes wait that nobody flushes. The same if the task's counter is not what its \
                  calls make of it. From 7.0 on a leave too many \
                  counts below zero, the kernel takes the task for inside a section from then on, and the \
                  next section is never entered; the 256th enter counts from 255 to zero, and the kernel takes the \
                  task for outside.",
    example: "vmap_pages_pte_range() in 6.16 returned an error from the middle of the section. It now \
              breaks out of the loop and leaves. Fixed by fea18c686320.\n\
              7.2.13: mm/vmalloc.c:563 enters, :569 finds the error, :585 leaves. 6.12.117: the function \
              has no section, mm/vmalloc.c:534.",
    profiles: "By the contract. powerpc with the hash MMU and sparc64 count preemption off and on again \
               with each section; as a Xen PV guest and on arm64 the counter is wrong from then on.",
    blind_spots: "A task that goes back to user space with the mode on: no record tells of that, so it is \
                  found when the task ends inside the section. Without counters, a leave of a task whose \
                  last section was not recorded.",
};

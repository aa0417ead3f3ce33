//! `pause-misuse`: pauses and resumes do not pair, or the mode is off inside a section.

use lazymmu_abi::Op;

use super::{Breach, Call, Event, Info, RuleId, Severity};
use crate::cpus::Disagreement;
use crate::profile::Happening;
use crate::section::{HIGHEST, UNDERFLOWN};

/// What is wrong with the event.
pub(super) fn check(event: &Event) -> Option<Breach> {
    let what = match event {
        Event::Call(call) if resumed_too_often(call) => "the mode was resumed without having been paused",
        Event::Call(call) if entered_below_zero(call) => {
            "the mode stays off, as it was resumed more often than paused"
        }
        Event::Call(call) if left_while_paused(call) => "a section was left while it was paused",
        Event::Exited { section } if section.mode.pause > 0 && !section.story.doubtful => {
            "the mode is still paused when the task ends"
        }
        Event::Miscounted { expected, told } if expected.enable == told.enable => {
            "the kernel counts other pauses than were called"
        }
        Event::Cpu(Disagreement::OffInside) => "the mode of the CPU is off inside a section",
        _ => return None,
    };
    Some(Breach { on: Happening::Off, what })
}

fn resumed_too_often(call: &Call) -> bool {
    call.op == Op::Resume && call.after.is_some_and(|after| after.pause == UNDERFLOWN)
}

/// The resume was before the capture, or where no hook is: the counter is a byte, and nobody pauses this often. What is
/// known to be open was told of when it came to this.
fn entered_below_zero(call: &Call) -> bool {
    call.op == Op::Enter
        && call.section.is_none()
        && call.after.is_some_and(|after| after.pause > HIGHEST / 2)
}

fn left_while_paused(call: &Call) -> bool {
    let Some(section) = call.section else { return false };
    let belongs_outside = section.story.entered_paused == Some(0);
    call.op == Op::Leave && section.mode.pause > 0 && call.after == Some(section.mode) && belongs_outside
}

pub(super) static INFO: Info = Info {
    id: RuleId::PauseMisuse,
    name: "pause-misuse",
    severity: Severity::Error,
    title: "section whose pauses and resumes do not pair",
    contract: "Must be paired with a call to lazy_mmu_mode_resume(). Calls to the lazy_mmu_mode_* API have \
               no effect until the matching resume() call.",
    contract_source: "include/linux/pgtable.h:331 (7.2.13); 6.12.117 cannot pause",
    explanation: "While the mode is paused its other calls do nothing. If a section is left before it is \
                  resumed, the leave has no effect and the section never ends; a resume too many counts \
                  below zero, and the mode is paused for good, which an enter tells if the resume was not seen. If \
                  the architecture's own state of a CPU is known, it must be on inside a section that is not \
                  paused.",
    example: "The pairs in KASAN's shadow of vmalloc space: kasan_depopulate_vmalloc_pte() pauses, frees a \
              page and resumes. With DEBUG_PAGEALLOC the free enters the mode once more, which does \
              nothing.\n\
              7.2.13: mm/kasan/shadow.c:474 pauses, :484 frees, :486 resumes. 6.12.117: no pause, \
              mm/kasan/shadow.c:300.\n\
              One that does not pair: as a Xen PV guest, xen_end_context_switch() resumes the mode for a task \
              that comes in for the first time and was never paused.\n\
              7.2.13: arch/x86/xen/enlighten_pv.c:434.",
    profiles: "By the contract. powerpc with the hash MMU and sparc64 count preemption off and on with each \
               pause and resume. As a Xen PV guest and on arm64 a mode that is off makes writes slow, not \
               wrong.",
    blind_spots: "A section that is entered while the mode is paused is right by the contract, whoever \
                  relies on it: what it writes is done at once. A section whose calls had no effect because \
                  softirqs were off cannot be told from one whose calls were not recorded. A pause that is \
                  never resumed outside of sections.",
};

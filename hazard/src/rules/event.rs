//! What happens besides accesses that meet a pending write, as the rules see it.

use lazymmu_abi::Op;

use crate::cpus::Disagreement;
use crate::profile::Happening;
use crate::section::Mode;
use crate::tasks::Story;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A task called the mode.
    Call(Call),
    /// Before 7.0: a section that was entered inside another was left, and so was the other.
    NestLeft,
    /// The outermost section ended in the regular way.
    SectionOver {
        section: View,
        /// Sections that the same call path has opened so far, and how many of them gained nothing.
        opened: u64,
        wasted: u64,
    },
    /// A task in a section was switched out.
    Switched { section: View, op: Op },
    /// A task ended in a section.
    Exited { section: View },
    /// An interrupt that came into a section called the mode.
    InterruptCall { section: View },
    /// An interrupt that came into a section wrote an entry.
    InterruptWrite { section: View },
    /// What a CPU has of the mode does not fit.
    Cpu(Disagreement),
    /// The kernel's counters are not what the calls since the last one make of them, and no record is missing.
    Miscounted { expected: Mode, told: Mode },
}

/// One call of the mode by a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) op: Op,
    /// What is known of the section before.
    pub(crate) section: Option<View>,
    /// The counters that the record tells.
    pub(crate) after: Option<Mode>,
    /// Whether the task is known to have been outside.
    pub(crate) from_outside: bool,
}

/// A section as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) mode: Mode,
    pub(crate) story: Story,
}

impl View {
    /// Whether the mode is on, and nothing is in doubt.
    pub(crate) const fn surely_active(self) -> bool {
        self.mode.active() && !self.story.doubtful
    }
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Breach {
    /// What happened: the profiles' tables say where it breaks.
    pub on: Happening,
    /// In words. It is a part of the finding's fingerprint and may not change.
    pub what: &'static str,
}

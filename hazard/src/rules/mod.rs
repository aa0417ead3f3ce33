//! The rules.
//!
//! A rule is a file here with its [`Info`], the text that `lazymmu explain` prints, and one or both of two checks. The one
//! looks at an `Encounter`: something that met a pending write. The other looks at an `Event`: a mode call, a switch, the
//! end of a section or of a task, something that an interrupt does; it names what is wrong, and the profiles' tables say
//! where that breaks. A new rule is a new file, a variant of [`RuleId`] and a line in [`RULES`]; the engine changes only
//! for an event that it does not tell yet. Rules keep no state of their own.

mod event;
mod irq_access;
mod nested_section;
mod pause_misuse;
mod raw_access;
mod read_pending;
mod remote_read_pending;
mod rmw_pending;
mod section_leak;
mod sleep_in_section;
mod switch_in_section;
mod tlb_before_flush;
mod use_before_flush;
mod wasted_section;
mod write_reorder;

use lazymmu_abi::{Context, Kind};

pub use event::Breach;
pub(crate) use event::{Call, Event, View};

use crate::profile::ProfileMask;

/// Names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleId {
    /// A task reads an entry that it has itself written and not flushed.
    ReadPending,
    /// Another task reads an entry whose write is pending.
    RemoteReadPending,
    /// An immediate read-modify-write on an entry with a pending write.
    RmwPending,
    /// An immediate write to an entry with a pending write.
    WriteReorder,
    /// An access to an entry with a pending write that bypasses the accessors.
    RawAccess,
    /// A kernel mapping is used while the entry that maps it is pending.
    UseBeforeFlush,
    /// The TLB is flushed for a range in which entries are pending.
    TlbBeforeFlush,
    /// Before 7.0: a section inside another ends it.
    NestedSection,
    /// What a CPU has of the mode does not fit the task that runs there.
    SwitchInSection,
    /// An interrupt does something to a section that it came into.
    IrqAccess,
    /// Enters and leaves do not pair.
    SectionLeak,
    /// A task blocks inside a section.
    SleepInSection,
    /// Pauses and resumes do not pair, or the mode is off inside a section.
    PauseMisuse,
    /// Sections that gain nothing.
    WastedSection,
}

/// All rules, in the order of the reports.
pub static RULES: [Rule; 14] = [
    Rule::of_encounters(&read_pending::INFO, read_pending::check),
    Rule::of_encounters(&remote_read_pending::INFO, remote_read_pending::check),
    Rule::of_encounters(&rmw_pending::INFO, rmw_pending::check),
    Rule::of_encounters(&write_reorder::INFO, write_reorder::check),
    Rule::of_encounters(&raw_access::INFO, raw_access::check),
    Rule::of_encounters(&use_before_flush::INFO, use_before_flush::check),
    Rule::of_encounters(&tlb_before_flush::INFO, tlb_before_flush::check),
    Rule::of_events(&nested_section::INFO, nested_section::check),
    Rule::of_events(&switch_in_section::INFO, switch_in_section::check),
    Rule {
        info: &irq_access::INFO,
        on_encounter: Some(irq_access::check),
        on_event: Some(irq_access::check_event),
    },
    Rule::of_events(&section_leak::INFO, section_leak::check),
    Rule::of_events(&sleep_in_section::INFO, sleep_in_section::check),
    Rule::of_events(&pause_misuse::INFO, pause_misuse::check),
    Rule::of_events(&wasted_section::INFO, wasted_section::check),
];

/// A rule: its text and its checks.
pub struct Rule {
    /// The text.
    pub info: &'static Info,
    /// The profiles in which an encounter breaks it.
    pub(crate) on_encounter: Option<fn(Encounter) -> ProfileMask>,
    /// What is wrong with an event.
    pub(crate) on_event: Option<fn(&Event) -> Option<Breach>>,
}

impl Rule {
    const fn of_encounters(info: &'static Info, check: fn(Encounter) -> ProfileMask) -> Self {
        Self { info, on_encounter: Some(check), on_event: None }
    }

    const fn of_events(info: &'static Info, check: fn(&Event) -> Option<Breach>) -> Self {
        Self { info, on_encounter: None, on_event: Some(check) }
    }
}

impl RuleId {
    /// The rule's text.
    #[must_use]
    pub fn info(self) -> &'static Info {
        RULES[self as usize].info
    }

    /// The rule of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        RULES.iter().map(|rule| rule.info).find(|info| info.name == name).map(|info| info.id)
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The contract is broken.
    Error,
    /// Nothing is broken, but something could be better.
    Advice,
}

impl Severity {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Advice => "advice",
        }
    }
}

/// What a rule says of itself.
#[derive(Debug)]
pub struct Info {
    /// Which rule.
    pub id: RuleId,
    /// The name in reports and options.
    pub name: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// What happened, as a title.
    pub title: &'static str,
    /// The sentence of the contract that the rule enforces.
    pub contract: &'static str,
    /// Where that sentence stands.
    pub contract_source: &'static str,
    /// What the rule catches and why that is wrong.
    pub explanation: &'static str,
    /// A real example, with the places in the source.
    pub example: &'static str,
    /// Which profiles it concerns, and why the others not.
    pub profiles: &'static str,
    /// What it cannot see.
    pub blind_spots: &'static str,
}

/// Who met the pending write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The task that wrote, by itself.
    Writer,
    /// An interrupt that came into the task that wrote.
    InterruptOfWriter,
    /// Another task, or an interrupt in it.
    Other,
}

impl Who {
    /// Whether the task that wrote did it, and in what context.
    pub(crate) fn of(own: bool, context: Context) -> Self {
        match (own, context) {
            (true, Context::Task) => Self::Writer,
            (true, _) => Self::InterruptOfWriter,
            (false, _) => Self::Other,
        }
    }
}

/// Something that met a pending write: an access to its entry, a use of the mapping (`Fault`) or a flush of the TLB for
/// it (`TlbFlush`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encounter {
    pub(crate) kind: Kind,
    pub(crate) who: Who,
    /// Whether it goes around the accessors.
    pub(crate) raw: bool,
    /// The profiles in which the write still waits.
    pub(crate) waits: ProfileMask,
    /// The profiles in which the store is done, but what belongs to it waits.
    pub(crate) late: ProfileMask,
    /// The profiles in which this access looks at memory all the same.
    pub(crate) sees_memory: ProfileMask,
    /// The profiles in which this access joins the queue of its section itself.
    pub(crate) queued: ProfileMask,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_id_and_by_name() {
        for rule in &RULES {
            let info = rule.info;
            assert!(std::ptr::eq(info.id.info(), info), "{} is not at its place", info.name);
            assert_eq!(RuleId::by_name(info.name), Some(info.id));
        }
        assert_eq!(RuleId::by_name("no-such-rule"), None);
    }

    #[test]
    fn every_rule_explains_itself_with_its_sources() {
        for Info {
            name,
            title,
            contract,
            contract_source,
            explanation,
            example,
            profiles,
            blind_spots,
            ..
        } in RULES.iter().map(|rule| rule.info)
        {
            for part in [title, contract, explanation, profiles, blind_spots] {
                assert!(part.len() > 20, "{name}: {part}");
            }
            for part in [contract_source, example] {
                assert!(part.contains("7.2.13") && part.contains("6.12.117"), "{name}: {part}");
            }
        }
    }

    #[test]
    fn an_encounter_is_a_matter_of_one_rule_at_most() {
        let all = ProfileMask::ALL;
        for who in [Who::Writer, Who::InterruptOfWriter, Who::Other] {
            for kind in [Kind::Read, Kind::Write, Kind::Rmw, Kind::Fault, Kind::TlbFlush] {
                for raw in [false, true] {
                    let (late, queued) = (ProfileMask::NONE, ProfileMask::NONE);
                    let encounter = Encounter { kind, who, raw, waits: all, late, sees_memory: all, queued };
                    let breaks =
                        |rule: &&Rule| rule.on_encounter.is_some_and(|check| !check(encounter).is_empty());
                    let expected = match (who, kind) {
                        (_, Kind::Fault) => Some("use-before-flush"),
                        (_, Kind::TlbFlush) => Some("tlb-before-flush"),
                        _ if raw => Some("raw-access"),
                        (Who::InterruptOfWriter, _) => Some("irq-access"),
                        (Who::Writer, Kind::Read) => Some("read-pending"),
                        (_, Kind::Read) => Some("remote-read-pending"),
                        (_, Kind::Rmw) => Some("rmw-pending"),
                        (Who::Writer, _) => Some("write-reorder"),
                        (Who::Other, _) => None,
                    };
                    let names: Vec<_> = RULES.iter().filter(breaks).map(|rule| rule.info.name).collect();
                    assert_eq!(names, Vec::from_iter(expected), "{who:?} {kind:?} {raw}");
                }
            }
        }
    }
}

//! The rules.
//!
//! A rule is a file here with two things: its [`Info`], the text that `lazymmu explain` prints, and a `check` that
//! looks at one `Encounter`: an access that met a pending write. A new rule is a new file, a variant of [`RuleId`]
//! and a line in [`RULES`]; the engine does not change. Rules keep no state of their own.

mod read_pending;
mod rmw_pending;

use lazymmu_abi::Kind;

use crate::profile::ProfileMask;

/// Names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleId {
    /// A task reads an entry that it has itself written and not flushed.
    ReadPending,
    /// An immediate read-modify-write on an entry with a pending write.
    RmwPending,
}

/// All rules, in the order of the reports.
pub static RULES: [Rule; 2] = [
    Rule { info: &read_pending::INFO, check: read_pending::check },
    Rule { info: &rmw_pending::INFO, check: rmw_pending::check },
];

/// A rule: its text and its check.
pub struct Rule {
    /// The text.
    pub info: &'static Info,
    pub(crate) check: fn(Encounter) -> ProfileMask,
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

/// An access that met a pending write of the same entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encounter {
    pub(crate) kind: Kind,
    pub(crate) who: Who,
    /// The profiles in which the write still waits.
    pub(crate) waits: ProfileMask,
    /// The profiles in which this access looks at memory all the same.
    pub(crate) sees_memory: ProfileMask,
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
    fn rules_concern_the_writer_itself_and_their_own_kind() {
        let all = ProfileMask::ALL;
        for who in [Who::Writer, Who::InterruptOfWriter, Who::Other] {
            for kind in [Kind::Read, Kind::Write, Kind::Rmw] {
                let encounter = Encounter { kind, who, waits: all, sees_memory: all };
                let broken: Vec<_> =
                    RULES.iter().filter(|rule| !(rule.check)(encounter).is_empty()).collect();
                let expected = match (who, kind) {
                    (Who::Writer, Kind::Read) => Some("read-pending"),
                    (Who::Writer, Kind::Rmw) => Some("rmw-pending"),
                    _ => None,
                };
                let names: Vec<_> = broken.iter().map(|rule| rule.info.name).collect();
                assert_eq!(names, Vec::from_iter(expected), "{who:?} {kind:?}");
            }
        }
    }
}

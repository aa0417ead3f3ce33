//! Findings grouped for people: one class per bug, not one per call path.
//!
//! Occurrences are of one class if the same rule is broken by the same three functions: the one that wrote, the one
//! that came too early, and the one that opened the section. Where the names come from is not known here.

use std::collections::BTreeMap;

use lazymmu_abi::{Level, Op};

use crate::occurrence::{Example, Occurrence};
use crate::profile::{self, Does, ProfileId};
use crate::rules::RuleId;
use crate::types::StackId;

/// Names of the functions on a call stack.
pub trait StackNames {
    /// The innermost function of the stack, inlined ones included; `None` if the stack is not known.
    fn innermost(&self, stack: StackId) -> Option<String>;
}

/// Whether anything was seen to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The contract was broken, but this kernel did not defer: nothing went wrong here.
    Latent,
    /// A value was not what had been written.
    Proven,
}

impl State {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latent => "latent",
            Self::Proven => "proven",
        }
    }
}

/// What one profile says of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileVerdict {
    /// The profile.
    pub profile: ProfileId,
    /// Whether the code is wrong there.
    pub breaks: bool,
    /// Why, as a clause.
    pub why: String,
    /// Whether the tables' rows that decide this were checked against a source.
    pub verified: bool,
}

/// One side of a class: who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The function, with the compiler's suffixes taken off.
    pub function: String,
    /// The operation's name.
    pub op: &'static str,
    /// The stack of the example.
    pub stack: StackId,
}

/// One bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The rule that is broken.
    pub rule: RuleId,
    /// The same for the same bug in every trace, on every build of the kernel that has these functions.
    pub fingerprint: u64,
    /// Whether anything was seen to go wrong.
    pub state: State,
    /// How many hazards.
    pub count: u64,
    /// In how many of them the values differed.
    pub proven: u64,
    /// On how many different call paths.
    pub paths: usize,
    /// The level of the entries, if this version knows it.
    pub level: Option<Level>,
    /// The write that was pending.
    pub write: Site,
    /// The access that came too early.
    pub access: Site,
    /// The call that entered the section.
    pub opener: Site,
    /// What each profile says.
    pub profiles: Vec<ProfileVerdict>,
    /// One event in full, on the call paths that are shown: a proven one if there is any.
    pub example: Example,
}

/// What stands for the name of a function that is not known.
const UNKNOWN: &str = "[unknown]";

impl Class {
    pub(crate) fn group(occurrences: &[Occurrence], names: &dyn StackNames) -> Vec<Self> {
        let mut groups: BTreeMap<(RuleId, [String; 3]), Vec<&Occurrence>> = BTreeMap::new();
        for occurrence in occurrences {
            let place = &occurrence.place;
            let functions = [place.write, place.access, place.opener].map(|stack| function(names, stack));
            groups.entry((place.rule, functions)).or_default().push(occurrence);
        }
        groups.into_iter().map(|((rule, functions), group)| Self::of(rule, functions, &group)).collect()
    }

    fn of(rule: RuleId, functions: [String; 3], group: &[&Occurrence]) -> Self {
        // What was first seen stands for the class, but one that went wrong goes before one that did not.
        let shown = group.iter().find(|occurrence| occurrence.proven > 0).unwrap_or(&group[0]);
        let place = shown.place;
        let proven = group.iter().map(|occurrence| occurrence.proven).sum();
        let fingerprint = fingerprint(rule, &functions);
        let [write, access, opener] = functions;
        let site = |function, op, stack| Site { function, op: op_name(op), stack };
        Self {
            rule,
            fingerprint,
            state: if proven > 0 { State::Proven } else { State::Latent },
            count: group.iter().map(|occurrence| occurrence.count).sum(),
            proven,
            paths: group.len(),
            level: Level::try_from(place.level).ok(),
            write: site(write, place.write_op, place.write),
            access: site(access, place.access_op, place.access),
            opener: Site { function: opener, op: Op::Enter.name(), stack: place.opener },
            profiles: ProfileId::ALL.into_iter().map(|id| verdict(id, shown, group)).collect(),
            example: shown.first_proven.unwrap_or(shown.first),
        }
    }
}

fn op_name(op: u8) -> &'static str {
    Op::try_from(op).map_or("unknown operation", Op::name)
}

fn function(names: &dyn StackNames, stack: StackId) -> String {
    match names.innermost(stack) {
        Some(name) => without_suffixes(&name).to_owned(),
        None => UNKNOWN.to_owned(),
    }
}

/// The name as the source has it: `.isra.0`, `.constprop.1`, `.part.2`, `.cold` and the like come from the compiler
/// and change from build to build.
#[must_use]
pub fn without_suffixes(name: &str) -> &str {
    match name.find('.') {
        // A name that begins with a dot is no function of C.
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

/// FNV-1a: written down here, so that it is the same in every version.
fn fingerprint(rule: RuleId, functions: &[String; 3]) -> u64 {
    let words = [rule.info().name].into_iter().chain(functions.iter().map(String::as_str));
    let bytes = words.flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf29ce484222325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3))
}

fn verdict(id: ProfileId, shown: &Occurrence, group: &[&Occurrence]) -> ProfileVerdict {
    let breaking = group.iter().find(|occurrence| occurrence.breaks.has(id));
    let place = breaking.unwrap_or(&shown).place;
    let profile = id.profile();
    let rows = (Op::try_from(place.write_op), Op::try_from(place.access_op));
    let (Ok(write_op), Ok(access_op)) = rows else {
        let why = "this version does not know the operation".to_owned();
        return ProfileVerdict { profile: id, breaks: breaking.is_some(), why, verified: false };
    };
    let (write, access) = (profile::row_of(profile, write_op), profile::row_of(profile, access_op));
    let (why, verified) = if breaking.is_some() {
        (format!("{}; {}", write.why, access.why), write.source.verified() && access.source.verified())
    } else if write.does != Does::Queues {
        (write.why.to_owned(), write.source.verified())
    } else if matches!(access.does, Does::InOrder | Does::FlushesFirst) {
        (access.why.to_owned(), access.source.verified())
    } else {
        (
            "the queue was emptied between the write and the access, as it is at a context switch".to_owned(),
            true,
        )
    };
    ProfileVerdict { profile: id, breaks: breaking.is_some(), why, verified }
}

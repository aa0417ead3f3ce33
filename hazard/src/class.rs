//! Findings grouped for people: one class per bug, not one per call path.
//!
//! Occurrences are of one class if the same rule is broken in the same way by the same three functions: the one that
//! wrote, the one that came too early, and the one that opened the section. Where the names come from is not known here.

use std::collections::BTreeMap;

use lazymmu_abi::{Kind, Level, Op};

use crate::occurrence::{Example, Occurrence, Place};
use crate::profile::{self, Does, Happening, ProfileId};
use crate::rules::{Breach, RuleId};
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
    /// What is wrong, where it is no access that meets a pending write.
    pub breach: Option<Breach>,
    /// The write that was pending, if one was.
    pub write: Option<Site>,
    /// The access that came too early, or what else is wrong.
    pub access: Site,
    /// The call that entered the section; `None` if it is not about one.
    pub opener: Option<Site>,
    /// What each profile says.
    pub profiles: Vec<ProfileVerdict>,
    /// One event in full, on the call paths that are shown: a proven one if there is any.
    pub example: Example,
}

/// What stands for the name of a function that is not known.
const UNKNOWN: &str = "[unknown]";

/// What occurrences of one class have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rule: RuleId,
    breach: Option<Breach>,
    write: Option<String>,
    access: String,
    opener: Option<String>,
}

impl Key {
    fn of(place: &Place, names: &dyn StackNames) -> Self {
        let function = |stack| function(names, stack);
        Self {
            rule: place.rule,
            breach: place.breach,
            write: place.write.map(function),
            access: function(place.access),
            opener: place.opener.map(function),
        }
    }

    /// FNV-1a: written down here, so that it is the same in every version.
    fn fingerprint(&self) -> u64 {
        let function = |side: &'_ Option<String>| side.clone().unwrap_or_default();
        let sides = [function(&self.write), self.access.clone(), function(&self.opener)];
        let words = [self.rule.info().name].into_iter().chain(sides.iter().map(String::as_str));
        let words = words.chain(self.breach.iter().map(|breach| breach.what));
        let bytes = words.flat_map(|word| word.bytes().chain([0]));
        bytes.fold(0xcbf29ce484222325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3))
    }
}

impl Class {
    pub(crate) fn group(occurrences: &[Occurrence], names: &dyn StackNames) -> Vec<Self> {
        let mut groups: BTreeMap<Key, Vec<&Occurrence>> = BTreeMap::new();
        for occurrence in occurrences {
            groups.entry(Key::of(&occurrence.place, names)).or_default().push(occurrence);
        }
        groups.into_iter().map(|(key, group)| Self::of(key, &group)).collect()
    }

    fn of(key: Key, group: &[&Occurrence]) -> Self {
        // What was first seen stands for the class, but one that went wrong goes before one that did not.
        let shown = group.iter().find(|occurrence| occurrence.proven > 0).unwrap_or(&group[0]);
        let place = shown.place;
        let proven = group.iter().map(|occurrence| occurrence.proven).sum();
        let fingerprint = key.fingerprint();
        let Key { rule, breach, write, access, opener } = key;
        let site =
            |side: Option<(String, StackId)>, op| side.map(|(function, stack)| Site { function, op, stack });
        Self {
            rule,
            fingerprint,
            state: if proven > 0 { State::Proven } else { State::Latent },
            count: group.iter().map(|occurrence| occurrence.count).sum(),
            proven,
            paths: group.len(),
            level: Level::try_from(place.level).ok(),
            breach,
            write: site(write.zip(place.write), place.write_op.map_or("", op_name)),
            access: Site { function: access, op: access_name(&place), stack: place.access },
            opener: site(opener.zip(place.opener), Op::Enter.name()),
            profiles: ProfileId::ALL.into_iter().map(|id| verdict(id, shown, group)).collect(),
            example: shown.first_proven.unwrap_or(shown.first),
        }
    }
}

/// What the access did: the operation, or the kind of record where that has none.
fn access_name(place: &Place) -> &'static str {
    match place.access_kind {
        kind @ (Kind::TlbFlush | Kind::Fault | Kind::TaskExit) => kind.name(),
        _ => op_name(place.access_op),
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

fn verdict(id: ProfileId, shown: &Occurrence, group: &[&Occurrence]) -> ProfileVerdict {
    let breaking = group.iter().find(|occurrence| occurrence.breaks.has(id));
    let breaks = breaking.is_some();
    let (why, verified) = reason(id, breaking.unwrap_or(&shown), breaks);
    ProfileVerdict { profile: id, breaks, why, verified }
}

/// Why it breaks on a profile or not, and whether that was checked.
fn reason(id: ProfileId, occurrence: &Occurrence, breaks: bool) -> (String, bool) {
    let place = &occurrence.place;
    let profile = id.profile();
    let of_event = |on| {
        let row = profile::event_of(profile, on);
        (row.why.to_owned(), row.source.verified())
    };
    if let Some(breach) = place.breach {
        return of_event(breach.on);
    }
    let on = match place.access_kind {
        Kind::Fault => Some(Happening::Use),
        Kind::TlbFlush => Some(Happening::TlbFlush),
        _ => None,
    };
    let unknown = || ("this version does not know the operation".to_owned(), false);
    let Some(Ok(write_op)) = place.write_op.map(Op::try_from) else { return unknown() };
    let write = profile::row_of(profile, write_op);
    if let Some(on) = on {
        let waits = write.does == Does::Queues;
        return if waits || breaks { of_event(on) } else { (write.why.to_owned(), write.source.verified()) };
    }
    let Ok(access_op) = Op::try_from(place.access_op) else { return unknown() };
    let access = profile::row_of(profile, access_op);
    let elsewhere = occurrence.first.write.is_some_and(|write| write.task != occurrence.first.task);
    if breaks && access.does == Does::InOrder && elsewhere {
        let queue = &profile.queue;
        (format!("{}; {}", write.why, queue.why), write.source.verified() && queue.source.verified())
    } else if breaks {
        (format!("{}; {}", write.why, access.why), write.source.verified() && access.source.verified())
    } else if write.does != Does::Queues {
        (write.why.to_owned(), write.source.verified())
    } else if matches!(access.does, Does::InOrder | Does::FlushesFirst | Does::Nothing) {
        (access.why.to_owned(), access.source.verified())
    } else if place.rule == RuleId::WriteReorder {
        ("the later write is queued as well, behind the one that waits".to_owned(), true)
    } else {
        (
            "the queue was emptied between the write and the access, as it is at a context switch".to_owned(),
            true,
        )
    }
}

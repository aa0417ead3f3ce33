//! Deferral profiles: what an architecture does with each operation while the mode is active.
//!
//! [`PROFILES`] holds one table per architecture, written for the people who maintain that architecture: every row names
//! the operations, what happens to them, one sentence for the report, and where in the kernel that was read. This
//! module only turns the tables into the bit masks that the engine needs. It decides no rule.
//!
//! The engine keeps one pending write per entry for all profiles, so no profile may queue what `strict` does not; an
//! architecture that queues more keeps it in order with the rest ([`Does::InOrder`]). A test holds the tables to that.

mod arches;
mod table;

use lazymmu_abi::{Kind, Op};

pub use table::PROFILES;

/// Names a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProfileId {
    /// The written contract: any write may wait until the queue is flushed.
    Strict,
    /// x86 as a Xen PV guest.
    XenPv,
    /// s390 with the lazy MMU series that is under review.
    S390,
    /// powerpc, 64 bit, with the hash MMU.
    PowerpcHash,
    /// sparc, 64 bit.
    Sparc64,
    /// arm64.
    Arm64,
}

impl ProfileId {
    /// Every profile, in the order of the reports.
    pub const ALL: [Self; 6] =
        [Self::Strict, Self::XenPv, Self::S390, Self::PowerpcHash, Self::Sparc64, Self::Arm64];

    /// The table of this profile.
    #[must_use]
    pub fn profile(self) -> &'static Profile {
        &PROFILES[self as usize]
    }
}

/// One architecture's table.
#[derive(Debug)]
pub struct Profile {
    /// Which one.
    pub id: ProfileId,
    /// The name in reports and options.
    pub name: &'static str,
    /// The name in words.
    pub title: &'static str,
    /// What is deferred, in one sentence.
    pub summary: &'static str,
    /// What happens to each operation. The first row that names it counts; the last rows name all that is left.
    pub rows: &'static [Row],
    /// What empties the queue besides leave, inner leave, flush and pause.
    pub flushes: &'static [FlushRow],
}

/// What happens to some operations.
#[derive(Debug)]
pub struct Row {
    /// The operations.
    pub ops: Ops,
    /// What happens.
    pub does: Does,
    /// Why, as a clause for the report.
    pub why: &'static str,
    /// Where that was read.
    pub source: Source,
}

/// The operations that a row is about.
#[derive(Debug)]
pub enum Ops {
    /// These.
    These(&'static [Op]),
    /// All of that kind which no earlier row named.
    Rest(Kind),
}

/// What happens to an operation while the mode is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// The store waits in a queue; what it reads of the entry, it reads from memory.
    Queues,
    /// It works on memory now, whatever is in the queue.
    AtOnce,
    /// The queue is flushed, then it works on memory.
    FlushesFirst,
    /// It only reads memory, whatever is in the queue.
    ReadsMemory,
    /// It sees what the queue holds, and what it stores joins the queue: nothing can go wrong.
    InOrder,
}

/// Something that empties the queue by itself.
#[derive(Debug)]
pub struct FlushRow {
    /// What does.
    pub on: FlushOn,
    /// Where that was read.
    pub source: Source,
}

/// What empties a queue by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOn {
    /// The task is switched out.
    ContextSwitch,
    /// An interrupt on the same CPU writes an entry. The engine does not count on it, as it depends on the operation.
    InterruptWrite,
    /// The queue is full. The engine does not count on it: whether it happens between two accesses depends on what
    /// else was in the queue.
    BatchFull,
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Read in the kernel's source: what and where.
    Kernel(&'static str),
    /// Read in a mail: its Message-ID.
    Mail(&'static str),
    /// Not checked against any source; the text says where it comes from.
    Unverified(&'static str),
}

impl Source {
    /// Whether somebody looked it up.
    #[must_use]
    pub const fn verified(self) -> bool {
        !matches!(self, Self::Unverified(_))
    }
}

/// What the profile says of an operation.
pub(crate) fn row_of(profile: &'static Profile, op: Op) -> &'static Row {
    let names = |row: &&Row| match row.ops {
        Ops::These(ops) => ops.contains(&op),
        Ops::Rest(kind) => kind == op.info().kind,
    };
    profile.rows.iter().find(names).unwrap_or(&NO_ENTRY)
}

/// What mode calls and switches do to entries.
static NO_ENTRY: Row = Row {
    ops: Ops::These(&[]),
    does: Does::AtOnce,
    why: "it works on no entry",
    source: Source::Kernel("include/linux/pgtable.h, 7.2"),
};

/// A set of profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileMask(u8);

impl ProfileMask {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self((1 << ProfileId::ALL.len()) - 1);

    /// Whether the set has this profile.
    #[must_use]
    pub const fn has(self, id: ProfileId) -> bool {
        self.0 & (1 << id as u8) != 0
    }

    /// Whether the set has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set and one more profile.
    #[must_use]
    pub const fn with(self, id: ProfileId) -> Self {
        Self(self.0 | (1 << id as u8))
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The tables as masks, by the byte of the operation.
pub(crate) struct Masks {
    /// Where the operation's store waits.
    pub(crate) queues: [ProfileMask; 256],
    /// Where the operation sees memory although something waits for the entry.
    pub(crate) sees_memory: [ProfileMask; 256],
    /// Where the operation empties the queue before it works.
    pub(crate) flushes_first: [ProfileMask; 256],
    /// Where a context switch empties the queue.
    pub(crate) on_switch: ProfileMask,
}

impl Masks {
    pub(crate) fn new() -> Self {
        let mut masks = Self {
            queues: [ProfileMask::NONE; 256],
            sees_memory: [ProfileMask::NONE; 256],
            flushes_first: [ProfileMask::NONE; 256],
            on_switch: flushed_by(FlushOn::ContextSwitch),
        };
        for id in ProfileId::ALL {
            for op in Op::ALL {
                let does = row_of(id.profile(), *op).does;
                let add = |masks: &mut [ProfileMask; 256]| {
                    masks[*op as usize] = masks[*op as usize].with(id);
                };
                if does == Does::Queues {
                    add(&mut masks.queues);
                }
                if does == Does::FlushesFirst {
                    add(&mut masks.flushes_first);
                }
                if matches!(does, Does::Queues | Does::AtOnce | Does::ReadsMemory) {
                    add(&mut masks.sees_memory);
                }
            }
        }
        masks
    }
}

fn flushed_by(event: FlushOn) -> ProfileMask {
    ProfileId::ALL.into_iter().fold(ProfileMask::NONE, |mask, id| {
        if id.profile().flushes.iter().any(|row| row.on == event) { mask.with(id) } else { mask }
    })
}

#[cfg(test)]
mod tests {
    use super::ProfileId::{Arm64, PowerpcHash, S390, Strict, XenPv};
    use super::*;

    #[test]
    fn tables_stand_where_their_id_says() {
        for (index, id) in ProfileId::ALL.into_iter().enumerate() {
            assert_eq!(id as usize, index);
            assert_eq!(id.profile().id, id);
        }
    }

    #[test]
    fn every_operation_on_entries_is_in_every_table() {
        for profile in &PROFILES {
            for op in Op::ALL {
                let on_entries = matches!(op.info().kind, Kind::Read | Kind::Write | Kind::Rmw);
                let row = row_of(profile, *op);
                assert_eq!(on_entries, !std::ptr::eq(row, &raw const NO_ENTRY), "{}: {op:?}", profile.name);
            }
        }
    }

    #[test]
    fn rows_fit_the_kind_of_their_operations() {
        for profile in &PROFILES {
            for op in Op::ALL {
                let does = row_of(profile, *op).does;
                match op.info().kind {
                    Kind::Read => assert!(matches!(does, Does::ReadsMemory | Does::InOrder), "{op:?}"),
                    Kind::Write => assert!(!matches!(does, Does::ReadsMemory), "{op:?}"),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn no_profile_queues_what_strict_does_not() {
        let masks = Masks::new();
        for op in Op::ALL {
            let queues = masks.queues[*op as usize];
            assert!(queues.is_empty() || queues.has(Strict), "{op:?}");
        }
    }

    #[test]
    fn every_row_says_why_and_where_from() {
        for row in PROFILES.iter().flat_map(|profile| profile.rows) {
            let (Source::Kernel(source) | Source::Mail(source) | Source::Unverified(source)) = row.source;
            assert!(!row.why.is_empty() && !source.is_empty(), "{row:?}");
        }
    }

    #[test]
    fn masks() {
        let masks = Masks::new();
        let of = |masks: &[ProfileMask; 256], op: Op, id| masks[op as usize].has(id);
        for (op, id, queues, sees) in [
            (Op::SetPtes, Strict, true, true),
            (Op::SetPtes, XenPv, true, true),
            (Op::SetPtes, S390, true, true),
            (Op::SetPtes, Arm64, false, true),
            (Op::SetPmd, S390, false, true),
            (Op::SetPudAt, XenPv, false, true),
            (Op::PtepGet, Strict, false, true),
            (Op::PtepGet, S390, false, false),
            (Op::WrprotectPtes, XenPv, false, true),
            (Op::WrprotectPtes, S390, false, false),
            (Op::PtepClearFlush, S390, false, true),
            (Op::PtepClear, PowerpcHash, false, true),
            (Op::ModifyProtStart, XenPv, false, true),
        ] {
            assert_eq!(of(&masks.queues, op, id), queues, "{op:?} queued on {id:?}");
            assert_eq!(of(&masks.sees_memory, op, id), sees, "{op:?} sees memory on {id:?}");
        }
        assert!(masks.on_switch.has(XenPv) && !masks.on_switch.has(Strict));
    }
}

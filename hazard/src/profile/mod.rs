//! Deferral profiles: what an architecture does with each operation while the mode is active.
//!
//! [`table`] holds one table per architecture, written for the people who maintain that architecture: every row names
//! the operations, what happens to them, one sentence for the report, and where in the kernel that was read. This
//! module only turns the tables into the bit masks that the engine needs. It decides no rule.

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
    /// It reads what the queue will put into memory.
    ReadsThroughQueue,
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
    /// An interrupt on the same CPU writes an entry.
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

/// The operation's name; for a code that this version does not know, what it is instead.
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
    /// Where a write from an interrupt empties the queue.
    pub(crate) on_interrupt_write: ProfileMask,
}

impl Masks {
    pub(crate) fn new() -> Self {
        let mut masks = Self {
            queues: [ProfileMask::NONE; 256],
            sees_memory: [ProfileMask::NONE; 256],
            flushes_first: [ProfileMask::NONE; 256],
            on_switch: flushed_by(FlushOn::ContextSwitch),
            on_interrupt_write: flushed_by(FlushOn::InterruptWrite),
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

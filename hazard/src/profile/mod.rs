//! Deferral profiles: what an architecture does with each operation while the mode is active.
//!
//! [`PROFILES`] holds one table per architecture, written for the people who maintain that architecture: every row names
//! the operations, what happens to them, one sentence for the report, and where in the kernel that was read. This
//! module only turns the tables into the bit masks that the engine needs. It decides no rule.
//!
//! No profile may queue what `strict` does not; an architecture that queues more keeps it in order with the rest of its
//! section ([`Does::InOrder`]), so that it is a matter of others only. A test holds the tables to that.

mod arches;
mod table;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use lazymmu_abi::{Deferral, Kind, Op};

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
    /// Where the queue is.
    pub queue: Queue,
    /// What comes of things that happen to the mode or inside a section. What is not named does no harm that is known.
    pub events: &'static [EventRow],
}

/// Where a queue is, and who sees what is in it.
#[derive(Debug)]
pub struct Queue {
    /// Whose it is.
    pub of: QueueOf,
    /// Whether what an interrupt inside a section does goes through it as well.
    pub takes_interrupts: bool,
    /// What that means for an access that comes from elsewhere, as a clause.
    pub why: &'static str,
    /// Where that was read.
    pub source: Source,
}

/// Whose queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOf {
    /// The contract does not say.
    Unspecified,
    /// Each CPU has one.
    Cpu,
    /// Each task has one.
    Task,
}

/// What comes of something that happens.
#[derive(Debug)]
pub struct EventRow {
    /// What happens.
    pub on: Happening,
    /// Whether that breaks anything.
    pub breaks: bool,
    /// Why, as a clause for the report.
    pub why: &'static str,
    /// Where that was read.
    pub source: Source,
}

/// Something that happens to the mode, or inside a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Happening {
    /// Before 7.0: an inner section ends.
    InnerLeave,
    /// The mode is entered or left twice on a CPU, or found on by another task.
    WrongOnCpu,
    /// The task blocks.
    Sleep,
    /// Before 7.0: an interrupt calls the mode.
    InterruptCall,
    /// Before 7.0: an interrupt writes an entry.
    InterruptWrite,
    /// A mapping is used that a write still waits for.
    Use,
    /// The TLB is flushed for an entry whose write waits.
    TlbFlush,
    /// Enters and leaves do not pair.
    Unpaired,
    /// Pauses and resumes do not pair, or the mode is off inside a section.
    Off,
    /// A section gains nothing.
    Waste,
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
    /// It sees what the queue of its own section holds, and what it stores joins that queue: nothing can go wrong there.
    InOrder,
    /// It does nothing there.
    Nothing,
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
    /// An interrupt on the same CPU writes an entry with one of these operations: the queue goes first.
    InterruptWrite(&'static [Op]),
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

/// What the profile says of something that happens.
pub(crate) fn event_of(profile: &'static Profile, on: Happening) -> &'static EventRow {
    profile.events.iter().find(|row| row.on == on).unwrap_or(&NO_HARM)
}

/// The profiles on which it breaks something.
pub(crate) fn broken_by(on: Happening) -> ProfileMask {
    profiles(|profile| event_of(profile, on).breaks)
}

/// What no table names.
static NO_HARM: EventRow = EventRow {
    on: Happening::Waste,
    breaks: false,
    why: "nothing is known to go wrong there",
    source: Source::Unverified("no row of the table names it"),
};

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
    /// The same if it comes from another task than that whose section holds it.
    pub(crate) sees_memory_elsewhere: [ProfileMask; 256],
    /// Where the operation's store joins the queue of its own section in order although the contract lets nothing wait.
    pub(crate) joins: [ProfileMask; 256],
    /// Where the queue takes the operation's store from an interrupt as well.
    pub(crate) joins_in_interrupt: [ProfileMask; 256],
    /// Where the operation's store reaches memory at once.
    pub(crate) stores: [ProfileMask; 256],
    /// The same outside of sections.
    pub(crate) stores_outside: [ProfileMask; 256],
    /// Where the operation empties the queue before it works.
    pub(crate) flushes_first: [ProfileMask; 256],
    /// Where the operation empties the queue of the section that it comes into as an interrupt.
    pub(crate) flushes_in_interrupt: [ProfileMask; 256],
    /// Where a context switch empties the queue.
    pub(crate) on_switch: ProfileMask,
    /// Where the store is done but what belongs to it waits, so that a use of the mapping may come too early.
    pub(crate) late: ProfileMask,
}

impl Masks {
    pub(crate) fn new() -> Self {
        let mut masks = Self {
            queues: [ProfileMask::NONE; 256],
            sees_memory: [ProfileMask::NONE; 256],
            sees_memory_elsewhere: [ProfileMask::NONE; 256],
            joins: [ProfileMask::NONE; 256],
            joins_in_interrupt: [ProfileMask::NONE; 256],
            stores: [ProfileMask::NONE; 256],
            stores_outside: [ProfileMask::NONE; 256],
            flushes_first: [ProfileMask::NONE; 256],
            flushes_in_interrupt: [ProfileMask::NONE; 256],
            on_switch: profiles(|profile| profile.flushes.iter().any(|row| row.on == FlushOn::ContextSwitch)),
            late: broken_by(Happening::Use)
                .and(profiles(|profile| !profile.rows.iter().any(|row| row.does == Does::Queues))),
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
                if does != Does::Nothing {
                    add(&mut masks.sees_memory_elsewhere);
                }
                let changes = matches!(op.info().kind, Kind::Write | Kind::Rmw);
                if changes && does == Does::InOrder {
                    add(&mut masks.joins);
                }
                if changes
                    && matches!(does, Does::InOrder | Does::Queues)
                    && id.profile().queue.takes_interrupts
                {
                    add(&mut masks.joins_in_interrupt);
                }
                if changes && matches!(does, Does::AtOnce | Does::FlushesFirst) {
                    add(&mut masks.stores);
                }
                if changes && !matches!(does, Does::ReadsMemory | Does::Nothing) {
                    add(&mut masks.stores_outside);
                }
                let goes_first =
                    |row: &FlushRow| matches!(row.on, FlushOn::InterruptWrite(ops) if ops.contains(op));
                if id.profile().flushes.iter().any(goes_first) {
                    add(&mut masks.flushes_in_interrupt);
                }
            }
        }
        masks
    }
}

/// What the kernel side must know of each operation to keep back what does no harm.
#[must_use]
pub fn deferral() -> &'static Deferral {
    static DEFERRAL: LazyLock<Deferral> = LazyLock::new(|| {
        let masks = Masks::new();
        let mut deferral = Deferral { waits: [0; 256], sees: [0; 256] };
        for op in 0..256 {
            let counted = if masks.queues[op].is_empty() { 0 } else { Deferral::COUNTED };
            deferral.waits[op] = masks.queues[op].or(masks.joins[op]).0 | counted;
            deferral.sees[op] = masks.sees_memory[op].0;
        }
        deferral
    });
    &DEFERRAL
}

fn profiles(has: impl Fn(&'static Profile) -> bool) -> ProfileMask {
    let all = ProfileId::ALL.into_iter().filter(|id| has(id.profile()));
    all.fold(ProfileMask::NONE, ProfileMask::with)
}

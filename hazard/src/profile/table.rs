//! The tables in the order of [`super::ProfileId`], and that of the written contract. Data only.

use lazymmu_abi::{Kind, Op};

use super::arches;
use super::{Does, EventRow, Happening, Ops, Profile, ProfileId, Queue, QueueOf, Row, Source};

/// All profiles.
pub static PROFILES: [Profile; 6] =
    [STRICT, arches::XEN_PV, arches::S390, arches::POWERPC_HASH, arches::SPARC64, arches::ARM64];

const CONTRACT: Source = Source::Kernel("include/linux/pgtable.h:197, 7.2.13 (6.12.117: :195)");

/// The written contract: reads after a write are not guaranteed to be up to date, and nothing is said of which writes.
///
/// A read-modify-write hands out or depends on the old value, so no architecture can put it off without looking at it;
/// what it needs is that the entry is up to date when it comes.
const STRICT: Profile = Profile {
    id: ProfileId::Strict,
    name: "strict",
    title: "the written contract",
    summary: "any write may wait until the mode is left or flushed",
    rows: &[
        Row {
            ops: Ops::These(&[Op::RawWrite]),
            does: Does::AtOnce,
            why: "a plain store is done at once",
            source: CONTRACT,
        },
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the write may wait until the mode is left or flushed",
            source: CONTRACT,
        },
        Row {
            ops: Ops::These(&[
                Op::PtepSetAccessFlags,
                Op::PmdpSetAccessFlags,
                Op::PudpSetAccessFlags,
                Op::PtepClear,
                Op::ClearYoungDirty,
            ]),
            does: Does::Queues,
            why: "it reads memory and then ends in set_pte_at() or pte_clear(), which may wait",
            source: Source::Kernel(
                "mm/pgtable-generic.c:70, :112; include/linux/pgtable.h:700 ptep_clear(), :675 clear_young_dirty_ptes()",
            ),
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::AtOnce,
            why: "a read-modify-write works on memory, which may not have the write yet and get it afterwards",
            source: CONTRACT,
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::ReadsMemory,
            why: "a read looks at memory, which may not have the write yet",
            source: CONTRACT,
        },
    ],
    flushes: &[],
    queue: Queue {
        takes_interrupts: false,
        of: QueueOf::Unspecified,
        why: "nobody is told of what waits",
        source: CONTRACT,
    },
    events: &[
        EventRow {
            on: Happening::InnerLeave,
            breaks: true,
            why: "before 7.0 sections must not nest",
            source: Source::Kernel("include/linux/pgtable.h:210, 6.12.117"),
        },
        EventRow {
            on: Happening::WrongOnCpu,
            breaks: true,
            why: "the architecture must be robust against preemption and migration inside a section",
            source: Source::Kernel("include/linux/pgtable.h:212 (6.12.117: :208)"),
        },
        EventRow {
            on: Happening::Sleep,
            breaks: true,
            why: "an architecture may switch preemption off, so nothing may sleep while the mode is active",
            source: Source::Kernel("include/linux/pgtable.h:214"),
        },
        EventRow {
            on: Happening::InterruptCall,
            breaks: true,
            why: "before 7.0 the mode cannot be used in an interrupt",
            source: Source::Kernel("include/linux/pgtable.h:211, 6.12.117"),
        },
        EventRow {
            on: Happening::InterruptWrite,
            breaks: true,
            why: "before 7.0 the mode is on for the interrupt too, and the write may wait for the section's end",
            source: Source::Kernel("include/linux/pgtable.h:211, 6.12.117"),
        },
        EventRow {
            on: Happening::Use,
            breaks: true,
            why: "what uses the mapping may come before the write",
            source: CONTRACT,
        },
        EventRow {
            on: Happening::TlbFlush,
            breaks: true,
            why: "after the flush the processor may load the old entry again, until the write is there",
            source: CONTRACT,
        },
        EventRow {
            on: Happening::Unpaired,
            breaks: true,
            why: "each enter must be paired with one leave",
            source: Source::Kernel("include/linux/pgtable.h:255 and :281"),
        },
        EventRow {
            on: Happening::Off,
            breaks: true,
            why: "each pause must be paired with one resume",
            source: Source::Kernel("include/linux/pgtable.h:331 and :375"),
        },
        EventRow {
            on: Happening::Waste,
            breaks: false,
            why: "nothing is wrong; there is only nothing to batch",
            source: CONTRACT,
        },
    ],
};

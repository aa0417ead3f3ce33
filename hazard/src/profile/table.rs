//! The tables of the profiles, in the order of [`super::ProfileId`]. Data only.

use lazymmu_abi::{Kind, Op};

use super::arches;
use super::{Does, Ops, Profile, ProfileId, Row, Source};

/// All profiles.
pub static PROFILES: [Profile; 6] =
    [STRICT, arches::XEN_PV, arches::S390, arches::POWERPC_HASH, arches::SPARC64, arches::ARM64];

const CONTRACT: Source = Source::Kernel("include/linux/pgtable.h:196-206, 7.2");

/// The written contract.
const STRICT: Profile = Profile {
    id: ProfileId::Strict,
    name: "strict",
    title: "the written contract",
    summary: "any write may wait until the mode is left or flushed",
    rows: &[
        Row {
            ops: Ops::These(&[Op::PtepSetAccessFlags, Op::ClearYoungDirty]),
            does: Does::Queues,
            why: "it ends with a set_pte(), which may wait until the mode is left or flushed",
            source: Source::Kernel("mm/pgtable-generic.c, include/linux/pgtable.h, 7.2"),
        },
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the write may wait until the mode is left or flushed",
            source: CONTRACT,
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::AtOnce,
            why: "a read-modify-write works on memory at once, which may not have the write yet",
            source: CONTRACT,
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::ReadsMemory,
            why: "the read looks at memory, which may not have the write yet",
            source: CONTRACT,
        },
    ],
    flushes: &[],
};

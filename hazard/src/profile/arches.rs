//! The tables of the architectures. Data only; see [`super::table`] for how they are put together.

use lazymmu_abi::{Kind, Op};

use super::{Does, FlushOn, FlushRow, Ops, Profile, ProfileId, Row, Source};

/// x86 as a Xen PV guest.
pub(super) const XEN_PV: Profile = Profile {
    id: ProfileId::XenPv,
    name: "xen-pv",
    title: "x86, Xen PV guest",
    summary: "stores to entries are queued as hypercalls",
    rows: &[
        Row {
            ops: Ops::These(&[Op::ModifyProtStart]),
            does: Does::ReadsMemory,
            why: "it is a plain read of memory on Xen, and the hypervisor has not done the write yet",
            source: Source::Kernel("arch/x86/xen/mmu_pv.c, xen_ptep_modify_prot_start(), 7.2"),
        },
        Row {
            ops: Ops::These(&[Op::PtepSetAccessFlags, Op::ClearYoungDirty]),
            does: Does::Queues,
            why: "it ends with a set_pte(), which is queued as a hypercall",
            source: Source::Unverified(""),
        },
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the store is queued as a hypercall",
            source: Source::Unverified(""),
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::AtOnce,
            why: "the read-modify-write goes to memory at once, and the queued write overwrites it later",
            source: Source::Unverified(""),
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::ReadsMemory,
            why: "the read gets the old value from memory, because the hypervisor has not done the write yet",
            source: Source::Unverified(""),
        },
    ],
    flushes: &[
        FlushRow { on: FlushOn::ContextSwitch, source: Source::Unverified("") },
        FlushRow { on: FlushOn::InterruptWrite, source: Source::Unverified("") },
        FlushRow { on: FlushOn::BatchFull, source: Source::Unverified("") },
    ],
};

/// s390 with the series under review.
pub(super) const S390: Profile = Profile {
    id: ProfileId::S390,
    name: "s390",
    title: "s390 (series under review)",
    summary: "stores to entries are queued and applied together",
    rows: &[
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the store is queued",
            source: Source::Unverified(""),
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::AtOnce,
            why: "the read-modify-write goes to memory at once",
            source: Source::Unverified(""),
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::ReadsThroughQueue,
            why: "the accessor looks into the queue first; only a raw read of the entry would be stale",
            source: Source::Unverified(""),
        },
    ],
    flushes: &[],
};

macro_rules! stores_at_once {
    ($id:ident, $name:literal, $title:literal, $summary:literal, $why:literal, $source:literal, $flushes:expr) => {
        Profile {
            id: ProfileId::$id,
            name: $name,
            title: $title,
            summary: $summary,
            rows: &[
                Row {
                    ops: Ops::Rest(Kind::Write),
                    does: Does::AtOnce,
                    why: $why,
                    source: Source::Kernel($source),
                },
                Row {
                    ops: Ops::Rest(Kind::Rmw),
                    does: Does::AtOnce,
                    why: $why,
                    source: Source::Kernel($source),
                },
                Row {
                    ops: Ops::Rest(Kind::Read),
                    does: Does::ReadsMemory,
                    why: "the read sees the store that was done at once",
                    source: Source::Kernel($source),
                },
            ],
            flushes: $flushes,
        }
    };
}

/// powerpc with the hash MMU.
pub(super) const POWERPC_HASH: Profile = stores_at_once!(
    PowerpcHash,
    "powerpc-hash",
    "powerpc 64, hash MMU",
    "",
    "the store is done at once; only the hash table's flush waits",
    "",
    &[]
);

/// sparc64.
pub(super) const SPARC64: Profile = stores_at_once!(
    Sparc64,
    "sparc64",
    "sparc64",
    "",
    "the store is done at once; only the TLB's flush waits",
    "",
    &[]
);

/// arm64.
pub(super) const ARM64: Profile = stores_at_once!(
    Arm64,
    "arm64",
    "arm64",
    "",
    "the store is done at once; only the barriers for kernel mappings wait",
    "",
    &[]
);

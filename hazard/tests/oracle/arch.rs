//! What each architecture does with each operation, written from the kernel's source a second time.
//!
//! On purpose this shares nothing with the engine's tables, which it is there to check: the engine's are rows of data,
//! this is code, in the words of the accessors. Lines are those of 7.2.13. Of the s390 series under review only what
//! its mails say is known: PTE stores go to a cache, the accessors look into the cache first.

use lazymmu_abi::{Kind, Level, Op};
use lazymmu_hazard::profile::ProfileId;

/// What an operation does while the mode is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Looks at memory if it has to look, and puts its store into the queue.
    Queue,
    /// Works on memory.
    Memory,
    /// Only looks at memory.
    Look,
    /// Works on what its own queue holds, else on memory; what it stores goes to the queue.
    Cache,
    /// Nothing: the architecture has no such operation.
    Nothing,
}

/// What the machine `profile` does with `op` inside a section.
pub(crate) fn does(profile: ProfileId, op: Op) -> Does {
    let plain = if op.info().kind == Kind::Read { Does::Look } else { Does::Memory };
    // Plain loads and stores go around every queue.
    if op.is_raw() {
        return plain;
    }
    match profile {
        ProfileId::Strict => contract(op),
        ProfileId::XenPv => xen(op),
        ProfileId::S390 => s390(op),
        // hash__set_pte_at(), __set_pte_at() of sparc64, __set_pte_nosync() of arm64: the store is done, what waits
        // is a flush or a barrier.
        ProfileId::PowerpcHash | ProfileId::Sparc64 | ProfileId::Arm64 => plain,
    }
}

/// include/linux/pgtable.h:197: "PTE updates" may be delayed, and reads are not told of them. An update that needs the
/// old value has to look for it now; the generic ones that end in a plain set (mm/pgtable-generic.c:70, :112;
/// include/linux/pgtable.h:675, :700) may delay that set.
fn contract(op: Op) -> Does {
    match op {
        Op::PtepSetAccessFlags
        | Op::PmdpSetAccessFlags
        | Op::PudpSetAccessFlags
        | Op::PtepClear
        | Op::ClearYoungDirty => Does::Queue,
        _ => match op.info().kind {
            Kind::Read => Does::Look,
            Kind::Write => Does::Queue,
            _ => Does::Memory,
        },
    }
}

/// Xen batches what ends in a hypercall; the rest are instructions of the guest.
fn xen(op: Op) -> Does {
    match op {
        // arch/x86/include/asm/pgtable.h:1213: native_set_pud(), not the hook.
        Op::SetPudAt => Does::Memory,
        // arch/x86/xen/mmu_pv.c:362 returns *ptep.
        Op::ModifyProtStart => Does::Look,
        // arch/x86/mm/pgtable.c:380, :393, :414: compare, then set_pte(), set_pmd(), set_pud(). The last two end in
        // set_pte() as well (include/linux/pgtable.h:700, :675).
        Op::PtepSetAccessFlags
        | Op::PmdpSetAccessFlags
        | Op::PudpSetAccessFlags
        | Op::PtepClear
        | Op::ClearYoungDirty => Does::Queue,
        _ => match op.info().kind {
            Kind::Read => Does::Look,
            // arch/x86/xen/mmu_pv.c:298, :323, :370, :482.
            Kind::Write => Does::Queue,
            // xchg, cmpxchg and lock btr, arch/x86/include/asm/pgtable.h:1243 on.
            _ => Does::Memory,
        },
    }
}

/// The cache holds PTEs only. Two accessors use ptep_xchg_direct() and pass by it (arch/s390/include/asm/pgtable.h:1237,
/// :1339).
fn s390(op: Op) -> Does {
    match (op.info().level, op) {
        (Some(Level::Pte), Op::PtepClearFlush | Op::PtepSetAccessFlags) => Does::Memory,
        // The generic one, which returns false (include/linux/pgtable.h:1092).
        (_, Op::PtepTrySet) => Does::Nothing,
        (Some(Level::Pte), _) => match op.info().kind {
            Kind::Write => Does::Queue,
            _ => Does::Cache,
        },
        _ if op.info().kind == Kind::Read => Does::Look,
        _ => Does::Memory,
    }
}

/// What an operation leaves in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// Nothing: it only looked.
    No,
    /// A value that has nothing of the old one.
    New(u64),
    /// The old value with some bits changed: as old as what it looked at.
    Derived(u64),
}

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
/// Accessed and dirty: the processor sets them.
pub(crate) const YOUNG: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
/// Xen adds and removes it.
pub(crate) const GLOBAL: u64 = 1 << 8;

/// What `op` stores into an entry that it found to be `old`. `argument` is the caller's value for this entry.
pub(crate) fn store(op: Op, old: u64, argument: u64, only_looks: bool) -> Store {
    if only_looks {
        return Store::No;
    }
    match op {
        _ if clears(op) => Store::New(0),
        Op::PtepSetWrprotect | Op::WrprotectPtes | Op::PmdpSetWrprotect | Op::PudpSetWrprotect => {
            Store::Derived(old & !WRITE)
        }
        Op::TestAndClearYoung | Op::ClearFlushYoung | Op::PmdpTestAndClearYoung | Op::PmdpClearFlushYoung => {
            Store::Derived(old & !YOUNG)
        }
        Op::ClearYoungDirty => Store::Derived(old & !(YOUNG | DIRTY)),
        Op::PmdpInvalidate | Op::PmdpInvalidateAd | Op::PudpInvalidate => Store::Derived(old & !PRESENT),
        // include/linux/pgtable.h:1092: cmpxchg with none.
        Op::PtepTrySet if old != 0 => Store::No,
        Op::PtepTrySet
        | Op::PtepSetAccessFlags
        | Op::PmdpSetAccessFlags
        | Op::PudpSetAccessFlags
        | Op::PmdpEstablish => Store::New(argument),
        _ => match op.info().kind {
            Kind::Read => Store::No,
            Kind::Write => Store::New(argument),
            // get_and_clear, clear, clear_flush, modify_prot_start.
            _ => Store::New(0),
        },
    }
}

/// Whether the operation is a write of none.
pub(crate) fn clears(op: Op) -> bool {
    matches!(
        op,
        Op::PteClear | Op::PteClearNotPresentFull | Op::ClearNotPresentFullPtes | Op::PmdClear | Op::PudClear
    )
}

/// Whether the operation takes several entries.
pub(crate) fn takes_many(op: Op) -> bool {
    matches!(
        op,
        Op::SetPtes
            | Op::ClearNotPresentFullPtes
            | Op::ModifyProtCommit
            | Op::GetAndClearFullPtes
            | Op::ClearFullPtes
            | Op::WrprotectPtes
            | Op::ModifyProtStart
            | Op::TestAndClearYoung
            | Op::ClearFlushYoung
            | Op::ClearYoungDirty
    )
}

/// The value for the entry `index` after the first: the next page, arch/x86/include/asm/pgtable.h:951. The page of an
/// entry that is not present is stored inverted.
pub(crate) fn page_after(first: u64, index: u64) -> u64 {
    if first != 0 && first & PRESENT == 0 { first - (index << 12) } else { first + (index << 12) }
}

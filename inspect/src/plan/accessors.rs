//! The kernel's accessors of page-table entries: what each is called, what a record calls it, and which of its
//! arguments is what. For 6.1 to 7.2; a name that a kernel does not have costs nothing.

use lazymmu_abi::{Kind, Level, Op};

/// An accessor, or a mode call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accessor {
    /// Its name in the source.
    pub(crate) name: &'static str,
    /// The operation that a record tells.
    pub(crate) op: Op,
    /// Which argument points to the entry, counted from 0.
    pub(crate) entry: Option<u8>,
    /// Which argument is the value to be written.
    pub(crate) value: Option<u8>,
    /// Which argument says how many entries.
    pub(crate) count: Option<u8>,
}

impl Accessor {
    pub(crate) fn kind(&self) -> Kind {
        self.op.info().kind
    }

    pub(crate) fn level(&self) -> Option<Level> {
        self.op.info().level
    }

    /// The accessor of exactly this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ACCESSORS.iter().find(|accessor| accessor.name == name)
    }
}

/// Whether a function of this name is an accessor of entries, or a mode call.
pub fn is_accessor(name: &str) -> bool {
    Accessor::named(name).is_some()
}

const fn accessor(
    name: &'static str,
    op: Op,
    entry: Option<u8>,
    value: Option<u8>,
    count: Option<u8>,
) -> Accessor {
    Accessor { name, op, entry, value, count }
}

/// A read, with the pointer as its argument number `entry`.
const fn read(name: &'static str, op: Op, entry: u8) -> Accessor {
    accessor(name, op, Some(entry), None, None)
}

const fn write(name: &'static str, op: Op, entry: u8, value: u8) -> Accessor {
    accessor(name, op, Some(entry), Some(value), None)
}

/// What writes no value that it is given.
const fn change(name: &'static str, op: Op, entry: u8) -> Accessor {
    accessor(name, op, Some(entry), None, None)
}

const fn batch(name: &'static str, op: Op, entry: u8, count: u8) -> Accessor {
    accessor(name, op, Some(entry), None, Some(count))
}

const fn mode(name: &'static str, op: Op) -> Accessor {
    accessor(name, op, None, None, None)
}

/// Prototypes from include/linux/pgtable.h, arch/x86/include/asm/{pgtable,pgtable_64,paravirt,hugetlb}.h and
/// include/asm-generic/hugetlb.h of 6.1, 6.12 and 7.2.
pub(crate) const ACCESSORS: &[Accessor] = &[
    read("ptep_get", Op::PtepGet, 0),
    read("__ptep_get", Op::PtepGet, 0),
    read("ptep_get_lockless", Op::PtepGetLockless, 0),
    read("ptep_get_lockless_norecency", Op::PtepGetLockless, 0),
    // (mm, addr, ptep) from 6.12 on, (ptep) before.
    read("huge_ptep_get", Op::PtepGet, 2),
    read("pmdp_get", Op::PmdpGet, 0),
    read("pmdp_get_lockless", Op::PmdpGetLockless, 0),
    read("pmd_read_atomic", Op::PmdpGetLockless, 0),
    read("pudp_get", Op::PudpGet, 0),
    write("set_pte", Op::SetPte, 0, 1),
    write("__set_pte", Op::SetPte, 0, 1),
    write("set_pte_atomic", Op::SetPte, 0, 1),
    write("set_pte_safe", Op::SetPte, 0, 1),
    write("native_set_pte", Op::SetPte, 0, 1),
    write("native_set_pte_atomic", Op::SetPte, 0, 1),
    write("set_pte_at", Op::SetPtes, 2, 3),
    write("set_huge_pte_at", Op::SetPtes, 2, 3),
    accessor("set_ptes", Op::SetPtes, Some(2), Some(3), Some(4)),
    change("pte_clear", Op::PteClear, 2),
    change("native_pte_clear", Op::PteClear, 2),
    change("huge_pte_clear", Op::PteClear, 2),
    change("pte_clear_not_present_full", Op::PteClearNotPresentFull, 2),
    batch("clear_not_present_full_ptes", Op::ClearNotPresentFullPtes, 2, 3),
    write("ptep_modify_prot_commit", Op::ModifyProtCommit, 2, 4),
    write("__ptep_modify_prot_commit", Op::ModifyProtCommit, 2, 3),
    accessor("modify_prot_commit_ptes", Op::ModifyProtCommit, Some(2), Some(4), Some(5)),
    write("set_pmd", Op::SetPmd, 0, 1),
    write("native_set_pmd", Op::SetPmd, 0, 1),
    write("set_pmd_at", Op::SetPmdAt, 2, 3),
    change("pmd_clear", Op::PmdClear, 0),
    change("native_pmd_clear", Op::PmdClear, 0),
    write("set_pud", Op::SetPud, 0, 1),
    write("native_set_pud", Op::SetPud, 0, 1),
    write("set_pud_at", Op::SetPudAt, 2, 3),
    change("pud_clear", Op::PudClear, 0),
    change("native_pud_clear", Op::PudClear, 0),
    change("ptep_get_and_clear", Op::PtepGetAndClear, 2),
    change("native_ptep_get_and_clear", Op::PtepGetAndClear, 0),
    change("native_local_ptep_get_and_clear", Op::PtepGetAndClear, 0),
    change("huge_ptep_get_and_clear", Op::PtepGetAndClear, 2),
    change("ptep_get_and_clear_full", Op::PtepGetAndClearFull, 2),
    batch("get_and_clear_full_ptes", Op::GetAndClearFullPtes, 2, 3),
    batch("get_and_clear_ptes", Op::GetAndClearFullPtes, 2, 3),
    batch("clear_full_ptes", Op::ClearFullPtes, 2, 3),
    batch("clear_ptes", Op::ClearFullPtes, 2, 3),
    change("ptep_clear", Op::PtepClear, 2),
    change("ptep_clear_flush", Op::PtepClearFlush, 2),
    change("huge_ptep_clear_flush", Op::PtepClearFlush, 2),
    change("ptep_set_wrprotect", Op::PtepSetWrprotect, 2),
    change("huge_ptep_set_wrprotect", Op::PtepSetWrprotect, 2),
    batch("wrprotect_ptes", Op::WrprotectPtes, 2, 3),
    change("ptep_modify_prot_start", Op::ModifyProtStart, 2),
    change("__ptep_modify_prot_start", Op::ModifyProtStart, 2),
    batch("modify_prot_start_ptes", Op::ModifyProtStart, 2, 3),
    write("ptep_set_access_flags", Op::PtepSetAccessFlags, 2, 3),
    write("huge_ptep_set_access_flags", Op::PtepSetAccessFlags, 2, 3),
    change("ptep_test_and_clear_young", Op::TestAndClearYoung, 2),
    batch("test_and_clear_young_ptes", Op::TestAndClearYoung, 2, 3),
    change("ptep_mkold", Op::TestAndClearYoung, 0),
    batch("mkold_ptes", Op::TestAndClearYoung, 2, 3),
    change("ptep_clear_flush_young", Op::ClearFlushYoung, 2),
    batch("clear_flush_young_ptes", Op::ClearFlushYoung, 2, 3),
    batch("clear_young_dirty_ptes", Op::ClearYoungDirty, 2, 3),
    change("ptep_try_set", Op::PtepTrySet, 0),
    change("pmdp_huge_get_and_clear", Op::PmdpHugeGetAndClear, 2),
    change("pmdp_huge_get_and_clear_full", Op::PmdpHugeGetAndClear, 2),
    change("native_pmdp_get_and_clear", Op::PmdpHugeGetAndClear, 0),
    change("native_local_pmdp_get_and_clear", Op::PmdpHugeGetAndClear, 0),
    change("pmdp_set_wrprotect", Op::PmdpSetWrprotect, 2),
    write("pmdp_establish", Op::PmdpEstablish, 2, 3),
    change("pmdp_invalidate", Op::PmdpInvalidate, 2),
    change("pmdp_invalidate_ad", Op::PmdpInvalidateAd, 2),
    change("pmdp_test_and_clear_young", Op::PmdpTestAndClearYoung, 2),
    write("pmdp_set_access_flags", Op::PmdpSetAccessFlags, 2, 3),
    change("pmdp_huge_clear_flush", Op::PmdpHugeClearFlush, 2),
    change("pmdp_collapse_flush", Op::PmdpCollapseFlush, 2),
    change("pmdp_clear_flush_young", Op::PmdpClearFlushYoung, 2),
    change("pudp_huge_get_and_clear", Op::PudpHugeGetAndClear, 2),
    change("pudp_huge_get_and_clear_full", Op::PudpHugeGetAndClear, 2),
    change("native_pudp_get_and_clear", Op::PudpHugeGetAndClear, 0),
    change("native_local_pudp_get_and_clear", Op::PudpHugeGetAndClear, 0),
    change("pudp_set_wrprotect", Op::PudpSetWrprotect, 2),
    change("pudp_invalidate", Op::PudpInvalidate, 2),
    write("pudp_set_access_flags", Op::PudpSetAccessFlags, 2, 3),
    change("pudp_huge_clear_flush", Op::PudpHugeClearFlush, 2),
    mode("lazy_mmu_mode_enable", Op::Enter),
    mode("lazy_mmu_mode_disable", Op::Leave),
    mode("lazy_mmu_mode_pause", Op::Pause),
    mode("lazy_mmu_mode_resume", Op::Resume),
    mode("arch_enter_lazy_mmu_mode", Op::Enter),
    mode("arch_leave_lazy_mmu_mode", Op::Leave),
    mode("arch_flush_lazy_mmu_mode", Op::Flush),
];

/// A member of `pv_ops` through which the kernel writes entries or changes the mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PvOp {
    /// As a path in `struct paravirt_patch_template`.
    pub(crate) member: &'static str,
    /// What it does; its arguments are those of the member (arch/x86/include/asm/paravirt_types.h, 6.1 to 7.2).
    pub(crate) accessor: Accessor,
    /// The operation where the mode counts its nesting: the call is the architecture's own then.
    pub(crate) nested: Op,
}

const fn pv(member: &'static str, accessor: Accessor) -> PvOp {
    PvOp { member, accessor, nested: accessor.op }
}

/// What is called through `pv_ops`.
pub(crate) const PV_OPS: [PvOp; 9] = [
    pv("mmu.set_pte", write("set_pte", Op::SetPte, 0, 1)),
    pv("mmu.set_pmd", write("set_pmd", Op::SetPmd, 0, 1)),
    pv("mmu.set_pud", write("set_pud", Op::SetPud, 0, 1)),
    pv("mmu.ptep_modify_prot_start", change("ptep_modify_prot_start", Op::ModifyProtStart, 2)),
    pv("mmu.ptep_modify_prot_commit", write("ptep_modify_prot_commit", Op::ModifyProtCommit, 2, 3)),
    PvOp {
        member: "mmu.lazy_mode.enter",
        accessor: mode("arch_enter_lazy_mmu_mode", Op::Enter),
        nested: Op::ArchEnter,
    },
    PvOp {
        member: "mmu.lazy_mode.leave",
        accessor: mode("arch_leave_lazy_mmu_mode", Op::Leave),
        nested: Op::ArchLeave,
    },
    pv("mmu.lazy_mode.flush", mode("arch_flush_lazy_mmu_mode", Op::Flush)),
    // 7.0 and later: the other two are empty.
    pv("mmu.lazy_mode_flush", mode("arch_flush_lazy_mmu_mode", Op::Flush)),
];

/// What a hypervisor, or the kernel itself, puts into a member of `pv_ops`, where that is a function with a name: the
/// function, and the member.
pub(crate) const BEHIND_PV_OPS: [(&str, &str); 17] = [
    ("xen_set_pte", "mmu.set_pte"),
    ("xen_set_pmd", "mmu.set_pmd"),
    ("xen_set_pud", "mmu.set_pud"),
    ("xen_ptep_modify_prot_start", "mmu.ptep_modify_prot_start"),
    ("xen_ptep_modify_prot_commit", "mmu.ptep_modify_prot_commit"),
    ("xen_enter_lazy_mmu", "mmu.lazy_mode.enter"),
    ("xen_leave_lazy_mmu", "mmu.lazy_mode.leave"),
    ("xen_flush_lazy_mmu", "mmu.lazy_mode.flush"),
    ("xen_flush_lazy_mmu", "mmu.lazy_mode_flush"),
    ("paravirt_enter_lazy_mmu", "mmu.lazy_mode.enter"),
    ("paravirt_leave_lazy_mmu", "mmu.lazy_mode.leave"),
    ("paravirt_flush_lazy_mmu", "mmu.lazy_mode.flush"),
    ("native_set_pte", "mmu.set_pte"),
    ("native_set_pmd", "mmu.set_pmd"),
    ("native_set_pud", "mmu.set_pud"),
    ("__ptep_modify_prot_start", "mmu.ptep_modify_prot_start"),
    ("__ptep_modify_prot_commit", "mmu.ptep_modify_prot_commit"),
];

//! The codes in a record: what kind of event, which operation, at which level of the page table.
//!
//! The numbers of [`Op`] are those of `enum lazy_mmu_op` in `kernel/`; a test of `xtask` compares the two.

/// A byte that is no code known to this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode(
    /// The byte.
    pub u8,
);

impl core::fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "unknown code {}", self.0)
    }
}

impl core::error::Error for UnknownCode {}

macro_rules! codes {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$outer])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant = $code,)+ }

        impl $name {
            /// Every code, in the order of the numbers.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The name in the field's own terms.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownCode;

            fn try_from(code: u8) -> Result<Self, UnknownCode> {
                match code { $($code => Ok($name::$variant),)+ _ => Err(UnknownCode(code)) }
            }
        }
    };
}

codes! {
    /// What kind of event a record tells.
    Kind {
        /// The lazy MMU mode was entered, left, flushed, paused or resumed.
        Section = 1 "section",
        /// An entry was read.
        Read = 2 "read",
        /// An entry was written by an operation that an architecture may defer.
        Write = 3 "write",
        /// An entry was read and changed in one immediate step.
        Rmw = 4 "rmw",
        /// The CPU switched to another task.
        Switch = 5 "switch",
        /// A range of the TLB was flushed.
        TlbFlush = 6 "tlb-flush",
        /// The kernel took a page fault.
        Fault = 7 "fault",
        /// A task is about to end.
        TaskExit = 8 "task-exit",
        /// Records were lost on this CPU since the record before.
        Lost = 9 "lost",
        /// The name of a task, before its first record.
        TaskName = 10 "task-name",
        /// A call stack (only as the kind of a `Lost` record).
        Stack = 11 "stack",
    }
}

codes! {
    /// The level of the page table at which an entry stands.
    Level {
        /// Maps a page.
        Pte = 1 "pte",
        /// Points to a table of PTEs or maps a huge page.
        Pmd = 2 "pmd",
        /// Points to a table of PMDs or maps a huge page.
        Pud = 3 "pud",
        /// Points to a table of PUDs.
        P4d = 4 "p4d",
        /// The root.
        Pgd = 5 "pgd",
    }
}

codes! {
    /// The accessor or mode call that the kernel's code used.
    Op {
        /// `ptep_get`
        PtepGet = 1 "ptep_get",
        /// `ptep_get_lockless`
        PtepGetLockless = 2 "ptep_get_lockless",
        /// `pmdp_get`
        PmdpGet = 3 "pmdp_get",
        /// `pmdp_get_lockless`
        PmdpGetLockless = 4 "pmdp_get_lockless",
        /// `pudp_get`
        PudpGet = 5 "pudp_get",
        /// A plain load of an entry, at the level that the record names. No hook of ours sees it; a scenario tells it.
        RawRead = 6 "raw_read",

        /// `set_pte`, `set_pte_atomic`
        SetPte = 32 "set_pte",
        /// `set_ptes`, which `set_pte_at` is too
        SetPtes = 33 "set_ptes",
        /// `pte_clear`
        PteClear = 34 "pte_clear",
        /// `pte_clear_not_present_full`
        PteClearNotPresentFull = 35 "pte_clear_not_present_full",
        /// `clear_not_present_full_ptes`
        ClearNotPresentFullPtes = 36 "clear_not_present_full_ptes",
        /// `ptep_modify_prot_commit`, `modify_prot_commit_ptes`
        ModifyProtCommit = 37 "modify_prot_commit",
        /// `set_pmd`
        SetPmd = 38 "set_pmd",
        /// `set_pmd_at`
        SetPmdAt = 39 "set_pmd_at",
        /// `pmd_clear`
        PmdClear = 40 "pmd_clear",
        /// `set_pud`
        SetPud = 41 "set_pud",
        /// `set_pud_at`
        SetPudAt = 42 "set_pud_at",
        /// `pud_clear`
        PudClear = 43 "pud_clear",
        /// A plain store to an entry, at the level that the record names. As for `RawRead`.
        RawWrite = 44 "raw_write",

        /// `ptep_get_and_clear`
        PtepGetAndClear = 64 "ptep_get_and_clear",
        /// `ptep_get_and_clear_full`
        PtepGetAndClearFull = 65 "ptep_get_and_clear_full",
        /// `get_and_clear_full_ptes`, `get_and_clear_ptes`
        GetAndClearFullPtes = 66 "get_and_clear_full_ptes",
        /// `clear_full_ptes`, `clear_ptes`
        ClearFullPtes = 67 "clear_full_ptes",
        /// `ptep_clear`
        PtepClear = 68 "ptep_clear",
        /// `ptep_clear_flush`
        PtepClearFlush = 69 "ptep_clear_flush",
        /// `ptep_set_wrprotect`
        PtepSetWrprotect = 70 "ptep_set_wrprotect",
        /// `wrprotect_ptes`
        WrprotectPtes = 71 "wrprotect_ptes",
        /// `ptep_modify_prot_start`, `modify_prot_start_ptes`
        ModifyProtStart = 72 "modify_prot_start",
        /// `ptep_set_access_flags`
        PtepSetAccessFlags = 73 "ptep_set_access_flags",
        /// `ptep_test_and_clear_young`, `test_and_clear_young_ptes`
        TestAndClearYoung = 74 "test_and_clear_young",
        /// `ptep_clear_flush_young`, `clear_flush_young_ptes`
        ClearFlushYoung = 75 "clear_flush_young",
        /// `clear_young_dirty_ptes`
        ClearYoungDirty = 76 "clear_young_dirty_ptes",
        /// `ptep_try_set`
        PtepTrySet = 77 "ptep_try_set",
        /// `pmdp_huge_get_and_clear`, `pmdp_huge_get_and_clear_full`
        PmdpHugeGetAndClear = 78 "pmdp_huge_get_and_clear",
        /// `pmdp_set_wrprotect`
        PmdpSetWrprotect = 79 "pmdp_set_wrprotect",
        /// `pmdp_establish`
        PmdpEstablish = 80 "pmdp_establish",
        /// `pmdp_invalidate`
        PmdpInvalidate = 81 "pmdp_invalidate",
        /// `pmdp_invalidate_ad`
        PmdpInvalidateAd = 82 "pmdp_invalidate_ad",
        /// `pmdp_test_and_clear_young`
        PmdpTestAndClearYoung = 83 "pmdp_test_and_clear_young",
        /// `pmdp_set_access_flags`
        PmdpSetAccessFlags = 84 "pmdp_set_access_flags",
        /// `pmdp_huge_clear_flush`
        PmdpHugeClearFlush = 85 "pmdp_huge_clear_flush",
        /// `pmdp_collapse_flush`
        PmdpCollapseFlush = 86 "pmdp_collapse_flush",
        /// `pmdp_clear_flush_young`
        PmdpClearFlushYoung = 87 "pmdp_clear_flush_young",
        /// `pudp_huge_get_and_clear`, `pudp_huge_get_and_clear_full`
        PudpHugeGetAndClear = 88 "pudp_huge_get_and_clear",
        /// `pudp_set_wrprotect`
        PudpSetWrprotect = 89 "pudp_set_wrprotect",
        /// `pudp_invalidate`
        PudpInvalidate = 90 "pudp_invalidate",
        /// `pudp_set_access_flags`
        PudpSetAccessFlags = 91 "pudp_set_access_flags",
        /// `pudp_huge_clear_flush`
        PudpHugeClearFlush = 92 "pudp_huge_clear_flush",

        /// `lazy_mmu_mode_enable` (7.0 and later), `arch_enter_lazy_mmu_mode` (before)
        Enter = 128 "enter",
        /// `lazy_mmu_mode_disable`, `arch_leave_lazy_mmu_mode`
        Leave = 129 "leave",
        /// `arch_flush_lazy_mmu_mode`
        Flush = 130 "flush",
        /// `lazy_mmu_mode_pause`
        Pause = 131 "pause",
        /// `lazy_mmu_mode_resume`
        Resume = 132 "resume",
        /// The architecture's own entering, where it is told apart from the generic one: from 7.0 on
        /// `arch_enter_lazy_mmu_mode`, before it what a hypervisor's own calls of that are.
        ArchEnter = 133 "arch_enter",
        /// The same for leaving.
        ArchLeave = 134 "arch_leave",

        /// The previous task gave up the CPU by its own will (`Switch`).
        Blocked = 160 "blocked",
        /// The previous task was preempted (`Switch`).
        Preempted = 161 "preempted",
    }
}

/// What an operation is, as far as the record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpInfo {
    /// The kind of record it comes in.
    pub kind: Kind,
    /// The level of the entries it works on, if it works on entries of one level.
    pub level: Option<Level>,
}

impl Op {
    /// Operations of the blocks above that the drop-in never reports: the numbers are theirs all the same.
    pub const NOT_OF_THE_DROP_IN: &[Op] = &[Op::RawRead, Op::RawWrite, Op::ArchEnter, Op::ArchLeave];

    /// The kind of record that the operation with that code comes in; none if there is no such operation.
    #[must_use]
    #[inline]
    pub const fn kind_of(code: u8) -> Option<Kind> {
        const KINDS: [Option<Kind>; 256] = {
            let mut kinds = [None; 256];
            let mut next = 0;
            while next < Op::ALL.len() {
                kinds[Op::ALL[next] as usize] = Some(Op::ALL[next].info().kind);
                next += 1;
            }
            kinds
        };
        KINDS[code as usize]
    }

    /// Whether it goes around the accessors.
    #[must_use]
    pub const fn is_raw(self) -> bool {
        matches!(self, Op::RawRead | Op::RawWrite)
    }

    /// Kind and level, which the numbering keeps in blocks.
    #[must_use]
    pub const fn info(self) -> OpInfo {
        let kind = match self as u8 {
            1..32 => Kind::Read,
            32..64 => Kind::Write,
            64..128 => Kind::Rmw,
            128..160 => Kind::Section,
            _ => Kind::Switch,
        };
        let level = match self {
            Op::PmdpGet
            | Op::PmdpGetLockless
            | Op::SetPmd
            | Op::SetPmdAt
            | Op::PmdClear
            | Op::PmdpHugeGetAndClear
            | Op::PmdpSetWrprotect
            | Op::PmdpEstablish
            | Op::PmdpInvalidate
            | Op::PmdpInvalidateAd
            | Op::PmdpTestAndClearYoung
            | Op::PmdpSetAccessFlags
            | Op::PmdpHugeClearFlush
            | Op::PmdpCollapseFlush
            | Op::PmdpClearFlushYoung => Some(Level::Pmd),
            Op::PudpGet
            | Op::SetPud
            | Op::SetPudAt
            | Op::PudClear
            | Op::PudpHugeGetAndClear
            | Op::PudpSetWrprotect
            | Op::PudpInvalidate
            | Op::PudpSetAccessFlags
            | Op::PudpHugeClearFlush => Some(Level::Pud),
            Op::RawRead | Op::RawWrite => None,
            _ => match kind {
                Kind::Read | Kind::Write | Kind::Rmw => Some(Level::Pte),
                _ => None,
            },
        };
        OpInfo { kind, level }
    }
}

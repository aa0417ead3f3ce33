//! The tables of the architectures. Data only: what each row means is in [`super::Row`], and the first row that names
//! an operation counts. Lines are those of 7.2.13 unless another version is given.
//!
//! A maintainer who finds a row wrong changes it here and nowhere else.

use lazymmu_abi::{Kind, Op};

use super::{
    Does, EventRow, FlushOn, FlushRow, Happening, Ops, Profile, ProfileId, Queue, QueueOf, Row, Source,
};

/// The operations on PMDs and PUDs.
macro_rules! upper_levels {
    (writes) => {
        Ops::These(&[Op::SetPmd, Op::SetPmdAt, Op::PmdClear, Op::SetPud, Op::SetPudAt, Op::PudClear])
    };
    (rmws) => {
        Ops::These(&[
            Op::PmdpHugeGetAndClear,
            Op::PmdpSetWrprotect,
            Op::PmdpEstablish,
            Op::PmdpInvalidate,
            Op::PmdpInvalidateAd,
            Op::PmdpTestAndClearYoung,
            Op::PmdpSetAccessFlags,
            Op::PmdpHugeClearFlush,
            Op::PmdpCollapseFlush,
            Op::PmdpClearFlushYoung,
            Op::PudpHugeGetAndClear,
            Op::PudpSetWrprotect,
            Op::PudpInvalidate,
            Op::PudpSetAccessFlags,
            Op::PudpHugeClearFlush,
        ])
    };
    (reads) => {
        Ops::These(&[Op::PmdpGet, Op::PmdpGetLockless, Op::PudpGet])
    };
}

/// A row for something that happens.
macro_rules! event {
    ($on:ident breaks, $why:literal, $source:expr) => {
        EventRow { on: Happening::$on, breaks: true, why: $why, source: $source }
    };
    ($on:ident is_harmless, $why:literal, $source:expr) => {
        EventRow { on: Happening::$on, breaks: false, why: $why, source: $source }
    };
}

/// x86 as a Xen PV guest.
pub(super) const XEN_PV: Profile = Profile {
    id: ProfileId::XenPv,
    name: "xen-pv",
    title: "x86, Xen PV guest",
    summary: "stores to entries are queued as hypercalls, per CPU",
    rows: &[
        Row {
            ops: Ops::These(&[Op::SetPudAt]),
            does: Does::AtOnce,
            why: "set_pud_at() stores at once: it calls native_set_pud()",
            source: Source::Kernel("arch/x86/include/asm/pgtable.h:1213 set_pud_at()"),
        },
        Row {
            ops: Ops::These(&[Op::SetPmd, Op::SetPmdAt, Op::PmdClear, Op::SetPud, Op::PudClear]),
            does: Does::Queues,
            why: "the store is queued as a hypercall, as the table page of a running process is pinned",
            source: Source::Kernel("arch/x86/xen/mmu_pv.c:298 xen_set_pmd(), :482 xen_set_pud()"),
        },
        Row {
            ops: Ops::These(&[Op::RawWrite]),
            does: Does::AtOnce,
            why: "page tables are read-only to a guest: the hypervisor takes the fault and stores at once",
            source: Source::Kernel("arch/x86/xen/mmu_pv.c:344, the comment in __xen_set_pte()"),
        },
        Row {
            ops: Ops::These(&[Op::ModifyProtCommit]),
            does: Does::Queues,
            why: "the store is queued as a hypercall that keeps the accessed and dirty bits",
            source: Source::Kernel("arch/x86/xen/mmu_pv.c:370 xen_ptep_modify_prot_commit()"),
        },
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the store is queued as a hypercall",
            source: Source::Kernel(
                "arch/x86/xen/mmu_pv.c:323 xen_batched_set_pte(); pte_clear() is set_pte(), \
                 arch/x86/include/asm/paravirt.h:462",
            ),
        },
        Row {
            ops: Ops::These(&[Op::ModifyProtStart]),
            does: Does::ReadsMemory,
            why: "ptep_modify_prot_start() only reads memory on Xen, which the hypervisor has not written yet",
            source: Source::Kernel("arch/x86/xen/mmu_pv.c:362 xen_ptep_modify_prot_start()"),
        },
        Row {
            ops: Ops::These(&[Op::PtepSetAccessFlags, Op::PmdpSetAccessFlags, Op::PudpSetAccessFlags]),
            does: Does::Queues,
            why: "it compares with memory, which the hypervisor has not written yet, and queues a set_pte()",
            source: Source::Kernel(
                "arch/x86/mm/pgtable.c:380 ptep_set_access_flags(), :393 for PMDs, :414 for PUDs",
            ),
        },
        Row {
            ops: Ops::These(&[Op::PtepClear]),
            does: Does::Queues,
            why: "ptep_clear() queues a set_pte()",
            source: Source::Kernel("include/linux/pgtable.h:700 ptep_clear()"),
        },
        Row {
            ops: Ops::These(&[Op::ClearYoungDirty]),
            does: Does::Queues,
            why: "it clears the entry in memory at once and queues a set_pte() with what it found there",
            source: Source::Kernel("include/linux/pgtable.h:675 clear_young_dirty_ptes()"),
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::AtOnce,
            why: "the read-modify-write changes memory at once, and the hypervisor later puts the queued value over it",
            source: Source::Kernel(
                "arch/x86/include/asm/pgtable.h:1243 ptep_get_and_clear(), :1271 ptep_set_wrprotect()",
            ),
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::ReadsMemory,
            why: "the read looks at memory, which the hypervisor has not written yet",
            source: Source::Kernel("include/linux/pgtable.h:493 ptep_get(), which Xen does not replace"),
        },
    ],
    flushes: &[
        FlushRow {
            on: FlushOn::ContextSwitch,
            source: Source::Kernel("arch/x86/xen/enlighten_pv.c:420 xen_start_context_switch()"),
        },
        FlushRow {
            on: FlushOn::BatchFull,
            source: Source::Kernel(
                "arch/x86/xen/multicalls.c:230: 32 calls, or 512 bytes of arguments, so that 31 stores fill it",
            ),
        },
        // From an interrupt set_pte() is a hypercall of its own that leaves the queue alone (mmu_pv.c:343).
        FlushRow {
            on: FlushOn::InterruptWrite(&[
                Op::SetPmd,
                Op::SetPmdAt,
                Op::PmdClear,
                Op::SetPud,
                Op::PudClear,
                Op::ModifyProtCommit,
            ]),
            source: Source::Kernel("arch/x86/xen/mmu_pv.c:293, :383, :477: xen_mc_issue() in an interrupt"),
        },
    ],
    queue: Queue {
        takes_interrupts: false,
        of: QueueOf::Cpu,
        why: "the hypervisor has not stored it yet, for any CPU",
        source: Source::Kernel("arch/x86/xen/multicalls.c:55 mc_buffer"),
    },
    events: &[
        event!(
            InnerLeave is_harmless,
            "Xen counts the sections of a CPU, so an inner leave flushes and the mode stays on; only a context switch in \
             the inner section is a BUG",
            Source::Kernel(
                "arch/x86/include/asm/xen/hypervisor.h:77 enter_lazy(), :91 leave_lazy(), which \
                 xen_start_context_switch() calls once, arch/x86/xen/enlighten_pv.c:431, 6.12.117",
            )
        ),
        event!(
            WrongOnCpu breaks,
            "before 7.0 the mode is a state of the CPU, and leaving it where it is off is a BUG",
            Source::Kernel("arch/x86/include/asm/xen/hypervisor.h:91 leave_lazy(), 6.12.117")
        ),
        event!(
            Sleep is_harmless,
            "a context switch flushes the queue, and the mode is entered again afterwards",
            Source::Kernel("arch/x86/xen/enlighten_pv.c:420 xen_start_context_switch()")
        ),
        event!(
            InterruptCall is_harmless,
            "Xen counts the sections of a CPU, those of interrupts too",
            Source::Kernel("arch/x86/include/asm/xen/hypervisor.h:77 enter_lazy(), 6.12.117")
        ),
        event!(
            InterruptWrite is_harmless,
            "in an interrupt the mode counts as off, and the write is a hypercall of its own",
            Source::Kernel("arch/x86/xen/enlighten_pv.c:142 xen_get_lazy_mode(), 6.12.117")
        ),
        event!(
            Use breaks,
            "the mapping is not there before the hypervisor has stored the entry",
            Source::Kernel("arch/x86/xen/mmu_pv.c:323 xen_batched_set_pte()")
        ),
        event!(
            TlbFlush is_harmless,
            "the flush is queued behind the stores",
            Source::Kernel("arch/x86/xen/mmu_pv.c:1369 xen_flush_tlb_multi(), :1312, :1332")
        ),
        event!(
            Unpaired breaks,
            "the counter is wrong from then on: stores wait that nobody flushes, or the mode is never on",
            Source::Kernel("include/linux/pgtable.h:287 lazy_mmu_mode_disable()")
        ),
        event!(
            Off is_harmless,
            "with the mode off every store is a hypercall of its own",
            Source::Kernel("arch/x86/xen/mmu_pv.c:341 __xen_set_pte()")
        ),
        event!(
            Waste is_harmless,
            "a batch of one costs no more than one hypercall",
            Source::Kernel("arch/x86/xen/multicalls.c:142 xen_mc_flush()")
        ),
    ],
};

/// The mail with the s390 series' main patch. Its v6, <cover.1784121418.git.agordeev@linux.ibm.com>, says that it only
/// adds an exception for secure guests.
const S390_SERIES: Source =
    Source::Mail("<227ed305e14b04b97be34716426e369860efc99c.1783945507.git.agordeev@linux.ibm.com>");

/// s390 with the series "s390/mm: Batch PTE updates in lazy MMU mode", which 7.2 does not have.
pub(super) const S390: Profile = Profile {
    id: ProfileId::S390,
    name: "s390",
    title: "s390, with the series under review (v6)",
    summary: "PTEs of the range named at enable are kept in a cache, per CPU, and stored together at leave",
    rows: &[
        Row {
            ops: upper_levels!(writes),
            does: Does::AtOnce,
            why: "only PTEs are kept in the cache; this store is done at once",
            source: Source::Kernel(
                "arch/s390/include/asm/pgtable.h:976 set_pmd(), which the series leaves alone",
            ),
        },
        Row {
            ops: Ops::These(&[Op::RawWrite]),
            does: Does::AtOnce,
            why: "a plain store goes around the cache",
            source: S390_SERIES,
        },
        Row {
            ops: Ops::Rest(Kind::Write),
            does: Does::Queues,
            why: "the store goes to the cache of the lazy MMU mode",
            source: S390_SERIES,
        },
        Row {
            ops: Ops::These(&[Op::PtepClearFlush, Op::PtepSetAccessFlags]),
            does: Does::AtOnce,
            why: "it works on memory with ptep_xchg_direct() and does not know of the cache",
            source: Source::Kernel(
                "arch/s390/include/asm/pgtable.h:1237 ptep_clear_flush(), :1339 ptep_set_access_flags(), which the \
                 series leaves alone",
            ),
        },
        Row {
            ops: Ops::These(&[Op::PtepTrySet]),
            does: Does::Nothing,
            why: "s390 has no ptep_try_set(): the generic one does nothing",
            source: Source::Kernel("include/linux/pgtable.h:1092 ptep_try_set()"),
        },
        Row {
            ops: upper_levels!(rmws),
            does: Does::AtOnce,
            why: "only PTEs are kept in the cache; this works on memory at once",
            source: Source::Kernel(
                "arch/s390/include/asm/pgtable.h:1691 pmdp_xchg_direct(), which the series leaves alone",
            ),
        },
        Row {
            ops: Ops::Rest(Kind::Rmw),
            does: Does::InOrder,
            why: "the accessor reads and changes what is in the cache",
            source: S390_SERIES,
        },
        Row {
            ops: upper_levels!(reads),
            does: Does::ReadsMemory,
            why: "only PTEs are kept in the cache",
            source: Source::Kernel(
                "arch/s390/include/asm/pgtable.h:995 pmdp_get(), which the series leaves alone",
            ),
        },
        Row {
            ops: Ops::These(&[Op::RawRead]),
            does: Does::ReadsMemory,
            why: "a plain load goes around the cache",
            source: S390_SERIES,
        },
        Row {
            ops: Ops::Rest(Kind::Read),
            does: Does::InOrder,
            why: "the accessor looks into the cache first; only a read around it (raw *ptep) is stale",
            source: S390_SERIES,
        },
    ],
    // Preemption is off while the cache is in use, so there is no context switch inside a section.
    flushes: &[],
    queue: Queue {
        takes_interrupts: true,
        of: QueueOf::Cpu,
        why: "the accessors look only into the cache of their own section",
        source: S390_SERIES,
    },
    events: &[
        event!(Sleep breaks, "entering the mode switches preemption off", S390_SERIES),
        event!(
            WrongOnCpu is_harmless,
            "entering the mode switches preemption off, so no other task comes in between",
            S390_SERIES
        ),
        event!(
            Use is_harmless,
            "only the PTEs of a process, of the range named at enable, go to the cache",
            S390_SERIES
        ),
        event!(
            TlbFlush is_harmless,
            "the entries are stored with IPTE, which flushes the TLB for each",
            S390_SERIES
        ),
    ],
};

/// An architecture that stores to entries at once and only defers the work that belongs to the store.
macro_rules! stores_at_once {
    ($id:ident, $name:literal, $title:literal, $summary:literal, $why:literal, $writes:literal, $rmws:literal,
     $flushes:expr, $queue:expr, $events:expr) => {
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
                    source: Source::Kernel($writes),
                },
                Row {
                    ops: Ops::Rest(Kind::Rmw),
                    does: Does::AtOnce,
                    why: $why,
                    source: Source::Kernel($rmws),
                },
                Row {
                    ops: Ops::Rest(Kind::Read),
                    does: Does::ReadsMemory,
                    why: "the read looks at memory",
                    source: Source::Kernel("include/linux/pgtable.h:493 ptep_get()"),
                },
            ],
            flushes: $flushes,
            queue: $queue,
            events: $events,
        }
    };
}

/// powerpc with the hash MMU.
pub(super) const POWERPC_HASH: Profile = stores_at_once!(
    PowerpcHash,
    "powerpc-hash",
    "powerpc 64, hash MMU",
    "flushes of the hash table and the TLB are batched, per CPU",
    "the entry is stored at once; only the flush of the hash table waits",
    "arch/powerpc/include/asm/book3s/64/hash.h:264 hash__set_pte_at()",
    "arch/powerpc/include/asm/book3s/64/hash.h:186 hash__pte_update()",
    &[FlushRow {
        on: FlushOn::BatchFull,
        source: Source::Kernel(
            "arch/powerpc/mm/book3s64/hash_tlb.c:120 and :133: 192 entries, or another mm or page size"
        ),
    }],
    Queue {
        takes_interrupts: false,
        of: QueueOf::Cpu,
        why: "the entry is in memory for every CPU",
        source: Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:22 ppc64_tlb_batch"),
    },
    &[
        event!(
            InnerLeave is_harmless,
            "the inner leave flushes the batch and ends it; what follows is flushed at once, slowly but rightly",
            Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:44, 6.12.117")
        ),
        event!(
            WrongOnCpu is_harmless,
            "entering the mode switches preemption off, so no other task comes in between (since b9ef323ea168)",
            Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:26 arch_enter_lazy_mmu_mode()")
        ),
        event!(
            Sleep breaks,
            "entering the mode switches preemption off: this is a sleep in atomic context",
            Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:26 arch_enter_lazy_mmu_mode()")
        ),
        event!(
            InterruptWrite breaks,
            "the batch of the CPU is active for the interrupt too, so its flush waits for the section's end",
            Source::Kernel("arch/powerpc/mm/book3s64/hash_tlb.c:104 hpte_need_flush(), 6.12.117")
        ),
        event!(
            Unpaired breaks,
            "each enter and leave changes the preemption count",
            Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:26 and :49")
        ),
        event!(
            Off breaks,
            "pause and resume change the preemption count as leave and enter do",
            Source::Kernel("arch/powerpc/include/asm/book3s/64/tlbflush-hash.h:26 and :49")
        ),
    ]
);

/// sparc64.
pub(super) const SPARC64: Profile = stores_at_once!(
    Sparc64,
    "sparc64",
    "sparc64",
    "flushes of the TSB and the TLB are batched, per CPU",
    "the entry is stored at once; only the flush of the TSB and the TLB waits",
    "arch/sparc/include/asm/pgtable_64.h:920 __set_pte_at()",
    "arch/sparc/include/asm/pgtable_64.h:920 __set_pte_at(), which the generic accessors end in",
    &[FlushRow {
        on: FlushOn::BatchFull,
        source: Source::Kernel("arch/sparc/mm/tlb.c:114: 192 entries, or another mm or page size"),
    }],
    Queue {
        takes_interrupts: false,
        of: QueueOf::Cpu,
        why: "the entry is in memory for every CPU",
        source: Source::Kernel("arch/sparc/mm/tlb.c:78 tlb_batch_add_one()"),
    },
    &[
        event!(
            InnerLeave is_harmless,
            "the inner leave flushes the batch and ends it; what follows is flushed at once, slowly but rightly",
            Source::Kernel("arch/sparc/mm/tlb.c:62 arch_leave_lazy_mmu_mode(), 6.12.117")
        ),
        event!(
            WrongOnCpu is_harmless,
            "entering the mode switches preemption off, so no other task comes in between (since a1d416bf9faf)",
            Source::Kernel("arch/sparc/mm/tlb.c:55 arch_enter_lazy_mmu_mode()")
        ),
        event!(
            Sleep breaks,
            "entering the mode switches preemption off: this is a sleep in atomic context",
            Source::Kernel("arch/sparc/mm/tlb.c:55 arch_enter_lazy_mmu_mode()")
        ),
        event!(
            Unpaired breaks,
            "each enter and leave changes the preemption count",
            Source::Kernel("arch/sparc/mm/tlb.c:55 and :71")
        ),
        event!(
            Off breaks,
            "pause and resume change the preemption count as leave and enter do",
            Source::Kernel("arch/sparc/mm/tlb.c:55 and :71")
        ),
    ]
);

/// arm64.
pub(super) const ARM64: Profile = stores_at_once!(
    Arm64,
    "arm64",
    "arm64",
    "barriers after stores to kernel mappings wait, per task",
    "the entry is stored at once; only the barriers after kernel mappings wait",
    "arch/arm64/include/asm/pgtable.h:360 __set_pte_nosync()",
    "arch/arm64/include/asm/pgtable.h:1352 __ptep_get_and_clear_anysz(), :1424 ___ptep_set_wrprotect()",
    &[FlushRow {
        on: FlushOn::ContextSwitch,
        source: Source::Kernel("arch/arm64/kernel/process.c:750: a dsb at each switch"),
    }],
    Queue {
        takes_interrupts: false,
        of: QueueOf::Task,
        why: "the entry is in memory for every CPU",
        source: Source::Kernel("arch/arm64/include/asm/pgtable.h:63 queue_pte_barriers()"),
    },
    &[
        event!(
            WrongOnCpu is_harmless,
            "no CPU has a state of the mode, and entering it does nothing",
            Source::Kernel("arch/arm64/include/asm/pgtable.h:74 arch_enter_lazy_mmu_mode()")
        ),
        event!(
            Sleep is_harmless,
            "what waits is a flag of the task, and each context switch has a barrier",
            Source::Kernel("arch/arm64/include/asm/pgtable.h:63 queue_pte_barriers(), kernel/process.c:750")
        ),
        event!(
            InterruptWrite breaks,
            "in 6.16 barriers waited in an interrupt too, until b81c688426a9",
            Source::Unverified("the text of that commit; 6.12.117 has no mode on arm64")
        ),
        event!(
            Use breaks,
            "the barriers after stores to kernel mappings wait",
            Source::Kernel("arch/arm64/include/asm/pgtable.h:63 queue_pte_barriers()")
        ),
        event!(
            Unpaired breaks,
            "the counter is wrong from then on: barriers wait that nobody issues, or the mode is never on",
            Source::Kernel("include/linux/pgtable.h:287 lazy_mmu_mode_disable()")
        ),
        event!(
            Off is_harmless,
            "with the mode off every store has its barriers",
            Source::Kernel("arch/arm64/include/asm/pgtable.h:63 queue_pte_barriers()")
        ),
    ]
);

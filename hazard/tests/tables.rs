//! What the profile tables say of happenings, flushes and queues, written a second time.
//!
//! Rules that are about a happening have no second machine to be compared with, as the oracle is for accesses. So what each
//! architecture makes of it stands here again, one line for each happening, as read in the kernel's source (7.2.13, and
//! 6.12.117 for what 7.0 did away with). A line that is wrong in one place only is noticed; a new happening without a line
//! here is, too.

use lazymmu_abi::Op;
use lazymmu_hazard::profile::{FlushOn, Happening, PROFILES, ProfileId, QueueOf};

/// What a table says: it breaks, it does no harm, or nothing is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Breaks,
    Harmless,
    Nothing,
}
use Says::{Breaks, Harmless, Nothing};

/// By profile: strict, xen-pv, s390, powerpc-hash, sparc64, arm64.
const HAPPENINGS: [(Happening, [Says; 6]); 10] = [
    // Xen counts (enter_lazy(), 6.12.117); the batches of powerpc and sparc64 are flushed and gone. s390 and arm64 have no
    // mode before 6.16.
    (Happening::InnerLeave, [Breaks, Harmless, Nothing, Harmless, Harmless, Nothing]),
    // xen_lazy_mode is a variable of the CPU before 7.0. The others with a state of the CPU switch preemption off.
    (Happening::WrongOnCpu, [Breaks, Breaks, Harmless, Harmless, Harmless, Harmless]),
    // preempt_disable() in arch_enter_lazy_mmu_mode() of powerpc and sparc64, and in the s390 series.
    (Happening::Sleep, [Breaks, Harmless, Breaks, Breaks, Breaks, Harmless]),
    // Xen counts these as well.
    (Happening::InterruptCall, [Breaks, Harmless, Nothing, Nothing, Nothing, Nothing]),
    // xen_get_lazy_mode() looks at in_interrupt(); hpte_need_flush() of 6.12.117 only at batch->active. sparc64 does not
    // batch flushes of init_mm (arch/sparc/include/asm/pgtable_64.h:906), whose entries interrupts write.
    (Happening::InterruptWrite, [Breaks, Harmless, Nothing, Breaks, Nothing, Breaks]),
    // Only there something waits that a use of the new mapping needs; the cache of s390 has entries of processes only.
    (Happening::Use, [Breaks, Breaks, Harmless, Nothing, Nothing, Breaks]),
    // Xen has both in one queue, IPTE of s390 flushes by itself; elsewhere the stores are done.
    (Happening::TlbFlush, [Breaks, Harmless, Harmless, Nothing, Nothing, Nothing]),
    // The preemption count of powerpc and sparc64; the counter of the task elsewhere. s390 is not in 7.2.
    (Happening::Unpaired, [Breaks, Breaks, Nothing, Breaks, Breaks, Breaks]),
    // As before; with the mode off nothing is deferred.
    (Happening::Off, [Breaks, Harmless, Nothing, Breaks, Breaks, Harmless]),
    (Happening::Waste, [Harmless, Harmless, Nothing, Nothing, Nothing, Nothing]),
];

#[test]
fn what_happens_breaks_where_the_kernel_says_so() {
    for (at, profile) in PROFILES.iter().enumerate() {
        for (on, expected) in HAPPENINGS {
            let mut rows = profile.events.iter().filter(|row| row.on == on);
            let said = match rows.next() {
                Some(row) if row.breaks => Breaks,
                Some(_) => Harmless,
                None => Nothing,
            };
            assert_eq!(said, expected[at], "{on:?} on {}", profile.name);
        }
        let known = |row: &lazymmu_hazard::profile::EventRow| HAPPENINGS.iter().any(|(on, _)| *on == row.on);
        assert!(profile.events.iter().all(known), "a happening of {} has no line here", profile.name);
    }
}

/// arch/x86/xen/mmu_pv.c:293, :383, :477 issue the batch at once in an interrupt; `xen_set_pte()` does not touch it.
#[test]
fn an_interrupt_flushes_the_batch_of_xen_with_these_operations() {
    let flushes = ProfileId::XenPv.profile().flushes.iter();
    let ops: Vec<&[Op]> = flushes
        .filter_map(|row| match row.on {
            FlushOn::InterruptWrite(ops) => Some(ops),
            _ => None,
        })
        .collect();
    let expected = [Op::SetPmd, Op::SetPmdAt, Op::PmdClear, Op::SetPud, Op::PudClear, Op::ModifyProtCommit];
    assert_eq!(ops, [&expected]);
}

#[test]
fn queues_are_where_the_architecture_keeps_them() {
    for (id, of) in [
        (ProfileId::Strict, QueueOf::Unspecified),
        // mc_buffer, ppc64_tlb_batch and tlb_batch are per-CPU variables; the s390 series has one cache for each CPU.
        (ProfileId::XenPv, QueueOf::Cpu),
        (ProfileId::S390, QueueOf::Cpu),
        (ProfileId::PowerpcHash, QueueOf::Cpu),
        (ProfileId::Sparc64, QueueOf::Cpu),
        // TIF_LAZY_MMU_PENDING, a flag of the task.
        (ProfileId::Arm64, QueueOf::Task),
    ] {
        assert_eq!(id.profile().queue.of, of, "{id:?}");
    }
}

/// Whether what an interrupt stores inside a section goes where the section's stores wait.
#[test]
fn only_the_cache_of_s390_takes_what_interrupts_write() {
    for (id, takes) in [
        (ProfileId::Strict, false),
        // xen_set_pte() asks xen_get_lazy_mode(), which is none in an interrupt.
        (ProfileId::XenPv, false),
        (ProfileId::S390, true),
        // The stores are done; only flushes of the TLB wait.
        (ProfileId::PowerpcHash, false),
        (ProfileId::Sparc64, false),
        // The store is done; only a barrier waits.
        (ProfileId::Arm64, false),
    ] {
        assert_eq!(id.profile().queue.takes_interrupts, takes, "{id:?}");
    }
}

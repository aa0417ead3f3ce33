//! What a finding says of itself: what the example shows, and why it breaks on a profile or does not.

#![allow(clippy::unwrap_used)]

mod support;

use lazymmu_abi::{Context, Flags, Kind, Level, Op, Record};
use lazymmu_hazard::profile::ProfileId::{self, Arm64, PowerpcHash, S390, Strict, XenPv};
use lazymmu_hazard::profile::{Does, Ops, Row};
use lazymmu_hazard::{Class, Example, ProfileVerdict, Proof, without_suffixes};
use support::{ForkNames, Log, On, PRESENT, entry, task};

const A: On = task(100, 0);
const B: On = task(200, 1);

fn classes(part: &dyn Fn(&mut Log)) -> Vec<Class> {
    let mut log = Log::default();
    part(&mut log);
    log.run().classes(&ForkNames)
}

/// What the first finding says of a profile.
fn said(part: &dyn Fn(&mut Log), profile: ProfileId) -> ProfileVerdict {
    classes(part)[0].profiles[profile as usize].clone()
}

fn example(part: &dyn Fn(&mut Log)) -> Example {
    let mut log = Log::default();
    part(&mut log);
    log.run().occurrences[0].first
}

#[track_caller]
fn says(verdict: &ProfileVerdict, breaks: bool, why: &str) {
    assert!(verdict.why.contains(why), "{}", verdict.why);
    assert_eq!((verdict.breaks, verdict.verified), (breaks, true), "{}", verdict.why);
}

#[test]
fn a_read_by_another_task() {
    let remote: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT).read(B, 5, PRESENT);
    };
    says(
        &said(remote, S390),
        true,
        "cache of the lazy MMU mode; the accessors look only into the cache of their own",
    );
    says(&said(remote, XenPv), true, "queued as a hypercall; the read looks at memory");
    says(&said(remote, Strict), true, "; a read looks at memory");
    says(&said(remote, PowerpcHash), false, "stored at once");
    // What the other task wrote itself is in its own cache.
    let changed: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT).set(B, 5, PRESENT).read(B, 5, PRESENT);
    };
    says(&said(changed, S390), false, "looks into the cache first");
    says(&said(changed, XenPv), true, "the read looks at memory");
}

#[test]
fn what_the_task_does_itself() {
    let own: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT).read(A, 5, PRESENT);
    };
    says(&said(own, S390), false, "looks into the cache first");
    let try_set: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT).rmw(A, Op::PtepTrySet, 5, 1, 0);
    };
    says(&said(try_set, S390), false, "s390 has no ptep_try_set()");
    let by_another: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT).rmw(B, Op::PtepTrySet, 5, 1, 0);
    };
    says(&said(by_another, S390), false, "s390 has no ptep_try_set()");
}

#[test]
fn what_an_interrupt_does_after_it_flushed() {
    let irq = A.in_context(Context::Hardirq);
    let set_pmd: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).write(A, Op::SetPmd, entry(5), 1, PRESENT).write(irq, Op::SetPmd, entry(5), 1, 0);
    };
    says(&said(set_pmd, XenPv), false, "the queue was emptied between the write and the access");
}

#[test]
fn what_nobody_looked_up_is_marked() {
    let old = A.without_counters();
    let written: &dyn Fn(&mut Log) = &|log| {
        log.enter(old).set(old.in_context(Context::Softirq), 9, 0);
    };
    let arm64 = said(written, Arm64);
    assert!(arm64.breaks && !arm64.verified, "{}", arm64.why);
    assert!(said(written, PowerpcHash).verified);
}

/// An address of the kernel that the entry with that index may map.
const fn kernel(index: u64) -> u64 {
    0xffff_c900_0000_0000 + (index << 12)
}

fn fault(log: &mut Log, address: u64) {
    let flags = Flags::VALUE;
    log.push(A, Kind::Fault, 0, Record { entry: address, value: 2, flags, ..Record::default() });
}

#[test]
fn a_use_and_a_flush_of_the_tlb() {
    let used: &dyn Fn(&mut Log) = &|log| {
        fault(log.enter(A).set(A, 5, PRESENT & !4), kernel(5));
    };
    says(&said(used, XenPv), true, "the mapping is not there before the hypervisor has stored the entry");
    says(&said(used, PowerpcHash), false, "the entry is stored at once; only the flush");
    assert_eq!(said(used, Arm64).why, "the barriers after stores to kernel mappings wait");
    let class = &classes(used)[0];
    assert_eq!((class.level, class.access.op), (Some(Level::Pte), Kind::Fault.name()));

    let flushed: &dyn Fn(&mut Log) = &|log| {
        let (value, flags) = (0x7f00_0000_6000, Flags::VALUE | Flags::MEMORY);
        let record = Record { entry: 0x7f00_0000_5000, value, flags, ..Record::default() };
        log.enter(A).set(A, 5, PRESENT).push(A, Kind::TlbFlush, 0, record);
    };
    says(&said(flushed, XenPv), false, "the flush is queued behind the stores");
    says(&said(flushed, Arm64), false, "the entry is stored at once");
    let class = &classes(flushed)[0];
    assert_eq!((class.level, class.access.op), (Some(Level::Pte), Kind::TlbFlush.name()));
}

#[test]
fn the_level_is_that_of_the_access() {
    let read_as_pmd: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).set(A, 5, PRESENT);
        let record = Record { entry: entry(5), count: 1, level: Level::Pmd as u8, ..Record::default() };
        log.push(A, Kind::Read, Op::PmdpGet as u8, record);
    };
    assert_eq!(classes(read_as_pmd)[0].level, Some(Level::Pmd));
    let left: &dyn Fn(&mut Log) = &|log| {
        log.enter(A).push(A, Kind::TaskExit, 0, Record::default());
    };
    assert_eq!(classes(left)[0].access.op, Kind::TaskExit.name());
}

/// An error code is not what the entry held, even if the fault's address should be that of the entry.
#[test]
fn an_error_code_is_no_value() {
    let address = kernel(5) + 5 * 8;
    let used = example(&|log| {
        fault(log.enter(A).write(A, Op::SetPte, address, 1, PRESENT & !4), address);
    });
    assert_eq!((used.seen, used.memory, used.proof), (None, None, Proof::NotCompared));
}

#[test]
fn a_write_got_nothing_but_memory_is_known() {
    let overtaken = example(&|log| {
        log.enter(A).write(A, Op::SetPud, entry(5), 1, PRESENT).write(A, Op::SetPudAt, entry(5), 1, 0);
        let last = log.records.last_mut().unwrap();
        (last.memory, last.flags) = (7, last.flags | Flags::MEMORY);
    });
    assert_eq!((overtaken.seen, overtaken.memory), (None, Some(7)));
    assert_eq!(overtaken.proof, Proof::NotCompared);
}

#[test]
fn memory_is_that_of_the_first_entry() {
    let of = |index: u64| {
        example(&|log| {
            log.enter(A).set(A, 5, PRESENT).rmw(A, Op::ClearFullPtes, index, 8, 0);
            let last = log.records.last_mut().unwrap();
            (last.memory, last.flags) = (7, last.flags | Flags::MEMORY);
        })
        .memory
    };
    assert_eq!((of(5), of(4)), (Some(7), None));
}

/// A finding about an access names its entry; one about something else has none.
#[test]
fn the_entry_is_named_where_there_is_one() {
    let arch = |log: &mut Log| {
        let flags = Flags::VALUE | Flags::MEMORY;
        log.push(A, Kind::Section, Op::ArchEnter as u8, Record { value: 1, flags, ..Record::default() });
    };
    let other = B.on_cpu(0);
    for access in [
        &(|log: &mut Log| {
            log.set(other, 9, PRESENT);
        }) as &dyn Fn(&mut Log),
        &|log| {
            log.read(other, 9, PRESENT);
        },
        &|log| {
            log.rmw(other, Op::PtepGetAndClear, 9, 1, PRESENT);
        },
    ] {
        let found = example(&|log| {
            arch(log);
            access(log);
        });
        assert_eq!(found.entry.map(|at| at.0), Some(entry(9)));
    }
    let blocked = example(&|log| {
        log.enter(A).push(A, Kind::Switch, Op::Blocked as u8, Record::default());
    });
    assert_eq!(blocked.entry, None);
}

#[test]
fn only_what_follows_a_name_is_a_suffix() {
    assert_eq!(without_suffixes("copy_pte_range.isra.0"), "copy_pte_range");
    assert_eq!(without_suffixes(".L42"), ".L42");
}

fn row(profile: ProfileId, op: Op) -> &'static Row {
    let names = |row: &&Row| match row.ops {
        Ops::These(ops) => ops.contains(&op),
        Ops::Rest(kind) => kind == op.info().kind,
    };
    profile.profile().rows.iter().find(names).unwrap()
}

/// Rows that only say why differ from the rest in nothing else.
#[test]
fn operations_with_a_reason_of_their_own() {
    for op in [Op::SetPmd, Op::SetPmdAt, Op::PmdClear, Op::SetPud, Op::PudClear] {
        assert!(row(XenPv, op).why.contains("pinned"), "{op:?}");
    }
    assert!(row(XenPv, Op::ModifyProtCommit).why.contains("keeps the accessed and dirty bits"));
    let none = row(S390, Op::PtepTrySet);
    assert!(none.does == Does::Nothing && none.why.contains("has no ptep_try_set()"));
}

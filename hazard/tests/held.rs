//! Writes that the kernel side kept back come late and tell the same.

mod support;

use lazymmu_abi::{Flags, Kind, LeftOut, Op, Record};
use lazymmu_hazard::Outcome;
use lazymmu_hazard::profile::ProfileId::{Strict, XenPv};
use support::{Log, On, PRESENT, found, task};

const A: On = task(100, 0);
const B: On = task(200, 1);

/// Moves the record at `from` to before that at `to`, as the kernel side does, and counts it in the record after them that
/// ends the section.
fn hold(log: &mut Log, from: usize, to: usize) {
    let write = log.records[from];
    let flags = write.flags & !Flags::MEMORY | Flags::HELD | Flags::MEMORY;
    let held = Record { time: log.records[to].time, memory: write.time, flags, ..write };
    log.records.insert(to, held);
    log.records.remove(from);
    let end =
        log.records[to..].iter_mut().find(|record| record.op == Op::Leave as u8 && record.tid == write.tid);
    if let Some(end) = end {
        let count = u32::from(write.count);
        end.entry = LeftOut { accesses: 1, changed: count, pending: count }.packed();
    }
}

/// What must not depend on how it came.
fn counts(outcome: &Outcome) -> String {
    let found: Vec<_> = outcome
        .occurrences
        .iter()
        .map(|found| (found.place, found.breaks, found.count, found.first))
        .collect();
    let statistics = &outcome.statistics;
    let all =
        (statistics.in_sections, statistics.entries_written, statistics.batch_sizes, statistics.max_pending);
    format!("{found:#?} {all:?}")
}

#[test]
fn a_write_that_comes_late_is_what_it_was() {
    for (count, reader) in [(1, A), (16, A), (1, B), (16, B)] {
        let mut log = Log::default();
        log.enter(B).enter(A).write(A, Op::SetPtes, support::entry(3), count, PRESENT).set(A, 40, PRESENT);
        log.read(reader, 3, PRESENT).rmw(A, Op::PtepGetAndClear, 3, 1, PRESENT).leave(A).leave(B);
        let told = log.run();
        assert_eq!(found(&told).len(), 2, "{:?}", found(&told));
        hold(&mut log, 2, 4);
        assert_eq!(counts(&log.run()), counts(&told));
    }
}

#[test]
fn what_nothing_comes_upon_is_only_counted() {
    let mut log = Log::default();
    log.enter(A).write(A, Op::SetPtes, support::entry(3), 16, PRESENT).leave(A);
    let told = log.run();
    log.records.remove(1);
    log.records[1].entry = LeftOut { accesses: 1, changed: 16, pending: 16 }.packed();
    assert_eq!(counts(&log.run()), counts(&told));
    assert_eq!(told.statistics.batch_sizes.largest, 16);
}

#[test]
fn a_flush_in_between_makes_it_void() {
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).mode(A, Op::Flush, 1, 0, 9).read(A, 3, PRESENT).leave(A);
    assert!(found(&log.run()).is_empty());
    hold(&mut log, 1, 3);
    assert!(found(&log.run()).is_empty());
    // Nor is it of a section that its task entered since, or of none.
    for again in [false, true] {
        let mut log = Log::default();
        log.enter(B).enter(A).set(A, 3, PRESENT).leave(A);
        if again {
            log.enter(A);
        }
        log.read(B, 3, PRESENT);
        let last = log.records.len() - 1;
        hold(&mut log, 2, last);
        assert!(found(&log.run()).is_empty(), "{again}");
    }
}

#[test]
fn what_settled_in_between_has_settled() {
    // A switch empties the queue of a Xen PV guest.
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).switch(A, 1).read(A, 3, PRESENT).leave(A);
    let told = log.run();
    hold(&mut log, 1, 3);
    let late = log.run();
    assert_eq!(counts(&late), counts(&told));
    let breaks = late.occurrences[0].breaks;
    assert!(breaks.has(Strict) && !breaks.has(XenPv));
}

#[test]
fn a_held_record_of_no_write_is_unknown() {
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).read(A, 3, PRESENT).leave(A);
    hold(&mut log, 1, 2);
    log.records[1].op = Op::PtepGet as u8;
    let outcome = log.run();
    assert_eq!((found(&outcome), outcome.statistics.unknown), (Vec::new(), 1));
}

#[test]
fn what_was_made_at_the_time_of_another_record_came_after_it() {
    // With its section.
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).read(A, 3, PRESENT).leave(A);
    hold(&mut log, 1, 2);
    log.records[1].memory = log.records[0].time;
    assert_eq!(found(&log.run()), [("read-pending", 1)]);
    // And a switch of that time came after the write.
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).switch(A, 1).read(A, 3, PRESENT).leave(A);
    hold(&mut log, 1, 3);
    log.records[2].memory = log.records[1].time;
    assert!(!log.run().occurrences[0].breaks.has(XenPv));
}

#[test]
fn what_settled_before_has_nothing_to_do_with_it() {
    let mut log = Log::default();
    log.enter(A).set(A, 9, PRESENT).switch(A, 1).set(A, 3, PRESENT).rmw(
        A,
        Op::PtepGetAndClear,
        3,
        1,
        PRESENT,
    );
    log.read(A, 3, PRESENT).leave(A);
    let told = log.run();
    hold(&mut log, 3, 4);
    let late = log.run();
    let breaks = |outcome: &Outcome| outcome.occurrences.iter().map(|found| found.breaks).collect::<Vec<_>>();
    assert_eq!(breaks(&late), breaks(&told));
}

#[test]
fn a_section_is_not_wasted_by_what_is_only_counted() {
    let mut log = Log::default();
    for _ in 0..20 {
        log.enter(A).leave(A);
        let last = log.records.len() - 1;
        log.records[last].entry = LeftOut { accesses: 2, changed: 2, pending: 2 }.packed();
    }
    assert_eq!(found(&log.run()), []);
}

#[test]
fn what_is_only_counted_is_told_at_the_end_of_a_task_too() {
    for accesses in [0, 3] {
        let mut log = Log::default();
        let entry = LeftOut { accesses, changed: 0, pending: 0 }.packed();
        log.enter(A).push(A, Kind::TaskExit, 0, Record { entry, ..Record::default() });
        assert_eq!(log.run().statistics.in_sections, u64::from(accesses));
    }
}

#[test]
fn what_was_made_before_all_was_forgotten_is_forgotten_too() {
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT);
    let lost = Record { value: 1, flags: Flags::VALUE, ..Record::default() };
    log.push(A, Kind::Lost, Kind::Write as u8, lost).read(A, 3, PRESENT).leave(A);
    assert_eq!(found(&log.run()), []);
    hold(&mut log, 1, 3);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn what_was_made_in_the_section_before_is_of_no_other() {
    // The places of sections that are over are used again: the second of A is not where the first was.
    let mut log = Log::default();
    log.enter(A).set(A, 3, PRESENT).leave(A).enter(B).enter(A).read(A, 3, PRESENT).leave(A).leave(B);
    assert_eq!(found(&log.run()), []);
    let write = log.records.remove(1);
    let held =
        Record { time: log.records[4].time, memory: write.time, flags: write.flags | Flags::HELD, ..write };
    log.records.insert(4, held);
    assert_eq!(found(&log.run()), []);
}

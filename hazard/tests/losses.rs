//! What the engine says when it knows that it did not see everything: never more than it saw, and never "clean".

mod support;

use lazymmu_abi::{Flags, Kind, Op, Record};
use lazymmu_hazard::{Config, Engine, Gap, Reason, Verdict};
use support::{Log, PRESENT, entry, found, read_pending, task};

const A: support::On = task(100, 0);

#[test]
fn losses_hide_hazards_but_make_none_up() {
    let cases = [
        (Some(Kind::Section), 0),
        (None, 0),
        (Some(Kind::Write), 0),
        (Some(Kind::Rmw), 0),
        (Some(Kind::Switch), 0),
        (Some(Kind::TaskExit), 0),
        (Some(Kind::Read), 1),
        (Some(Kind::TlbFlush), 1),
    ];
    for (kind, expected) in cases {
        // On another CPU: the task may have been there and back.
        for cpu in [0, 5] {
            let mut log = Log::default();
            log.enter(A).set(A, 1, PRESENT).lost(cpu, kind, 3).read(A, 1, PRESENT).leave(A);
            let outcome = log.run();
            assert_eq!(outcome.occurrences.len(), expected, "{kind:?}");
            assert_eq!(outcome.reasons(), [Reason::Lost(3)], "{kind:?}");
            let verdict = if expected == 0 { Verdict::Inconclusive } else { Verdict::Hazards };
            assert_eq!(outcome.verdict(), verdict, "{kind:?}");
        }
    }
}

#[test]
fn after_a_lost_mode_call_a_task_counts_as_outside_until_it_enters() {
    let mut log = Log::default();
    log.enter(A).lost(0, Some(Kind::Section), 1).set(A, 1, PRESENT).read(A, 1, PRESENT);
    assert_eq!(read_pending(&log), 0);
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT);
    assert_eq!(read_pending(&log), 1);
}

#[test]
fn after_a_lost_write_the_section_goes_on() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).lost(0, Some(Kind::Write), 1).set(A, 2, PRESENT).read(A, 2, PRESENT);
    assert_eq!(read_pending(&log), 1);
}

#[test]
fn a_lost_stack_leaves_the_verdict_alone() {
    let mut log = Log::default();
    log.enter(A).lost(0, Some(Kind::Stack), 4).leave(A);
    let outcome = log.run();
    assert_eq!(outcome.verdict(), Verdict::Clean);
    assert_eq!(outcome.losses.total(), 4);
}

#[test]
fn losses_of_unknown_number_are_told_apart() {
    let mut log = Log::default();
    log.enter(A).lost(Record::ANY_CPU, None, 0);
    let outcome = log.run();
    assert_eq!(outcome.reasons(), [Reason::LostUncounted(1)]);
    assert_eq!(outcome.verdict(), Verdict::Inconclusive);
}

#[test]
fn counters_that_the_calls_do_not_explain_are_a_finding_and_a_reason_for_doubt() {
    for (enable, pause, rule) in [(3, 0, "section-leak"), (2, 1, "pause-misuse")] {
        let mut log = Log::default();
        log.enter(A).set(A, 1, PRESENT).mode(A, Op::Enter, enable, pause, 9).read(A, 1, PRESENT);
        let outcome = log.run();
        assert_eq!(found(&outcome), [(rule, 1)]);
        assert_eq!(outcome.reasons(), [Reason::Resynced(1)]);
        assert_eq!(outcome.verdict(), Verdict::Hazards);
    }
}

#[test]
fn counters_of_a_task_that_was_elsewhere_are_only_a_reason_for_doubt() {
    // What happened there may be lost, and that CPU has not told of it yet.
    let mut log = Log::default();
    log.enter(A).switch(A, 200).mode(A, Op::Enter, 3, 0, 9);
    let outcome = log.run();
    assert_eq!((found(&outcome), outcome.verdict()), (Vec::new(), Verdict::Inconclusive));
    let mut log = Log::default();
    log.enter(A).lost(0, Some(Kind::Switch), 2).mode(A, Op::Enter, 3, 0, 9);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn where_a_flush_may_have_gone_unseen_nobody_is_accused() {
    // Either softirqs are off and this enter did nothing, or a leave was never recorded.
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).mode(A, Op::Enter, 1, 0, 9).read(A, 1, PRESENT);
    assert_eq!(log.run().verdict(), Verdict::Clean);
}

#[test]
fn gaps_that_the_caller_knows_of() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT);
    let mut engine = Engine::new(Config::default());
    engine.process_all(&log.records);
    engine.gap(Gap::Damaged);
    engine.gap(Gap::Damaged);
    let mut rest = Log::default();
    rest.read(A, 1, PRESENT);
    engine.process_all(&rest.records);
    let outcome = engine.finish();
    assert_eq!(outcome.reasons(), [Reason::Gap(Gap::Damaged)]);
    assert_eq!(outcome.verdict(), Verdict::Inconclusive);
}

#[test]
fn what_is_unknown_is_counted_and_leaves_the_verdict_open() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).leave(A);
    for (kind, op) in [(200, 1), (Kind::Read as u8, 31), (Kind::Section as u8, Op::PtepGet as u8)] {
        log.records.push(Record { kind, op, flags: Flags::VALUE, ..Record::default() });
    }
    let outcome = log.run();
    assert_eq!(outcome.statistics.unknown, 3);
    assert_eq!(outcome.reasons(), [Reason::Unknown(3)]);
}

#[test]
fn a_full_table_is_told() {
    let mut log = Log::default();
    log.enter(A).write(A, Op::SetPtes, entry(0), 6, PRESENT).write(A, Op::SetPtes, entry(8), 6, PRESENT);
    log.read(A, 8, PRESENT).leave(A);
    let mut engine = Engine::new(Config { max_pending: 8, ..Config::default() });
    engine.process_all(&log.records);
    let outcome = engine.finish();
    assert_eq!(outcome.reasons(), [Reason::TableFull(1)]);
    assert_eq!(outcome.verdict(), Verdict::Inconclusive);
}

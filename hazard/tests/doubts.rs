//! What the engine says of sections that it may not know whole, and of the CPUs on which they ran.

mod support;

use lazymmu_abi::{Flags, Kind, Op, Record};
use lazymmu_hazard::Outcome;
use lazymmu_hazard::profile::ProfileId::{Arm64, Strict, XenPv};
use lazymmu_hazard::profile::ProfileMask;
use support::{Log, On, PRESENT, entry, found, read_pending, task};

const A: On = task(100, 0);
/// Comes in on the CPU of the first one.
const B: On = task(200, 0);

fn arch_enter(log: &mut Log, on: On) {
    let flags = Flags::VALUE | Flags::MEMORY;
    log.push(on, Kind::Section, Op::ArchEnter as u8, Record { value: 1, flags, ..Record::default() });
}

/// A call that does nothing, of a task outside.
fn call(log: &mut Log, on: On) {
    log.mode(on, Op::Flush, 0, 0, 9);
}

/// An enter without effect: softirqs are off, or a leave is missing.
fn doubt(log: &mut Log, on: On) {
    log.mode(on, Op::Enter, 1, 0, 9);
}

/// The section ends on another CPU than that on which it wrote.
fn ended_elsewhere(
    before: &dyn Fn(&mut Log),
    write: &dyn Fn(&mut Log),
    between: &dyn Fn(&mut Log),
) -> Outcome {
    let mut log = Log::default();
    before(&mut log);
    log.enter(A);
    arch_enter(&mut log, A);
    write(&mut log);
    log.switch(A, B.tid);
    between(&mut log);
    log.leave(A.on_cpu(1));
    log.run()
}

fn set(log: &mut Log) {
    log.set(A, 5, PRESENT);
}

#[test]
fn a_mode_left_behind_is_told_once_the_cpu_went_on() {
    let nothing = |_: &mut Log| {};
    assert_eq!(found(&ended_elsewhere(&nothing, &set, &nothing)), [], "the switch may be about to leave it");
    let told = ended_elsewhere(&nothing, &set, &|log| call(log, B));
    assert_eq!(found(&told), [("switch-in-section", 1)]);
    let joins = |log: &mut Log| {
        log.rmw(A, Op::WrprotectPtes, 5, 1, PRESENT);
    };
    assert_eq!(found(&ended_elsewhere(&nothing, &joins, &|log| call(log, B))), [], "no write waits");
    let in_doubt = |log: &mut Log| {
        doubt(log, A);
        set(log);
    };
    assert_eq!(found(&ended_elsewhere(&nothing, &in_doubt, &|log| call(log, B))), []);
}

#[test]
fn what_a_task_in_doubt_does_says_only_that_the_cpu_went_on() {
    let before = |log: &mut Log| {
        log.enter(B);
        doubt(log, B);
        log.switch(B, A.tid);
    };
    let read = |log: &mut Log| {
        log.read(B, 9, PRESENT);
    };
    let outcome = ended_elsewhere(&before, &set, &read);
    assert_eq!(found(&outcome), [("switch-in-section", 1)]);
    assert_eq!(outcome.occurrences[0].first.task.tid(), A.tid, "it is not said that the mode is another's");
}

#[test]
fn what_a_task_in_doubt_may_not_have_agreed_with_is_not_told_at_the_next_call() {
    for in_doubt in [false, true] {
        let mut log = Log::default();
        log.enter(A);
        arch_enter(&mut log, A);
        log.switch(A, B.tid).enter(B);
        if in_doubt {
            doubt(&mut log, B);
        }
        log.read(B, 9, PRESENT);
        arch_enter(&mut log, B);
        let expected: &[(&str, u64)] = if in_doubt { &[] } else { &[("switch-in-section", 1)] };
        assert_eq!(found(&log.run()), expected);
    }
}

#[test]
fn the_first_call_of_all_may_be_that_of_a_switch() {
    // The architecture enters the mode for the task that comes in, before that is the current one.
    let mut log = Log::default();
    log.switch(A, B.tid);
    arch_enter(&mut log, A);
    assert_eq!(found(&log.read(B, 9, PRESENT).run()), []);
}

#[test]
fn what_was_queued_on_the_cpu_that_flushes_is_not_left_behind() {
    let mut log = Log::default();
    log.enter(A);
    arch_enter(&mut log, A);
    log.set(A, 5, PRESENT).switch(A, B.tid);
    call(&mut log, B);
    // The switch back was not told yet.
    log.leave(A);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn counters_that_do_not_follow_are_told_of_a_section_that_is_known() {
    let gap = |log: &mut Log| {
        log.mode(A, Op::Enter, 3, 0, 9);
    };
    let mut log = Log::default();
    log.enter(A).switch(A, B.tid).mode(A, Op::Flush, 1, 0, 9);
    gap(&mut log);
    assert_eq!(found(&log.run()), [("section-leak", 1)], "since its last call it was not away");
    let mut log = Log::default();
    log.enter(A);
    doubt(&mut log, A);
    gap(&mut log);
    assert_eq!(found(&log.run()), [], "in doubt already");
    let mut log = Log::default();
    log.enter(A).mode(A, Op::Pause, 1, 255, 9);
    assert_eq!(found(&log.run()), [], "counted below zero: what came before is told by itself");
}

#[test]
fn a_task_that_turns_up_elsewhere_is_inside_only_when_the_counters_say_so() {
    let there = A.on_cpu(3);
    let use_of = |log: &mut Log, on: On| {
        log.set(on, 5, PRESENT).read(on, 5, PRESENT);
    };
    let strayed = || {
        let mut log = Log::default();
        log.enter(A);
        use_of(&mut log, there);
        log
    };
    assert_eq!(read_pending(&strayed()), 0);
    for (on, expected) in [(there, 1), (there.without_counters(), 0)] {
        let mut log = Log::default();
        log.enter(On { counters: on.counters, ..A }).set(on, 9, PRESENT).mode(on, Op::Flush, 1, 0, 9);
        use_of(&mut log, on);
        assert_eq!(read_pending(&log), expected);
    }
    let mut log = strayed();
    log.leave(there).enter(there);
    use_of(&mut log, there);
    assert_eq!(read_pending(&log), 1, "the next section is another");
}

/// Xen queues set_pud() and not set_pud_at(), so both wait, each for its own. The barrier of arm64 is that of the later.
#[test]
fn a_use_comes_too_early_for_the_last_write_of_each_queue() {
    let value = PRESENT & !(1 << 2);
    let mut log = Log::default();
    for op in [Op::SetPud, Op::SetPudAt] {
        if op == Op::SetPud {
            log.enter(A);
        }
        log.write(A, op, entry(5), 1, value);
    }
    let address = 0xffff_c900_0000_0000 + (5 << 30);
    log.push(
        A,
        Kind::Fault,
        0,
        Record { entry: address, value: 2, flags: Flags::VALUE, ..Record::default() },
    );
    let outcome = log.run();
    let of = |op: Op| {
        let mut uses = outcome.occurrences.iter().filter(|found| found.place.access_kind == Kind::Fault);
        uses.find(|found| found.place.write_op == Some(op as u8)).map(|found| found.breaks)
    };
    assert_eq!(of(Op::SetPud), Some(ProfileMask::NONE.with(XenPv)));
    assert_eq!(of(Op::SetPudAt), Some(ProfileMask::NONE.with(Strict).with(Arm64)));
}

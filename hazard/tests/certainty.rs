//! What the engine may say at which moment: a hazard between two tasks is certain only when nothing can be missing in
//! between, and what is not known of a section is not counted.

mod support;

use lazymmu_abi::{Context, Kind, Op, Record};
use lazymmu_hazard::{Config, CpuId, Engine, Gap, Outcome, Reason, TaskId, Verdict};
use support::{Log, On, PRESENT, STACK_WRITE, entry, found, task};

const A: On = task(100, 0);
const B: On = task(200, 1);
const C: On = task(300, 2);
const OLD: On = A.without_counters();

fn engine(log: &Log) -> Engine {
    let mut engine = Engine::new(Config::default());
    engine.process_all(&log.records);
    engine
}

fn id(on: On) -> TaskId {
    TaskId::of(&Record { tid: on.tid, ..Record::default() })
}

fn exit(log: &mut Log, on: On) {
    log.push(on, Kind::TaskExit, 0, Record::default());
}

/// A writes, B reads what waits.
fn between_two_tasks() -> Log {
    let mut log = Log::default();
    log.enter(A).set(A, 5, PRESENT).read(B, 5, PRESENT);
    log
}

#[test]
fn the_writers_next_record_makes_it_certain() {
    let mut log = between_two_tasks();
    assert!(engine(&log).occurrences().is_empty(), "a flush may be missing");
    assert_eq!(found(&log.run()), [("remote-read-pending", 1)], "at the end nothing more can come");
    log.read(B, 6, 0);
    assert!(engine(&log).occurrences().is_empty(), "the reader knows nothing of it");
    log.leave(A);
    assert_eq!(engine(&log).occurrences().len(), 1);
    log.lost(0, None, 1);
    assert_eq!(found(&log.run()), [("remote-read-pending", 1)], "what is certain stays so");
}

#[test]
fn a_loss_before_that_withdraws_it() {
    for kind in [Some(Kind::Write), Some(Kind::Switch), Some(Kind::Section), None] {
        let mut log = between_two_tasks();
        log.lost(0, kind, 1).leave(A);
        assert_eq!(found(&log.run()), [], "{kind:?}");
    }
}

#[test]
fn doubt_about_one_writer_is_none_about_another() {
    let with_another = || {
        let mut log = between_two_tasks();
        log.enter(C).set(C, 700, PRESENT).read(B, 700, PRESENT);
        log
    };
    let doubts: [&dyn Fn(&mut Log); 2] = [
        // An enter without effect: a flush may have gone unseen.
        &|log| {
            log.mode(A, Op::Enter, 1, 0, 9);
        },
        // The task is elsewhere, and no record told of a switch.
        &|log| {
            log.set(A.on_cpu(3), 9, PRESENT);
        },
    ];
    for doubt in doubts {
        let mut log = with_another();
        doubt(&mut log);
        let outcome = log.run();
        let writers: Vec<_> =
            outcome.occurrences.iter().map(|found| found.first.write.unwrap().task.tid()).collect();
        assert_eq!((found(&outcome), writers), (vec![("remote-read-pending", 1)], vec![C.tid]));
    }
}

#[test]
fn who_watches_possible_hazards_is_told_at_once() {
    for eager in [true, false] {
        let mut engine = Engine::new(Config::default());
        if eager {
            engine.watch_possible();
        } else {
            engine.watch();
        }
        engine.process_all(&between_two_tasks().records);
        assert_eq!(engine.take_hazards().len(), usize::from(eager));
        engine.end();
        assert_eq!(engine.take_hazards().len(), usize::from(!eager));
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut log = between_two_tasks();
    for _ in 0..5000 {
        log.read(B, 5, PRESENT);
    }
    assert_eq!(found(&log.run()), [("remote-read-pending", 4096)]);
}

#[test]
fn a_section_is_known_from_enter_to_leave() {
    let mut log = Log::default();
    log.mode(A, Op::Leave, 0, 0, 9);
    assert!(!engine(&log).in_section(id(A)), "a leave opens nothing");
    log.enter(A);
    let inside = engine(&log);
    assert!(inside.in_section(id(A)) && !inside.in_section(id(B)));
    exit(&mut log, A);
    assert!(!engine(&log).in_section(id(A)), "the task is no more");
}

#[test]
fn a_name_is_known_until_the_task_ends() {
    let mut log = Log::default();
    log.push(
        A,
        Kind::TaskName,
        0,
        Record { entry: u64::from_le_bytes(*b"first\0\0\0"), ..Record::default() },
    );
    let name = engine(&log).name_of(id(A)).map(|name| name.to_string());
    assert_eq!(name.as_deref(), Some("first"));
    exit(&mut log, A);
    assert_eq!(engine(&log).name_of(id(A)), None);
}

#[test]
fn only_damage_makes_forget_and_a_gap_is_told_once() {
    for (gap, expected) in [(Gap::Damaged, 0), (Gap::CutOff, 1), (Gap::Coverage, 1)] {
        let mut log = Log::default();
        log.enter(A).set(A, 1, PRESENT);
        let mut engine = engine(&log);
        engine.gap(gap);
        engine.gap(gap);
        let mut rest = Log::default();
        engine.process_all(&rest.read(A, 1, PRESENT).records);
        let outcome = engine.finish();
        assert_eq!((outcome.occurrences.len(), outcome.gaps.as_slice()), (expected, &[gap][..]));
    }
}

#[test]
fn reasons_have_one_order_and_no_doubles() {
    let gaps = vec![Gap::Coverage, Gap::Damaged, Gap::Coverage];
    let reasons = Outcome { gaps, ..Outcome::default() }.reasons();
    assert_eq!(reasons, [Reason::Gap(Gap::Damaged), Reason::Gap(Gap::Coverage)]);
}

#[test]
fn losses_are_counted_where_they_were() {
    let mut log = Log::default();
    log.lost(3, Some(Kind::Read), 2).lost(Record::ANY_CPU, Some(Kind::Read), 5);
    let losses = log.run().losses;
    let by_cpu: Vec<_> = losses.by_cpu.into_iter().collect();
    assert_eq!(by_cpu, [(None, 5), (Some(CpuId(3)), 2)]);
}

#[test]
fn what_interrupts_and_moves_are_is_counted() {
    let mut log = Log::default();
    log.enter(A).mode(A.in_context(Context::Softirq), Op::Enter, 1, 0, 9).leave(A.on_cpu(3));
    let statistics = log.run().statistics;
    assert_eq!((statistics.in_interrupts, statistics.moved), (1, 1));
}

#[test]
fn a_section_in_doubt_is_not_missed_at_the_end_of_its_task() {
    let mut log = Log::default();
    log.enter(A).mode(A, Op::Enter, 1, 0, 9);
    exit(&mut log, A);
    assert_eq!(found(&log.run()), [], "a leave may have had no effect, or was not recorded");
}

#[test]
fn where_a_section_was_entered_is_known_only_if_that_was_seen() {
    let mut log = Log::default();
    log.mode(A, Op::Leave, 1, 0, STACK_WRITE).set(A, 1, PRESENT).read(A, 1, PRESENT);
    let classes = log.run().classes(&support::ForkNames);
    assert_eq!(classes[0].opener.as_ref().unwrap().function, "[unknown]", "the leave is not where");
}

/// Twenty sections of one call path.
fn sections(part: &dyn Fn(&mut Log)) -> Vec<(&'static str, u64)> {
    let mut log = Log::default();
    for _ in 0..20 {
        log.enter(A);
        part(&mut log);
        log.leave(A);
    }
    found(&log.run())
}

#[test]
fn sections_of_which_something_is_not_known_are_not_called_wasted() {
    assert_eq!(sections(&|_| {}), [("wasted-section", 5)]);
    let in_doubt = |log: &mut Log| {
        log.mode(A, Op::Enter, 1, 0, 9);
    };
    assert_eq!(sections(&in_doubt), []);
    let mut log = Log::default();
    for _ in 0..20 {
        log.mode(A, Op::Enter, 1, 0, 0).leave(A);
    }
    assert_eq!(found(&log.run()), [], "who entered is not known");
}

#[test]
fn a_flush_of_nothing_is_no_flush() {
    let two_and_idle_flushes = |log: &mut Log| {
        log.mode(A, Op::Flush, 1, 0, 9).mode(A, Op::Flush, 1, 0, 9).set(A, 1, 1).set(A, 2, 1);
    };
    assert_eq!(sections(&two_and_idle_flushes), []);
}

#[test]
fn nests_are_told_once_and_end_with_their_task() {
    let mut log = Log::default();
    log.enter(OLD).enter(OLD).leave(OLD).leave(OLD).enter(OLD).leave(OLD);
    assert_eq!(found(&log.run()), [("nested-section", 1)], "the section after them is another");
    let mut log = Log::default();
    log.enter(OLD).enter(OLD).leave(OLD).leave(OLD).leave(OLD);
    assert_eq!(found(&log.run()), [("nested-section", 1), ("section-leak", 1)], "then the task is outside");

    // Another task with the same id.
    let mut log = Log::default();
    log.enter(OLD).enter(OLD);
    exit(&mut log, OLD);
    log.leave(OLD).leave(OLD);
    assert_eq!(found(&log.run()), [("section-leak", 1)], "that at the exit");
    let mut log = Log::default();
    log.enter(OLD).leave(OLD);
    exit(&mut log, OLD);
    log.leave(OLD);
    assert_eq!(log.run().verdict(), Verdict::Clean);
}

#[test]
fn a_nest_of_a_task_that_moved_without_a_word_is_not_told() {
    let there = OLD.on_cpu(3);
    let mut log = Log::default();
    log.enter(OLD).enter(OLD).set(there, 5, PRESENT).leave(there).leave(there);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn an_interrupt_is_not_accused_of_the_mode_that_its_task_found() {
    let flags = lazymmu_abi::Flags::VALUE | lazymmu_abi::Flags::MEMORY;
    let record = Record { value: 1, flags, ..Record::default() };
    let mut log = Log::default();
    log.enter(A).push(A, Kind::Section, Op::ArchEnter as u8, record).switch(A, 200);
    log.write(B.on_cpu(0).in_context(Context::Hardirq), Op::SetPtes, entry(9), 1, PRESENT);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn an_interrupt_in_a_section_in_doubt_is_not_accused() {
    let there = OLD.on_cpu(3);
    let mut log = Log::default();
    log.enter(OLD).set(there, 5, PRESENT).set(there.in_context(Context::Softirq), 9, 0);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn a_pause_in_doubt_is_not_held_against_a_task_that_ends() {
    let there = A.on_cpu(3);
    let mut log = Log::default();
    log.enter(A).mode(A, Op::Pause, 1, 1, 9).set(there, 9, PRESENT);
    exit(&mut log, there);
    assert_eq!(found(&log.run()), []);
}

#[test]
fn a_resume_too_many_is_told_once() {
    let mut log = Log::default();
    log.enter(A).mode(A, Op::Resume, 1, 255, 9).mode(A, Op::Leave, 1, 255, 9).mode(A, Op::Enter, 1, 255, 9);
    assert_eq!(found(&log.run()), [("pause-misuse", 1)]);
}

#[test]
fn what_happens_inside_a_pause() {
    let paused = || {
        let mut log = Log::default();
        log.enter(A).mode(A, Op::Pause, 1, 1, 9);
        log
    };
    // This leave had its effect: the counters do not follow, but it was not left while paused.
    let mut log = paused();
    log.mode(A, Op::Leave, 0, 0, 9);
    assert!(found(&log.run()).iter().all(|(rule, _)| *rule != "pause-misuse"));
    // A resume without effect leaves it in doubt which enter a leave belongs to.
    let mut log = paused();
    log.mode(A, Op::Resume, 1, 1, 9).mode(A, Op::Leave, 1, 1, 9);
    assert_eq!(found(&log.run()), []);
    // The second leave is that of the section outside.
    let mut log = paused();
    log.mode(A, Op::Enter, 1, 1, 9).mode(A, Op::Leave, 1, 1, 9).mode(A, Op::Leave, 1, 1, 9);
    assert_eq!(found(&log.run()), [("pause-misuse", 1)]);
}

#[test]
fn a_counter_is_full_only_if_it_was_counted_up() {
    let enter = |log: &mut Log, count: u64| {
        log.mode(A, Op::Enter, count, 0, 9);
    };
    // The second has no effect.
    let mut log = Log::default();
    enter(&mut log, 255);
    enter(&mut log, 255);
    assert_eq!(found(&log.run()), []);
    enter(&mut log, 0);
    assert_eq!(found(&log.run()), [], "nor is what comes after that certain");
    let mut log = Log::default();
    enter(&mut log, 10);
    enter(&mut log, 255);
    assert_eq!(found(&log.run()), [], "enters are missing");
}

#[test]
fn nine_of_ten_are_nearly_all() {
    let mut log = Log::default();
    for section in 0..20 {
        log.enter(A);
        if section < 2 {
            log.set(A, 1, 1).set(A, 2, 1);
        }
        log.leave(A);
    }
    assert_eq!(found(&log.run()), [("wasted-section", 1)], "18 of 20");
}

#[test]
fn a_switch_explains_one_move() {
    // Back on the same CPU, and on another.
    for back in [0, 4] {
        let back = A.on_cpu(back);
        let mut log = Log::default();
        log.enter(A).switch(A, 200).set(back, 5, PRESENT);
        assert_eq!(found(&log.read(back, 5, PRESENT).run()), [("read-pending", 1)]);
        let mut log = Log::default();
        log.enter(A).switch(A, 200).set(back, 5, PRESENT).read(A.on_cpu(3), 5, PRESENT);
        assert_eq!((found(&log.run()), log.run().statistics.moved), (Vec::new(), 1));
    }
}

#[test]
fn a_section_has_nothing_of_the_one_before_it() {
    let mut log = Log::default();
    log.enter(A).leave(A).enter(B).set(B, 5, PRESENT).read(B, 5, PRESENT).leave(B);
    let outcome = log.run();
    assert_eq!((found(&outcome), outcome.statistics.moved), (vec![("read-pending", 1)], 0));
}

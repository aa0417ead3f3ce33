//! What the engine says of small, known histories.

mod support;

use lazymmu_abi::{Context, Kind, Op, Record};
use lazymmu_hazard::profile::ProfileId;
use lazymmu_hazard::{Arch, Config, Engine, Proof, State, TaskName, Verdict};
use support::{ForkNames, Log, PRESENT, entry, found, read_pending, task};

const A: support::On = task(100, 0);
const B: support::On = task(200, 1);

/// A part of a history, by name.
type Part<'a> = (&'a str, &'a dyn Fn(&mut Log));

#[test]
fn the_fork_of_a_device_exclusive_range() {
    let mut log = Log::default();
    log.enter(A).set(A, 7, PRESENT).read(A, 7, PRESENT).rmw(A, Op::WrprotectPtes, 7, 1, PRESENT).leave(A);
    let outcome = log.run();
    assert_eq!(outcome.verdict(), Verdict::Hazards);
    assert!(outcome.reasons().is_empty());
    let classes = outcome.classes(&ForkNames);
    let [read, rmw] = &classes[..] else { panic!("{classes:?}") };

    assert_eq!(read.rule.info().name, "read-pending");
    assert_eq!(read.write.as_ref().unwrap().function, "restore_exclusive_pte");
    assert_eq!((read.access.function.as_str(), read.access.op), ("copy_pte_range", "ptep_get"));
    assert_eq!(read.opener.as_ref().unwrap().function, "copy_pte_range");
    assert_eq!((read.count, read.proven, read.state), (1, 0, State::Latent));
    assert_eq!((read.example.pending, read.example.seen), (Some(PRESENT), Some(PRESENT)));

    assert_eq!(rmw.rule.info().name, "rmw-pending");
    assert_eq!((rmw.access.function.as_str(), rmw.access.op), ("__copy_present_ptes", "wrprotect_ptes"));

    for class in &classes {
        let breaks: Vec<_> =
            class.profiles.iter().filter(|line| line.breaks).map(|line| line.profile).collect();
        assert_eq!(breaks, [ProfileId::Strict, ProfileId::XenPv], "{}", class.rule.info().name);
        assert!(class.profiles.iter().all(|line| line.verified && !line.why.is_empty()));
        let arm64 = &class.profiles[ProfileId::Arm64 as usize];
        assert!(arm64.why.contains("stored at once"), "{}", arm64.why);
    }
}

#[test]
fn a_flush_of_any_sort_ends_what_is_pending() {
    let nested = |log: &mut Log| {
        log.mode(A, Op::Enter, 2, 0, 9).set(A, 1, PRESENT).mode(A, Op::Leave, 1, 0, 9);
    };
    let flushed: [Part; 5] = [
        ("leave", &|log| {
            log.set(A, 1, PRESENT).leave(A).enter(A);
        }),
        ("inner leave", &nested),
        ("flush", &|log| {
            log.set(A, 1, PRESENT).mode(A, Op::Flush, 1, 0, 9);
        }),
        ("pause", &|log| {
            log.set(A, 1, PRESENT).mode(A, Op::Pause, 1, 1, 9);
        }),
        ("pause and resume", &|log| {
            log.set(A, 1, PRESENT).mode(A, Op::Pause, 1, 1, 9).mode(A, Op::Resume, 1, 0, 9);
        }),
    ];
    for (name, part) in flushed {
        let mut log = Log::default();
        log.enter(A);
        part(&mut log);
        log.read(A, 1, PRESENT);
        assert_eq!(read_pending(&log), 0, "{name}");
    }
}

#[test]
fn what_does_not_flush_leaves_it_pending() {
    let kept: [Part; 4] = [
        ("inner enter", &|log| {
            log.mode(A, Op::Enter, 2, 0, 9);
        }),
        ("another task's leave", &|log| {
            log.enter(B).leave(B);
        }),
        ("a mode call from an interrupt", &|log| {
            let irq = A.in_context(Context::Hardirq);
            log.mode(irq, Op::Enter, 1, 0, 9).mode(irq, Op::Leave, 1, 0, 9).mode(irq, Op::Flush, 1, 0, 9);
        }),
        ("a switch to another task and back", &|log| {
            log.switch(A, 200).switch(B.on_cpu(0), 100);
        }),
    ];
    for (name, part) in kept {
        let mut log = Log::default();
        log.enter(A).set(A, 1, PRESENT);
        part(&mut log);
        log.read(A, 1, PRESENT);
        assert_eq!(read_pending(&log), 1, "{name}");
    }
}

#[test]
fn while_paused_nothing_waits() {
    let mut log = Log::default();
    log.enter(A).mode(A, Op::Pause, 1, 1, 9).set(A, 1, PRESENT).read(A, 1, PRESENT);
    log.mode(A, Op::Resume, 1, 0, 9).read(A, 1, PRESENT).set(A, 1, PRESENT).read(A, 1, PRESENT);
    assert_eq!(read_pending(&log), 1, "only what was written after the resume");
}

#[test]
fn outside_a_section_nothing_waits() {
    let mut log = Log::default();
    log.set(A, 1, PRESENT).read(A, 1, PRESENT).enter(A).read(A, 1, PRESENT);
    assert_eq!(log.run().verdict(), Verdict::Clean);
}

#[test]
fn a_context_switch_empties_the_queue_of_xen_only() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).switch(A, 200).read(A.on_cpu(3), 1, PRESENT);
    let classes = log.run().classes(&ForkNames);
    let breaks: Vec<_> =
        classes[0].profiles.iter().filter(|line| line.breaks).map(|line| line.profile).collect();
    assert_eq!(breaks, [ProfileId::Strict]);
    let xen = &classes[0].profiles[ProfileId::XenPv as usize];
    assert!(xen.why.contains("context switch"), "{}", xen.why);
}

#[test]
fn what_breaks_once_breaks() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT).switch(A, 200).read(A, 1, PRESENT);
    let classes = log.run().classes(&ForkNames);
    assert_eq!((classes.len(), classes[0].count), (1, 2));
    assert!(classes[0].profiles[ProfileId::XenPv as usize].breaks, "the first read came before the switch");
}

#[test]
fn a_task_that_moved_without_a_word_is_not_accused() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A.on_cpu(3), 1, PRESENT);
    assert_eq!(read_pending(&log), 0);
}

#[test]
fn other_tasks_and_interrupts_are_not_the_writer() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT);
    log.read(B, 1, PRESENT).read(A.in_context(Context::Softirq), 1, PRESENT);
    log.rmw(B, Op::PtepGetAndClear, 1, 1, PRESENT);
    let outcome = log.run();
    assert_eq!(found(&outcome), [("irq-access", 1), ("remote-read-pending", 1), ("rmw-pending", 1)]);
    assert_eq!(outcome.statistics.in_interrupts, 1);
}

#[test]
fn writes_from_an_interrupt_are_not_pending() {
    let mut log = Log::default();
    log.enter(A).set(A.in_context(Context::Hardirq), 1, PRESENT).read(A, 1, PRESENT);
    assert_eq!(log.run().verdict(), Verdict::Clean);
}

#[test]
fn idle_tasks_of_two_cpus_are_not_mixed_up() {
    let (idle0, idle1) = (task(0, 0), task(0, 1));
    let mut log = Log::default();
    log.enter(idle0).set(idle0, 1, PRESENT).enter(idle1).leave(idle1).read(idle0, 1, PRESENT);
    assert_eq!(read_pending(&log), 1);
}

#[test]
fn a_write_of_many_entries_is_pending_at_each() {
    for (index, expected) in [(9, 0), (10, 1), (17, 1), (18, 0)] {
        let mut log = Log::default();
        log.enter(A).write(A, Op::SetPtes, entry(10), 8, PRESENT).read(A, index, 0).leave(A);
        assert_eq!(read_pending(&log), expected, "entry {index}");
    }
}

#[test]
fn the_value_of_entry_i_is_that_of_page_i() {
    let at = |first: u64, index: u64, value: u64| {
        let mut log = Log::default();
        log.enter(A).write(A, Op::SetPtes, entry(0), 8, first).read(A, index, value);
        log.run().occurrences[0].first
    };
    let third = at(PRESENT, 3, PRESENT + 0x3000);
    assert_eq!((third.proof, third.pending), (Proof::Same, Some(PRESENT + 0x3000)));
    assert_eq!(at(PRESENT, 3, PRESENT).proof, Proof::Different);
    // A PROT_NONE entry has its frame number inverted.
    let none = 0x000f_ffff_fedc_b100;
    assert_eq!(at(none, 2, none - 0x2000).proof, Proof::Same);
}

#[test]
fn clearing_many_entries_puts_zero_into_each() {
    let mut log = Log::default();
    log.enter(A).write(A, Op::ClearNotPresentFullPtes, entry(0), 8, 0).read(A, 5, 0);
    let example = log.run().occurrences[0].first;
    assert_eq!((example.pending, example.proof), (Some(0), Proof::Same));
}

#[test]
fn a_stale_value_is_proof_and_hardware_bits_are_not() {
    let proof = |seen: u64| {
        let mut log = Log::default();
        log.enter(A).set(A, 1, PRESENT).read(A, 1, seen);
        let outcome = log.run();
        (outcome.occurrences[0].first.proof, outcome.classes(&ForkNames)[0].state)
    };
    assert_eq!(proof(PRESENT), (Proof::Same, State::Latent));
    assert_eq!(proof(PRESENT & !0x60), (Proof::Same, State::Latent), "accessed and dirty");
    assert_eq!(proof(0x7c00_0000_0012_3400), (Proof::Different, State::Proven));
}

#[test]
fn values_of_an_unknown_architecture_prove_nothing() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A, 1, 0);
    let mut engine = Engine::new(Config { arch: Arch::from_machine("s390x"), ..Config::default() });
    engine.process_all(&log.records);
    let outcome = engine.finish();
    assert_eq!(outcome.occurrences[0].first.proof, Proof::NotCompared);
    assert_eq!(outcome.verdict(), Verdict::Hazards);
}

#[test]
fn values_prove_nothing_after_something_else_changed_the_entry() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).rmw(A, Op::WrprotectPtes, 1, 1, PRESENT).read(A, 1, PRESENT & !2);
    let outcome = log.run();
    let read = outcome.occurrences.iter().find(|found| found.place.access_op == Op::PtepGet as u8).unwrap();
    assert_eq!((read.first.proof, read.proven), (Proof::NotCompared, 0));
}

#[test]
fn the_old_value_of_a_read_modify_write_is_compared() {
    let proof = |old: u64| {
        let mut log = Log::default();
        log.enter(A).set(A, 1, PRESENT).rmw(A, Op::PtepGetAndClear, 1, 1, old);
        log.run().occurrences[0].first.proof
    };
    assert_eq!(proof(PRESENT), Proof::Same);
    assert_eq!(proof(0), Proof::Different);
}

#[test]
fn a_read_modify_write_of_many_entries_is_one_hazard_per_write() {
    let mut log = Log::default();
    log.enter(A).write(A, Op::SetPtes, entry(2), 4, PRESENT).set(A, 8, PRESENT);
    log.rmw(A, Op::ClearFullPtes, 0, 16, 0);
    let outcome = log.run();
    assert_eq!(found(&outcome), [("rmw-pending", 2)]);
    assert_eq!(outcome.occurrences[0].first.proof, Proof::NotCompared, "the value is that of entry 0");
}

#[test]
fn operations_that_end_in_a_queued_store_are_pending() {
    for op in [Op::PtepSetAccessFlags, Op::PtepClear, Op::ClearYoungDirty] {
        let mut log = Log::default();
        log.enter(A).rmw(A, op, 1, 1, PRESENT).read(A, 1, PRESENT);
        assert_eq!(read_pending(&log), 1, "{op:?}");
    }
    let mut log = Log::default();
    log.enter(A).rmw(A, Op::PtepSetWrprotect, 1, 1, PRESENT).read(A, 1, PRESENT & !2);
    assert_eq!(log.run().verdict(), Verdict::Clean, "done at once");
}

#[test]
fn the_same_hazard_a_million_times_is_kept_once() {
    let mut log = Log::default();
    log.enter(A);
    for index in 0..1000 {
        log.set(A, index % 512, PRESENT).read(A, index % 512, PRESENT);
    }
    let outcome = log.run();
    assert_eq!(found(&outcome), [("read-pending", 1000)]);
    assert_eq!(outcome.occurrences[0].first.time.0, 200, "since the first record");
    assert_eq!(outcome.occurrences[0].first.write.unwrap().time.0, 100);
}

#[test]
fn call_paths_of_one_bug_are_one_class() {
    let mut log = Log::default();
    for stack in [support::STACK_READ, support::STACK_ENTER] {
        log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT);
        log.records.last_mut().unwrap().stack = stack;
        log.leave(A);
    }
    let outcome = log.run();
    assert_eq!(outcome.occurrences.len(), 2);
    let classes = outcome.classes(&ForkNames);
    assert_eq!((classes.len(), classes[0].paths, classes[0].count), (1, 2, 2));
    // The fingerprint is a promise to baselines and suppressions: it may not change between versions.
    assert_eq!(format!("{:016x}", classes[0].fingerprint), "03924765cfa94d94");
}

#[test]
fn unknown_stacks_have_a_class_of_their_own() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT);
    log.records.last_mut().unwrap().stack = 77;
    assert_eq!(log.run().classes(&ForkNames)[0].access.function, "[unknown]");
}

#[test]
fn a_proven_example_is_shown_before_a_latent_one() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT).set(A, 2, PRESENT).read(A, 2, 0);
    let class = &log.run().classes(&ForkNames)[0];
    assert_eq!((class.count, class.proven, class.state), (2, 1, State::Proven));
    assert_eq!(class.example.seen, Some(0));
}

#[test]
fn a_call_path_with_a_proven_hazard_is_shown_before_the_others() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT).set(A, 2, PRESENT).read(A, 2, 0);
    log.records.last_mut().unwrap().stack = support::STACK_ENTER;
    let outcome = log.run();
    assert_eq!(outcome.occurrences.len(), 2);
    let classes = outcome.classes(&ForkNames);
    assert_eq!(classes.len(), 1);
    assert_eq!(classes[0].access.stack.0, support::STACK_ENTER);
    assert_eq!(classes[0].example.seen, Some(0));
}

#[test]
fn the_old_value_of_an_operation_is_not_taken_for_the_new() {
    let mut log = Log::default();
    log.enter(A).rmw(A, Op::PtepSetAccessFlags, 1, 1, PRESENT & !2).read(A, 1, PRESENT);
    let example = log.run().occurrences[0].first;
    assert_eq!((example.pending, example.proof), (None, Proof::NotCompared));
}

#[test]
fn the_name_of_a_task_that_ended_is_forgotten() {
    let mut log = Log::default();
    let name = Record { entry: u64::from_le_bytes(*b"first\0\0\0"), ..Record::default() };
    log.push(A, Kind::TaskName, 0, name).push(A, Kind::TaskExit, 0, Record::default());
    log.enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT);
    assert_eq!(log.run().occurrences[0].first.name, None);
}

#[test]
fn the_task_is_named() {
    let mut log = Log::default();
    let name = Record {
        entry: u64::from_le_bytes(*b"fork-exc"),
        value: u64::from_le_bytes(*b"lusive\0\0"),
        ..Record::default()
    };
    log.push(A, Kind::TaskName, 0, name).enter(A).set(A, 1, PRESENT).read(A, 1, PRESENT);
    let example = log.run().occurrences[0].first;
    assert_eq!(example.name.as_ref().map(TaskName::to_string).as_deref(), Some("fork-exclusive"));
    assert_eq!(example.task.tid(), 100);
}

#[test]
fn a_capture_that_begins_inside_a_section_accuses_nobody() {
    let mut log = Log::default();
    log.set(A, 1, PRESENT).read(A, 1, PRESENT).leave(A);
    assert_eq!(log.run().verdict(), Verdict::Clean);

    // The counters of an inner leave tell that the section goes on.
    let mut log = Log::default();
    log.set(A, 1, PRESENT)
        .mode(A, Op::Leave, 1, 0, 9)
        .read(A, 1, PRESENT)
        .set(A, 2, PRESENT)
        .read(A, 2, PRESENT);
    let outcome = log.run();
    assert_eq!(found(&outcome), [("read-pending", 1)]);
    assert_eq!(outcome.classes(&ForkNames)[0].opener.as_ref().unwrap().function, "[unknown]");
}

#[test]
fn without_counters_the_calls_are_followed() {
    let old = A.without_counters();
    let mut log = Log::default();
    log.enter(old).set(old, 1, PRESENT).read(old, 1, PRESENT).leave(old).read(old, 1, PRESENT);
    assert_eq!(read_pending(&log), 1);

    // There is no nesting: the inner leave ends it all.
    let mut log = Log::default();
    log.enter(old).enter(old).set(old, 1, PRESENT).leave(old).read(old, 1, PRESENT).set(old, 2, PRESENT);
    log.read(old, 2, PRESENT).leave(old);
    let outcome = log.run();
    assert_eq!(found(&outcome), [("nested-section", 1)], "and nothing is pending after the inner leave");
    assert_eq!((outcome.statistics.sections, outcome.statistics.nested_enters), (1, 1));
}

#[test]
fn a_task_that_ended_leaves_nothing_behind() {
    let mut log = Log::default();
    log.enter(A).set(A, 1, PRESENT).push(A, Kind::TaskExit, 0, Record::default());
    // Another task with the same id.
    log.read(A, 1, PRESENT);
    assert_eq!(found(&log.run()), [("section-leak", 1)]);
}

#[test]
fn statistics_count_what_happened() {
    let mut log = Log::default();
    log.enter(A).write(A, Op::SetPtes, entry(0), 6, PRESENT).mode(A, Op::Flush, 1, 0, 9);
    log.mode(A, Op::Enter, 2, 0, 9).mode(A, Op::Leave, 1, 0, 9).mode(A, Op::Pause, 1, 1, 9);
    log.mode(A, Op::Resume, 1, 0, 9).set(A, 0, PRESENT).set(A, 1, PRESENT).leave(A).read(A, 0, PRESENT);
    let statistics = log.run().statistics;
    assert_eq!(statistics.records, 11);
    assert_eq!(statistics.of_kind(Kind::Section), 7);
    assert_eq!(statistics.in_sections, 3);
    assert_eq!((statistics.sections, statistics.nested_enters, statistics.deepest), (1, 1, 2));
    assert_eq!((statistics.pauses, statistics.flushes), (1, 1));
    assert_eq!((statistics.entries_written, statistics.max_pending), (8, 6));
    let batches = statistics.batch_sizes;
    assert_eq!((batches.batches, batches.empty, batches.entries, batches.largest), (2, 2, 8, 6));
}

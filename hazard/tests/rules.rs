//! Each rule fires on the smallest history that breaks it, is silent on the correct twin, and is silent where records
//! are missing.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use lazymmu_abi::{Context, Flags, Kind, Level, Op, Record};
use lazymmu_hazard::profile::ProfileId::{self, Arm64, PowerpcHash, S390, Sparc64, Strict, XenPv};
use lazymmu_hazard::{Outcome, Verdict};
use support::{ForkNames, Log, On, PRESENT, entry, found, task};

const A: On = task(100, 0);
const B: On = task(200, 1);
/// The same task on a kernel before 7.0.
const OLD: On = A.without_counters();
const OLD_B: On = B.without_counters();

type Part<'a> = &'a dyn Fn(&mut Log);

/// Ends a part that is one line.
fn done(_: &mut Log) {}

fn run(parts: &[Part]) -> Outcome {
    let mut log = Log::default();
    for part in parts {
        part(&mut log);
    }
    log.run()
}

/// The history in two parts: what is known of the section, and what goes wrong. Between them everything may be lost.
fn breaks(rule: &str, profiles: &[ProfileId], before: Part, wrong: Part) {
    let outcome = run(&[before, wrong]);
    assert_eq!(found(&outcome), [(rule, 1)]);
    assert_eq!(outcome.reasons(), []);
    let classes = outcome.classes(&ForkNames);
    let broken = classes[0].profiles.iter().filter(|line| line.breaks).map(|line| line.profile);
    assert_eq!(broken.collect::<Vec<_>>(), profiles, "{rule}");
    assert!(classes[0].profiles.iter().all(|line| !line.why.is_empty()));
}

fn silent_after_losses(before: Part, wrong: Part, kinds: &[Option<Kind>]) {
    for kind in kinds {
        for cpu in [0, 1, Record::ANY_CPU] {
            let outcome = run(&[before, &|log| done(log.lost(cpu, *kind, 3)), wrong]);
            assert_eq!(found(&outcome), [], "{kind:?} on {cpu}");
            assert_eq!(outcome.verdict(), Verdict::Inconclusive, "{kind:?} on {cpu}");
        }
    }
}

fn silent(parts: &[Part]) {
    let outcome = run(parts);
    assert_eq!((found(&outcome), outcome.verdict()), (Vec::new(), Verdict::Clean));
}

/// Without these nothing is certain of what is pending.
const OF_PENDING: &[Option<Kind>] = &[
    None,
    Some(Kind::Section),
    Some(Kind::Write),
    Some(Kind::Rmw),
    Some(Kind::Switch),
    Some(Kind::TaskExit),
];
/// Without these nothing is certain of a section.
const OF_SECTIONS: &[Option<Kind>] = &[None, Some(Kind::Section), Some(Kind::TaskExit), Some(Kind::Lost)];

fn enter_and_set(log: &mut Log) {
    log.enter(A).set(A, 5, PRESENT);
}

#[test]
fn remote_read_pending() {
    let wrong: Part = &|log| done(log.read(B, 5, PRESENT));
    breaks("remote-read-pending", &[Strict, XenPv, S390], &enter_and_set, wrong);
    silent_after_losses(&enter_and_set, wrong, OF_PENDING);
    silent(&[&enter_and_set, &|log| done(log.leave(A)), wrong]);
    silent(&[&enter_and_set, &|log| done(log.read(B, 6, PRESENT))]);
}

#[test]
fn on_s390_accessors_look_into_the_cache_of_their_own_section() {
    for cpu in [0, 1] {
        let outcome = run(&[&enter_and_set, &|log| done(log.read(B.on_cpu(cpu), 5, PRESENT))]);
        let why = &outcome.classes(&ForkNames)[0].profiles[S390 as usize].why;
        assert!(why.contains("their own section"), "{why}");
    }
}

#[test]
fn a_change_by_another_task_is_rmw_pending() {
    let wrong: Part = &|log| done(log.rmw(B, Op::PtepGetAndClear, 5, 1, PRESENT));
    breaks("rmw-pending", &[Strict, XenPv, S390], &enter_and_set, wrong);
    silent_after_losses(&enter_and_set, wrong, OF_PENDING);
    silent(&[&enter_and_set, &|log| done(log.rmw(B, Op::PtepGetAndClear, 6, 1, PRESENT))]);
}

#[test]
fn write_reorder() {
    let set_pud: Part = &|log| done(log.enter(A).write(A, Op::SetPud, entry(5), 1, PRESENT));
    let overtakes: Part = &|log| done(log.write(A, Op::SetPudAt, entry(5), 1, 0));
    breaks("write-reorder", &[Strict, XenPv], set_pud, overtakes);
    silent_after_losses(set_pud, overtakes, OF_PENDING);
    silent(&[set_pud, &|log| done(log.leave(A)), overtakes]);
    // Of another task it is not certain that it is in no section.
    silent(&[set_pud, &|log| done(log.write(B, Op::SetPudAt, entry(5), 1, 0))]);
    silent(&[set_pud, &|log| done(log.write(A, Op::SetPud, entry(5), 1, 0))]);
    silent(&[set_pud, &|log| done(log.write(A, Op::SetPudAt, entry(6), 1, 0))]);
}

fn raw(log: &mut Log, kind: Kind, op: Op, index: u64) {
    let (level, flags) = (Level::Pte as u8, Flags::VALUE);
    log.push(A, kind, op as u8, Record { entry: entry(index), count: 1, level, flags, ..Record::default() });
}

#[test]
fn raw_access() {
    for (kind, op) in [(Kind::Read, Op::RawRead), (Kind::Write, Op::RawWrite)] {
        let wrong: Part = &|log| raw(log, kind, op, 5);
        breaks("raw-access", &[Strict, XenPv, S390], &enter_and_set, wrong);
        silent_after_losses(&enter_and_set, wrong, OF_PENDING);
        silent(&[&enter_and_set, &|log| raw(log, kind, op, 6)]);
    }
}

/// An address that the entry with that index may map.
const fn mapped_by(index: u64) -> u64 {
    0xffff_c900_0000_0000 + (index << 12)
}

fn fault(log: &mut Log, index: u64) {
    let record = Record { entry: mapped_by(index), value: 2, flags: Flags::VALUE, ..Record::default() };
    log.push(A, Kind::Fault, 0, record);
}

#[test]
fn use_before_flush() {
    // Bit 2 is that of user space.
    let map: Part = &|log| done(log.enter(A).set(A, 5, PRESENT & !(1 << 2)));
    let wrong: Part = &|log| fault(log, 5);
    breaks("use-before-flush", &[Strict, XenPv, Arm64], map, wrong);
    silent_after_losses(map, wrong, OF_PENDING);
    silent(&[map, &|log| done(log.leave(A)), wrong]);
    silent(&[map, &|log| fault(log, 6)]);
    // The page of a process, and an entry that maps nothing, are not what a kernel address needs.
    silent(&[&enter_and_set, wrong]);
    silent(&[&|log| done(log.enter(A).set(A, 5, 0)), wrong]);
    // A context switch has a barrier on arm64 and flushes on Xen.
    let outcome = run(&[map, &|log| done(log.switch(A, 200)), wrong]);
    assert!(!outcome.occurrences[0].breaks.has(Arm64) && !outcome.occurrences[0].breaks.has(XenPv));
    assert_eq!(outcome.occurrences[0].first.seen, None, "an error code is no entry");
}

fn tlb_flush(log: &mut Log, on: On, from: u64, to: u64) {
    let flags = Flags::VALUE | Flags::MEMORY;
    // Of a process.
    let address = |index: u64| 0x7f00_0000_0000 + (index << 12);
    let record = Record { entry: address(from), value: address(to), flags, ..Record::default() };
    log.push(on, Kind::TlbFlush, 0, record);
}

#[test]
fn tlb_before_flush() {
    let wrong: Part = &|log| tlb_flush(log, A, 3, 9);
    breaks("tlb-before-flush", &[Strict], &enter_and_set, wrong);
    silent_after_losses(&enter_and_set, wrong, OF_PENDING);
    silent(&[&enter_and_set, &|log| done(log.leave(A)), wrong]);
    silent(&[&enter_and_set, &|log| tlb_flush(log, A, 6, 9)]);
    silent(&[&enter_and_set, &|log| tlb_flush(log, B, 3, 9)]);
    silent(&[&|log| done(log.enter(A).set(A, 5, PRESENT & !(1 << 2))), wrong]);
    let clear: Part = &|log| done(log.enter(A).set(A, 5, 0));
    breaks("tlb-before-flush", &[Strict], clear, wrong);
    let outcome = run(&[&enter_and_set, wrong]);
    let xen = &outcome.classes(&ForkNames)[0].profiles[XenPv as usize];
    assert!(xen.why.contains("queued behind"), "{}", xen.why);
}

#[test]
fn nested_section() {
    let before: Part = &|log| done(log.enter(OLD).enter(OLD));
    let wrong: Part = &|log| done(log.leave(OLD).set(OLD, 5, PRESENT).leave(OLD));
    breaks("nested-section", &[Strict], before, wrong);
    silent_after_losses(before, wrong, OF_SECTIONS);
    silent(&[&|log| done(log.enter(OLD).leave(OLD).enter(OLD).leave(OLD))]);
    // With counters nesting is right.
    silent(&[&|log| {
        log.enter(A).mode(A, Op::Enter, 2, 0, 9).mode(A, Op::Leave, 1, 0, 9).set(A, 5, PRESENT).leave(A);
    }]);
    // A leave that was never recorded looks the same up to here.
    silent(&[before, &|log| done(log.leave(OLD).set(OLD, 5, PRESENT).enter(OLD).leave(OLD))]);
    // Several inner sections, one after the other.
    let second: Part = &|log| done(log.leave(OLD).enter(OLD));
    assert_eq!(found(&run(&[before, second, wrong])), [("nested-section", 1)]);
}

fn arch(log: &mut Log, on: On, op: Op) {
    let (value, memory) = if on.counters { (1, 0) } else { (u64::from(u32::MAX), u64::from(u32::MAX)) };
    let flags = Flags::VALUE | Flags::MEMORY;
    log.push(on, Kind::Section, op as u8, Record { value, memory, flags, ..Record::default() });
}

#[test]
fn switch_in_section() {
    let before: Part = &|log| arch(log, A, Op::ArchEnter);
    let wrong: Part = &|log| arch(log, A, Op::ArchEnter);
    breaks("switch-in-section", &[Strict, XenPv], before, wrong);
    silent_after_losses(before, wrong, &[None, Some(Kind::Section), Some(Kind::Switch)]);
    silent(&[before, &|log| arch(log, A, Op::ArchLeave), wrong]);

    let left: Part = &|log| arch(log, A, Op::ArchLeave);
    breaks("switch-in-section", &[Strict, XenPv], left, left);
    silent_after_losses(left, left, &[None, Some(Kind::Section), Some(Kind::Switch)]);
    silent(&[left]);
}

#[test]
fn the_mode_of_a_task_that_was_switched_out_is_not_that_of_the_next() {
    let b = B.on_cpu(0);
    let before: Part = &|log| {
        log.enter(A);
        arch(log, A, Op::ArchEnter);
        log.switch(A, 200);
    };
    breaks("switch-in-section", &[Strict, XenPv], before, &|log| done(log.set(b, 9, PRESENT)));
    silent_after_losses(before, &|log| done(log.set(b, 9, PRESENT)), &[None, Some(Kind::Switch)]);
    silent(&[before, &|log| arch(log, A, Op::ArchLeave), &|log| done(log.set(b, 9, PRESENT))]);
    // A switch by itself is what the contract allows.
    silent(&[&|log| done(log.enter(A).switch(A, 200).set(b, 9, PRESENT))]);
}

#[test]
fn before_7_0_an_architecture_may_count() {
    let old = |log: &mut Log, op| arch(log, OLD, op);
    silent(&[&|log| {
        for op in [Op::ArchEnter, Op::ArchEnter, Op::ArchLeave, Op::ArchLeave] {
            old(log, op);
        }
    }]);
    let wrong: Part = &|log| arch(log, OLD_B.on_cpu(0), Op::ArchEnter);
    breaks("switch-in-section", &[Strict, XenPv], &|log| old(log, Op::ArchEnter), wrong);
}

#[test]
fn irq_access_to_a_pending_entry() {
    let irq = A.in_context(Context::Softirq);
    for wrong in [
        &(|log: &mut Log| done(log.read(irq, 5, PRESENT))) as Part,
        &|log| done(log.rmw(irq, Op::PtepSetAccessFlags, 5, 1, PRESENT)),
        &|log| done(log.set(irq, 5, 0)),
    ] {
        let outcome = run(&[&enter_and_set, wrong]);
        assert_eq!(found(&outcome), [("irq-access", 1)]);
        assert!(outcome.occurrences[0].breaks.has(Strict) && outcome.occurrences[0].breaks.has(XenPv));
        silent_after_losses(&enter_and_set, wrong, OF_PENDING);
        silent(&[&enter_and_set, &|log| done(log.leave(A)), wrong]);
    }
    silent(&[&enter_and_set, &|log| done(log.set(irq, 6, 0))]);
}

#[test]
fn xen_flushes_before_some_writes_of_an_interrupt() {
    let irq = A.in_context(Context::Hardirq);
    let set_pmd = |on: On| move |log: &mut Log| done(log.write(on, Op::SetPmd, entry(5), 1, PRESENT));
    let outcome = run(&[&|log| done(log.enter(A)), &set_pmd(A), &set_pmd(irq)]);
    assert_eq!(found(&outcome), [("irq-access", 1)]);
    assert!(!outcome.occurrences[0].breaks.has(XenPv));
}

#[test]
fn before_7_0_the_mode_is_on_in_interrupts_too() {
    let irq = OLD.in_context(Context::Softirq);
    let before: Part = &|log| done(log.enter(OLD));
    for (profiles, wrong) in [
        (&[Strict, PowerpcHash, Arm64][..], &(|log: &mut Log| done(log.set(irq, 9, 0))) as Part),
        (&[Strict], &|log| done(log.leave(irq))),
    ] {
        breaks("irq-access", profiles, before, wrong);
        silent_after_losses(before, wrong, OF_SECTIONS);
        silent(&[before, &|log| done(log.leave(OLD)), wrong]);
    }
    let irq = A.in_context(Context::Softirq);
    silent(&[&|log| done(log.enter(A).set(irq, 9, 0).mode(irq, Op::Leave, 1, 0, 9))]);
}

#[test]
fn section_leak_below_zero() {
    let profiles = [Strict, XenPv, PowerpcHash, Sparc64, Arm64];
    let before: Part = &|log| done(log.enter(A).leave(A));
    let wrong: Part = &|log| done(log.mode(A, Op::Leave, 255, 0, 9));
    breaks("section-leak", &profiles, before, wrong);
    // The counter itself tells: no record is needed for that.
    assert_eq!(found(&run(&[wrong])), [("section-leak", 1)]);
    silent(&[&|log| done(log.mode(A, Op::Leave, 0, 0, 9))]);
    let outcome = run(&[&|log| done(log.enter(A).mode(A, Op::Leave, 255, 0, 9).set(A, 5, 0).read(A, 5, 0))]);
    assert_eq!(found(&outcome), [("section-leak", 1)], "what the kernel takes for a section is none");
}

#[test]
fn section_leak_without_counters() {
    let before: Part = &|log| done(log.enter(OLD).leave(OLD));
    let wrong: Part = &|log| done(log.leave(OLD));
    breaks("section-leak", &[Strict, XenPv, PowerpcHash, Sparc64, Arm64], before, wrong);
    silent_after_losses(before, wrong, OF_SECTIONS);
    silent(&[wrong]);
    silent(&[before, &|log| done(log.enter(OLD)), wrong]);
}

#[test]
fn section_leak_at_the_end_of_a_task() {
    for on in [A, OLD] {
        let before: Part = &|log| done(log.enter(on));
        let wrong: Part = &|log| done(log.push(on, Kind::TaskExit, 0, Record::default()));
        breaks("section-leak", &[Strict, XenPv, PowerpcHash, Sparc64, Arm64], before, wrong);
        silent_after_losses(before, wrong, OF_SECTIONS);
        silent(&[before, &|log| done(log.leave(on)), wrong]);
    }
}

#[test]
fn section_leak_above_the_highest() {
    // include/linux/pgtable.h:268, 7.2.13: the kernel warns if it holds U8_MAX before it counts up.
    let before: Part =
        &|log| done(log.mode(A, Op::Enter, 254, 0, 9).mode(A, Op::Enter, 255, 0, 9).set(A, 5, 0));
    let wrong: Part = &|log| done(log.mode(A, Op::Enter, 0, 0, 9).read(A, 5, 0));
    assert_eq!(found(&run(&[before])), []);
    let outcome = run(&[before, wrong]);
    assert_eq!(found(&outcome), [("section-leak", 1)]);
    silent_after_losses(before, wrong, OF_SECTIONS);
    // Paused, the same call counts nothing.
    let paused = run(&[before, &|log| done(log.mode(A, Op::Pause, 255, 1, 9).mode(A, Op::Enter, 255, 1, 9))]);
    assert_eq!((found(&paused), paused.reasons()), (Vec::new(), Vec::new()));
}

#[test]
fn sleep_in_section() {
    for on in [A, OLD] {
        let before: Part = &|log| done(log.enter(on));
        let switch =
            |op: Op| move |log: &mut Log| done(log.push(on, Kind::Switch, op as u8, Record::default()));
        breaks("sleep-in-section", &[Strict, S390, PowerpcHash, Sparc64], before, &switch(Op::Blocked));
        silent_after_losses(before, &switch(Op::Blocked), OF_SECTIONS);
        silent(&[before, &switch(Op::Preempted)]);
        silent(&[before, &|log| done(log.leave(on)), &switch(Op::Blocked)]);
    }
    silent(&[&|log| {
        log.enter(A).mode(A, Op::Pause, 1, 1, 9).push(A, Kind::Switch, Op::Blocked as u8, Record::default());
    }]);
}

#[test]
fn pause_misuse_below_zero() {
    let before: Part = &|log| done(log.enter(A));
    let wrong: Part = &|log| done(log.mode(A, Op::Resume, 1, 255, 9));
    breaks("pause-misuse", &[Strict, PowerpcHash, Sparc64], before, wrong);
    silent(&[before, &|log| done(log.mode(A, Op::Pause, 1, 1, 9).mode(A, Op::Resume, 1, 0, 9))]);
}

#[test]
fn pause_misuse_seen_at_an_enter() {
    let before: Part = &|log| done(log.enter(B).mode(B, Op::Leave, 0, 0, 9));
    for pauses in [255, 252, 128] {
        let wrong: Part = &|log| done(log.mode(A, Op::Enter, 0, pauses, 9));
        breaks("pause-misuse", &[Strict, PowerpcHash, Sparc64], before, wrong);
    }
    silent(&[before, &|log| done(log.mode(A, Op::Enter, 0, 127, 9).mode(A, Op::Leave, 0, 252, 9))]);
}

#[test]
fn pause_misuse_at_a_leave() {
    let before: Part = &|log| done(log.enter(A).mode(A, Op::Pause, 1, 1, 9));
    let wrong: Part = &|log| done(log.mode(A, Op::Leave, 1, 1, 9));
    breaks("pause-misuse", &[Strict, PowerpcHash, Sparc64], before, wrong);
    silent_after_losses(before, wrong, OF_SECTIONS);
    // A section that is entered and left while the mode is paused.
    silent(&[before, &|log| done(log.mode(A, Op::Enter, 1, 1, 9)), wrong]);
    silent(&[wrong]);
}

#[test]
fn pause_misuse_at_the_end_of_a_task() {
    let before: Part = &|log| done(log.enter(A).mode(A, Op::Pause, 1, 1, 9));
    let wrong: Part = &|log| done(log.push(A, Kind::TaskExit, 0, Record::default()));
    breaks("pause-misuse", &[Strict, PowerpcHash, Sparc64], before, wrong);
    silent_after_losses(before, wrong, OF_SECTIONS);
}

#[test]
fn pause_misuse_where_the_cpu_has_the_mode_off() {
    let before: Part = &|log| {
        arch(log, A, Op::ArchEnter);
        log.enter(A);
        arch(log, A, Op::ArchLeave);
    };
    let wrong: Part = &|log| done(log.set(A, 5, PRESENT));
    breaks("pause-misuse", &[Strict, PowerpcHash, Sparc64], before, wrong);
    silent_after_losses(before, wrong, OF_SECTIONS);
    silent(&[before, &|log| arch(log, A, Op::ArchEnter), wrong]);
}

#[test]
fn wasted_section() {
    let sections = |log: &mut Log, count: u64, writes: u64| {
        for _ in 0..count {
            log.enter(A);
            for index in 0..writes {
                log.set(A, index, PRESENT);
            }
            log.leave(A);
        }
    };
    let outcome = run(&[&|log| sections(log, 20, 1)]);
    assert_eq!(found(&outcome), [("wasted-section", 5)], "from the sixteenth on");
    assert_eq!(outcome.verdict(), Verdict::Clean, "advice is no hazard");
    assert!(outcome.classes(&ForkNames)[0].profiles.iter().all(|line| !line.breaks));
    assert_eq!(found(&run(&[&|log| sections(log, 15, 1)])), []);
    assert_eq!(found(&run(&[&|log| sections(log, 20, 2)])), []);
    assert_eq!(
        found(&run(&[&|log| sections(log, 15, 8), &|log| sections(log, 20, 1)])),
        [],
        "not nearly all"
    );
    let flushed = |log: &mut Log| {
        for _ in 0..20 {
            log.enter(A)
                .set(A, 1, 1)
                .mode(A, Op::Flush, 1, 0, 9)
                .set(A, 2, 1)
                .mode(A, Op::Flush, 1, 0, 9)
                .leave(A);
        }
    };
    assert_eq!(found(&run(&[&flushed])), [("wasted-section", 5)]);
    // Sections of which writes are missing are not counted.
    let lossy = |log: &mut Log| {
        for _ in 0..20 {
            log.enter(A).lost(0, Some(Kind::Write), 1).leave(A);
        }
    };
    assert_eq!(found(&run(&[&lossy])), []);
}

#[test]
fn a_task_that_moved_without_a_word_is_not_judged_by_its_calls() {
    silent(&[&|log| {
        log.enter(OLD)
            .leave(OLD)
            .enter(OLD)
            .set(OLD.on_cpu(3), 5, PRESENT)
            .leave(OLD.on_cpu(3))
            .leave(OLD.on_cpu(3));
    }]);
}

//! What only a look inside shows.

use lazymmu_abi::Flags;

use super::*;
use crate::profile::ProfileId;

fn record(kind: Kind, op: Op, value: u64) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    Record {
        tid: 1,
        entry: 0x1000,
        count: 1,
        value,
        kind: kind as u8,
        op: op as u8,
        flags,
        ..Record::default()
    }
}

/// No architecture flushes before an operation today, so the tables do not exercise it.
#[test]
fn an_operation_may_empty_the_queue_first_on_some_profiles() {
    let mut engine = Engine::new(Config::default());
    let flushes = ProfileMask::NONE.with(ProfileId::XenPv);
    engine.masks.flushes_first[Op::WrprotectPtes as usize] = flushes;
    engine.process(&record(Kind::Section, Op::Enter, 1));
    engine.process(&record(Kind::Write, Op::SetPtes, 5));
    engine.process(&record(Kind::Rmw, Op::WrprotectPtes, 5));
    engine.process(&record(Kind::Read, Op::PtepGet, 5));
    let breaks: Vec<_> = engine.occurrences().iter().map(|found| found.breaks).collect();
    let strict = ProfileMask::NONE.with(ProfileId::Strict);
    assert_eq!(breaks, [strict, strict], "the queue of xen-pv is empty for both");
}

/// Of what a write that comes late has to know, the last time for each set of profiles is enough.
#[test]
fn what_settles_is_kept_once_for_each_set_of_profiles() {
    let mut engine = Engine::new(Config::default());
    let enter = record(Kind::Section, Op::Enter, 1);
    engine.process(&Record { memory: 0, ..enter });
    let id = engine.sections.of(TaskId::of(&enter)).unwrap();
    let one = ProfileMask::NONE.with(ProfileId::XenPv);
    let two = one.with(ProfileId::Arm64);
    for (time, profiles) in [(5, one), (6, two), (7, one), (8, ProfileMask::NONE)] {
        engine.now = Nanos(time);
        engine.settle(id, profiles);
    }
    assert_eq!(engine.sections.get(id).settled, [(Nanos(7), one), (Nanos(6), two)]);
}

#[test]
fn a_watched_engine_tells_every_hazard_by_itself() {
    let mut engine = Engine::new(Config::default());
    engine.process(&record(Kind::Section, Op::Enter, 1));
    engine.process(&record(Kind::Write, Op::SetPtes, 5));
    engine.process(&record(Kind::Read, Op::PtepGet, 5));
    assert_eq!(engine.take_hazards(), [], "nobody asked for that one");
    engine.watch();
    for _ in 0..2 {
        engine.process(&Record { tgid: 7, ..record(Kind::Read, Op::PtepGet, 5) });
    }
    let hazards = engine.take_hazards();
    let parties: Vec<_> = hazards
        .iter()
        .map(|hazard| {
            (
                hazard.example.process,
                hazard.example.write.unwrap().process,
                hazard.example.write.unwrap().task.tid(),
            )
        })
        .collect();
    assert_eq!(parties, [(ProcessId(7), ProcessId(0), 1); 2]);
    assert_eq!(engine.take_hazards(), []);
    assert!(engine.in_section(TaskId::of(&record(Kind::Read, Op::PtepGet, 5))));
}

#[test]
fn a_section_that_ended_leaves_no_state() {
    let mut engine = Engine::new(Config::default());
    for _ in 0..1000 {
        engine.process(&record(Kind::Section, Op::Enter, 1));
        engine.process(&record(Kind::Write, Op::SetPtes, 5));
        engine.process(&record(Kind::Section, Op::Leave, 0));
    }
    assert!(engine.pending.is_empty());
    assert!(engine.sections.ids().is_empty());
}

#[test]
fn what_waits_nowhere_is_not_kept() {
    let mut engine = Engine::new(Config::default());
    engine.process(&record(Kind::Section, Op::Enter, 1));
    engine.process(&record(Kind::Rmw, Op::PtepClearFlush, 5));
    assert!(engine.pending.is_empty());
}

#[test]
fn what_only_joins_the_queue_of_an_architecture_is_kept_and_not_counted() {
    let interrupt = record(Kind::Write, Op::SetPtes, 5);
    let interrupt = Record { flags: interrupt.flags | Context::Softirq as u8, ..interrupt };
    for joins in [record(Kind::Rmw, Op::WrprotectPtes, 5), interrupt] {
        let mut engine = Engine::new(Config::default());
        engine.process(&record(Kind::Section, Op::Enter, 1));
        engine.process(&joins);
        let top = engine.pending.at(EntryAddr(0x1000)).unwrap();
        let write = engine.pending.write(top.write);
        let s390 = ProfileMask::NONE.with(ProfileId::S390);
        assert_eq!((write.waits, write.late), (s390, ProfileMask::NONE));
        assert_eq!((engine.statistics.entries_written, engine.pending.len()), (0, 0));
        engine.process(&Record { entry: 0x2000, ..record(Kind::Write, Op::SetPtes, 5) });
        assert_eq!((engine.statistics.entries_written, engine.pending.len()), (1, 1));
    }
}

/// In an interrupt of a task whose mode is off, what s390 would keep in the cache is stored, over all that waits.
#[test]
fn an_interrupt_where_the_mode_is_off_stores() {
    let of = |tid, record: Record| Record { tid, stack: u64::from(tid), ..record };
    for paused in [false, true] {
        let mut engine = Engine::new(Config::default());
        for tid in [1, 2] {
            engine.process(&of(tid, record(Kind::Section, Op::Enter, 1)));
            engine.process(&of(tid, record(Kind::Write, Op::SetPtes, 5)));
        }
        if paused {
            engine.process(&of(3, record(Kind::Section, Op::Enter, 1)));
            engine.process(&Record { memory: 1, ..of(3, record(Kind::Section, Op::Pause, 1)) });
        }
        let change = of(3, record(Kind::Rmw, Op::WrprotectPtes, 5));
        engine.process(&Record { flags: change.flags | Context::Softirq as u8, ..change });
        engine.end();
        let all = ProfileMask::NONE.with(ProfileId::Strict).with(ProfileId::XenPv).with(ProfileId::S390);
        let found: Vec<_> =
            engine.occurrences().iter().map(|found| (found.place.write, found.breaks)).collect();
        let expected = [(Some(StackId(2)), all), (Some(StackId(1)), all)];
        assert_eq!(found, expected, "paused: {paused}");
    }
}

#[test]
fn what_waits_in_a_section_can_be_looked_at() {
    let mut engine = Engine::new(Config::default());
    let task = TaskId::of(&record(Kind::Read, Op::PtepGet, 5));
    assert_eq!(engine.waiting_count(task), 0, "it is in no section");
    engine.process(&record(Kind::Section, Op::Enter, 1));
    for (entry, value, time) in [(0x1000, 5, 10), (0x2000, 6, 20)] {
        engine.process(&Record { entry, time, stack: entry + 1, ..record(Kind::Write, Op::SetPtes, value) });
    }
    let first = Waiting {
        first: EntryAddr(0x1000),
        count: 1,
        op: Op::SetPtes as u8,
        level: 0,
        value: Some(5),
        time: Nanos(10),
        stack: StackId(0x1001),
    };
    let second = Waiting {
        first: EntryAddr(0x2000),
        value: Some(6),
        time: Nanos(20),
        stack: StackId(0x2001),
        ..first
    };
    assert_eq!(engine.waiting_count(task), 2);
    assert_eq!(engine.waiting(task, 0).collect::<Vec<_>>(), [first, second]);
    assert_eq!(engine.waiting(task, 1).collect::<Vec<_>>(), [second]);
    let other = TaskId::of(&Record { tid: 2, ..record(Kind::Read, Op::PtepGet, 5) });
    assert_eq!((engine.waiting_count(other), engine.waiting(other, 0).count()), (0, 0));
    engine.process(&record(Kind::Section, Op::Leave, 0));
    assert_eq!(engine.waiting_count(task), 0);
}

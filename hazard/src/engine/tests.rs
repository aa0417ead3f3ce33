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

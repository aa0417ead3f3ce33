//! The records that a kernel with the drop-in emits for the events of a program, and those that never arrive.

use lazymmu_abi::{Flags, Kind, Op, Record};

use crate::kernel::{Event, What, tid};
use crate::machine::Machine;
use crate::program::Random;

/// Call stacks are numbered like the events, so that no two hazards are folded into one.
pub(crate) const FIRST_STACK: u64 = 0x1000;

/// Where an entry is: a table for each level.
pub(crate) fn address(entry: u8) -> u64 {
    let table = match entry {
        0..6 => 0xffff_8880_0400_0000,
        6..9 => 0xffff_8880_0500_0ff0,
        _ => 0xffff_8880_0600_0000,
    };
    table + 8 * u64::from(entry)
}

/// One record for each event, with the values of the traced machine; none where the hooks see nothing.
pub(crate) fn records(events: &[Event], traced: &Machine) -> Vec<Option<Record>> {
    let record = |(number, event): (usize, &Event)| {
        let seen = traced.seen[number];
        let base = Record {
            time: 1_000_000 + 100 * number as u64,
            tid: tid(event.task),
            tgid: tid(event.task),
            cpu: u16::from(event.cpu),
            stack: FIRST_STACK + number as u64,
            flags: event.context as u8,
            ..Record::default()
        };
        let known = event.context as u8 | Flags::VALUE | Flags::MEMORY;
        Some(match event.what {
            What::Mode { op, counters, .. } => {
                let none = u64::from(u32::MAX);
                let (value, memory) =
                    counters.map_or((none, none), |(enable, pause)| (u64::from(enable), u64::from(pause)));
                Record { kind: Kind::Section as u8, op: op as u8, value, memory, flags: known, ..base }
            }
            What::Access { op, entry, count, value } => {
                let info = op.info();
                // A write tells what it wrote, the others what they found.
                let value = match info.kind {
                    Kind::Write if crate::arch::clears(op) => 0,
                    Kind::Write => value,
                    _ => seen.value,
                };
                Record {
                    kind: info.kind as u8,
                    op: op as u8,
                    level: info.level.map_or(0, |level| level as u8),
                    entry: address(entry),
                    count: u16::from(count),
                    value,
                    memory: seen.memory,
                    flags: known,
                    ..base
                }
            }
            What::Switch { next, blocked } => Record {
                kind: Kind::Switch as u8,
                op: if blocked { Op::Blocked } else { Op::Preempted } as u8,
                value: u64::from(tid(next)),
                flags: Flags::VALUE,
                ..base
            },
            What::Exit => Record { kind: Kind::TaskExit as u8, ..base },
            What::Walk { .. } => return None,
        })
    };
    events.iter().enumerate().map(record).collect()
}

/// A trace with holes.
pub(crate) struct Lossy {
    pub(crate) records: Vec<Record>,
    /// Events whose record is missing.
    pub(crate) missing: Vec<u32>,
}

/// Takes windows out, of one CPU or of all, and puts `Lost` records where a capture would: before the next record that
/// the CPU delivers.
pub(crate) fn lose(records: &[Option<Record>], random: &mut Random) -> Lossy {
    let mut out = Vec::with_capacity(records.len() + 8);
    let mut missing = Vec::new();
    // By CPU: what was lost of each kind since its last record.
    let mut untold: Vec<Vec<(u8, u64)>> = vec![Vec::new(); crate::program::CPUS];
    let mut window: Option<(Option<u16>, usize)> = None;
    // One that says what was lost, or one that only says how many.
    let kinds_known = random.percent(70);
    for (number, record) in records.iter().enumerate() {
        let Some(record) = record else { continue };
        if let Some((_, 0)) = window {
            window = None;
        }
        if window.is_none() && random.percent(8) {
            let cpu = random.percent(50).then_some(record.cpu);
            window = Some((cpu, 1 + random.below(4)));
        }
        let counts = &mut untold[usize::from(record.cpu)];
        if let Some((cpu, left)) = &mut window {
            *left -= 1;
            if cpu.is_none_or(|cpu| cpu == record.cpu) {
                missing.push(number as u32);
                let kind = if kinds_known { record.kind } else { 0 };
                match counts.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((kind, 1)),
                }
                continue;
            }
        }
        tell(&mut out, counts, record.cpu, record.time);
        out.push(*record);
    }
    for (cpu, counts) in untold.iter_mut().enumerate() {
        tell(&mut out, counts, cpu as u16, u64::MAX);
    }
    Lossy { records: out, missing }
}

fn tell(out: &mut Vec<Record>, counts: &mut Vec<(u8, u64)>, cpu: u16, time: u64) {
    for (kind, value) in counts.drain(..) {
        out.push(Record { kind: Kind::Lost as u8, op: kind, value, cpu, time, ..Record::default() });
    }
}

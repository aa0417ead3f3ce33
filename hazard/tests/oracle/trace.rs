//! The records that a kernel with the drop-in emits for the events of a program, and those that never arrive.

use lazymmu_abi::{Flags, Kind, Level, Op, Record};

use crate::kernel::{Event, What, tid};
use crate::machine::Machine;

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

fn level(entry: u8) -> Level {
    match entry {
        0..6 => Level::Pte,
        6..9 => Level::Pmd,
        _ => Level::Pud,
    }
}

/// An address that this entry maps and no other one does.
fn mapped(entry: u8, kernel_half: bool) -> u64 {
    // No entry has this place in its table.
    const NOWHERE: u64 = 100;
    let place = address(entry) / 8 % 512;
    let at = |wanted, shift| if level(entry) == wanted { place << shift } else { NOWHERE << shift };
    let half: u64 = if kernel_half { 0xffff_c900_0000_0000 } else { 0x1000_0000_0000 };
    half + at(Level::Pte, 12) + at(Level::Pmd, 21) + at(Level::Pud, 30)
}

/// One record for each event, with the values of the traced machine; none where the hooks see nothing.
pub(crate) fn records(events: &[Event], traced: &Machine, kernel_half: bool) -> Vec<Option<Record>> {
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
                    level: level(entry) as u8,
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
            What::Arch { op, counters, .. } => {
                let none = u64::from(u32::MAX);
                let (value, memory) =
                    counters.map_or((none, none), |(enable, pause)| (u64::from(enable), u64::from(pause)));
                Record { kind: Kind::Section as u8, op: op as u8, value, memory, flags: known, ..base }
            }
            // Only a use that faults is told.
            What::Use { entry } if seen.value & 1 == 0 => Record {
                kind: Kind::Fault as u8,
                entry: mapped(entry, true),
                flags: event.context as u8 | Flags::VALUE,
                ..base
            },
            What::TlbFlush { entry, count } => Record {
                kind: Kind::TlbFlush as u8,
                entry: mapped(entry, kernel_half),
                value: mapped(entry, kernel_half) + (u64::from(count) << 12),
                flags: known,
                ..base
            },
            What::Walk { .. } | What::Use { .. } => return None,
        })
    };
    events.iter().enumerate().map(record).collect()
}

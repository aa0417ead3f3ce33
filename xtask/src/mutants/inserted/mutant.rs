//! Which break is on. This file is no part of the project's crates: `cargo xtask mutants` puts it into its copy of
//! `hazard/`, where every place that can be broken calls it with its number.
//!
//! What the conditions do is numbered by who put the calls there (`places.rs`); the tables are broken here, as data.

use std::ops::Deref;
use std::sync::OnceLock;

use lazymmu_abi::{Kind, Op};

use crate::profile::{
    Does, EventRow, FlushOn, FlushRow, ORIGINAL, Ops, Profile, ProfileId, ProfileMask, Queue, QueueOf, Row,
};

/// The tables' breaks are counted from here.
const FIRST_OF_TABLES: usize = 1_000_000;

/// The number of the break that is on; 0 is none.
fn on() -> usize {
    static ON: OnceLock<usize> = OnceLock::new();
    *ON.get_or_init(|| std::env::var("LAZYMMU_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

pub(crate) fn is(id: usize) -> bool {
    on() == id
}

/// A condition: negated, always true, always false.
pub(crate) fn condition(id: usize, value: bool) -> bool {
    match on().wrapping_sub(id) {
        0 => !value,
        1 => true,
        2 => false,
        _ => value,
    }
}

/// A comparison by size, with and without equality.
pub(crate) fn order<T: PartialOrd>(id: usize, by: &str, left: &T, right: &T) -> bool {
    match (by, is(id)) {
        ("<", false) | ("<=", true) => left < right,
        ("<=", false) | ("<", true) => left <= right,
        (">", false) | (">=", true) => left > right,
        _ => left >= right,
    }
}

/// An operation on sets of profiles: another one, or only its left side.
pub(crate) fn mask(id: usize, by: &str, left: ProfileMask, right: ProfileMask) -> ProfileMask {
    match (on().wrapping_sub(id), by) {
        (1, _) => left,
        (0, "and") => left.or(right),
        (0, _) => left.and(right),
        (_, "and") => left.and(right),
        (_, "or") => left.or(right),
        (_, _) => left.without(right),
    }
}

/// One more profile, or not.
pub(crate) fn with(id: usize, left: ProfileMask, right: ProfileId) -> ProfileMask {
    if is(id) { left } else { left.with(right) }
}

/// One break of a table.
#[derive(Clone)]
enum Change {
    Does(usize, Does),
    RowDropped(usize),
    OpDropped(usize, Op),
    Flips(usize),
    EventDropped(usize),
    Flush(usize, FlushOn),
    FlushDropped(usize),
    Queue(QueueOf),
    Interrupts,
}

/// Every break of every table: the profile's place, the words, the break.
fn changes() -> Vec<(usize, String, Change)> {
    let mut changes = Vec::new();
    for (at, profile) in ORIGINAL.iter().enumerate() {
        let mut add =
            |words: String, change| changes.push((at, format!("{}: {words}", profile.name), change));
        for (number, row) in profile.rows.iter().enumerate() {
            let ops = match &row.ops {
                Ops::These([op]) => format!("{op:?}"),
                Ops::These(ops) => format!("{:?} and {} more", ops[0], ops.len() - 1),
                Ops::Rest(kind) => format!("the rest of {kind:?}"),
            };
            for does in others(&row.ops, row.does) {
                add(format!("row of {ops}: {does:?} for {:?}", row.does), Change::Does(number, does));
            }
            add(format!("row of {ops} dropped"), Change::RowDropped(number));
            if let Ops::These(ops @ [_, _, ..]) = row.ops {
                for op in ops {
                    add(
                        format!("{op:?} dropped from the row of {:?}", ops[0]),
                        Change::OpDropped(number, *op),
                    );
                }
            }
        }
        for (number, row) in profile.events.iter().enumerate() {
            let word = if row.breaks { "is harmless" } else { "breaks" };
            add(format!("{:?} {word}", row.on), Change::Flips(number));
            add(format!("{:?} dropped", row.on), Change::EventDropped(number));
        }
        for (number, row) in profile.flushes.iter().enumerate() {
            for other in [FlushOn::ContextSwitch, FlushOn::BatchFull] {
                if other != row.on {
                    add(format!("flush on {other:?} for {:?}", row.on), Change::Flush(number, other));
                }
            }
            add(format!("flush on {:?} dropped", row.on), Change::FlushDropped(number));
            if let FlushOn::InterruptWrite(ops) = row.on {
                for op in ops {
                    let left: Vec<Op> = ops.iter().filter(|other| *other != op).copied().collect();
                    let left = FlushOn::InterruptWrite(left.leak());
                    add(format!("{op:?} dropped from the flush by interrupts"), Change::Flush(number, left));
                }
            }
        }
        add("whether the queue takes what interrupts write".to_owned(), Change::Interrupts);
        for of in [QueueOf::Unspecified, QueueOf::Cpu, QueueOf::Task] {
            if of != profile.queue.of {
                add(format!("queue of {of:?} for {:?}", profile.queue.of), Change::Queue(of));
            }
        }
    }
    changes
}

/// What else a row might say of operations of that kind.
fn others(ops: &Ops, does: Does) -> Vec<Does> {
    let kind = match ops {
        Ops::These(ops) => ops[0].info().kind,
        Ops::Rest(kind) => *kind,
    };
    let all: &[Does] = match kind {
        Kind::Read => &[Does::ReadsMemory, Does::InOrder, Does::FlushesFirst],
        Kind::Write => &[Does::Queues, Does::AtOnce, Does::FlushesFirst, Does::InOrder, Does::Nothing],
        _ => {
            &[Does::Queues, Does::AtOnce, Does::FlushesFirst, Does::ReadsMemory, Does::InOrder, Does::Nothing]
        }
    };
    all.iter().filter(|other| **other != does).copied().collect()
}

fn changed(profile: &Profile, change: Option<&Change>) -> Profile {
    let rows = profile.rows.iter().enumerate().filter_map(|(number, row)| {
        let (mut ops, mut does) = (copy(&row.ops), row.does);
        match change {
            Some(Change::Does(at, other)) if *at == number => does = *other,
            Some(Change::RowDropped(at)) if *at == number => return None,
            Some(Change::OpDropped(at, op)) if *at == number => {
                if let Ops::These(all) = ops {
                    let left: Vec<Op> = all.iter().filter(|other| *other != op).copied().collect();
                    ops = Ops::These(left.leak());
                }
            }
            _ => {}
        }
        Some(Row { ops, does, why: row.why, source: row.source })
    });
    let events = profile.events.iter().enumerate().filter_map(|(number, row)| {
        let mut breaks = row.breaks;
        match change {
            Some(Change::Flips(at)) if *at == number => breaks = !breaks,
            Some(Change::EventDropped(at)) if *at == number => return None,
            _ => {}
        }
        Some(EventRow { on: row.on, breaks, why: row.why, source: row.source })
    });
    let flushes = profile.flushes.iter().enumerate().filter_map(|(number, row)| {
        let mut on = row.on;
        match change {
            Some(Change::Flush(at, other)) if *at == number => on = *other,
            Some(Change::FlushDropped(at)) if *at == number => return None,
            _ => {}
        }
        Some(FlushRow { on, source: row.source })
    });
    let mut queue = Queue { ..profile.queue };
    match change {
        Some(Change::Queue(of)) => queue.of = *of,
        Some(Change::Interrupts) => queue.takes_interrupts = !queue.takes_interrupts,
        _ => {}
    }
    Profile {
        rows: rows.collect::<Vec<_>>().leak(),
        events: events.collect::<Vec<_>>().leak(),
        flushes: flushes.collect::<Vec<_>>().leak(),
        queue,
        ..*profile
    }
}

fn copy(ops: &Ops) -> Ops {
    match ops {
        Ops::These(ops) => Ops::These(ops),
        Ops::Rest(kind) => Ops::Rest(*kind),
    }
}

/// Stands where the tables stood.
#[derive(Debug)]
pub struct Table;

impl Deref for Table {
    type Target = [Profile];

    fn deref(&self) -> &Self::Target {
        static TABLES: OnceLock<Vec<Profile>> = OnceLock::new();
        TABLES.get_or_init(|| {
            let broken =
                on().checked_sub(FIRST_OF_TABLES).and_then(|number| changes().into_iter().nth(number));
            let tables = ORIGINAL.iter().enumerate();
            let change = |at| broken.as_ref().filter(|(of, ..)| *of == at).map(|(.., change)| change);
            tables.map(|(at, profile)| changed(profile, change(at))).collect()
        })
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a Profile;
    type IntoIter = std::slice::Iter<'a, Profile>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Not a test: tells who asks what can be broken in the tables.
#[test]
#[ignore = "asked for by name"]
fn list_of_the_tables() {
    for (number, (_, words, _)) in changes().into_iter().enumerate() {
        println!("table-mutant\t{}\t{words}", FIRST_OF_TABLES + number);
    }
}

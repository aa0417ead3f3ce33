//! Puts the records of several rings into the order of their times.
//!
//! A record may be released when nothing can come any more that belongs before it. Whoever drains the rings knows up to
//! which time that is so, the *floor*, in this way: the clock is read, then for each CPU which programs run and the
//! times of what they work on, then every ring is drained of all that is in it. The floor is the earliest of these
//! times. A program says that it runs before it takes the time of its hit, and says that it does no more after it has
//! sent everything. So a record from before the floor was in its ring when the rings were drained: its program was not
//! running any more, or it would have held the floor down, and was not yet to start, or its time would be later than
//! the clock's.
//!
//! One case is left. A ring gives nothing from behind a place that is taken and not yet filled in, and who took
//! that may have started after the one whose item is behind it. For this, and because the programs' clock may differ
//! from the reader's by the smallest parts, [`SLACK`] is taken off. What is later even than that has lost its place: it
//! is counted, and told by a `Lost` record where it was noticed. The record itself is dropped: an engine that is given
//! a flush after what followed it would accuse the innocent. Names and `Lost` records, whose place means less, are moved
//! to where the others are.
//!
//! What waits is bounded: beyond that the earliest are released whatever the floor is, and what then comes too late is
//! counted in the same way. Nothing here reads a clock or a ring; records of one time stay in the order in which they
//! came.

use std::collections::BTreeMap;

use lazymmu_abi::{Flags, Kind, Record};
use lazymmu_trace::Losses;

/// What is taken off a floor, in ns: the shortest time in which a record that is being filled in is there.
pub(crate) const SLACK: u64 = 1_000_000;

/// The records that wait for their turn.
#[derive(Debug)]
pub(crate) struct Sorter {
    /// In the order in which they came.
    waiting: Vec<Record>,
    /// The most that wait.
    most: usize,
    /// The time of what was released last: nothing that is released may be earlier.
    released: u64,
    late: Late,
}

/// Records that came too late, by CPU and kind.
#[derive(Debug, Default)]
struct Late {
    all: BTreeMap<(u16, u8), u64>,
    untold: BTreeMap<(u16, u8), u64>,
}

impl Sorter {
    /// One in which at most so many records wait.
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: Vec::new(), most: most.max(1), released: 0, late: Late::default() }
    }

    /// Takes in a record. If that is one too many, some are released.
    pub(crate) fn push(&mut self, mut record: Record, out: &mut Vec<Record>) {
        if record.time < self.released {
            if !matches!(Kind::try_from(record.kind), Ok(Kind::Lost | Kind::TaskName)) {
                self.late.count(&record);
                return;
            }
            record.time = self.released;
        }
        self.waiting.push(record);
        if self.waiting.len() > self.most {
            // Half of them, so that they are not sorted for each record.
            self.waiting.sort_by_key(|record| record.time);
            self.release_first(self.waiting.len() / 2 + 1, out);
        }
    }

    /// Releases everything from before the floor.
    pub(crate) fn release(&mut self, floor: u64, out: &mut Vec<Record>) {
        // What came out of one ring is in order but for a few, which this sort makes use of.
        self.waiting.sort_by_key(|record| record.time);
        let before = self.waiting.partition_point(|record| record.time < floor);
        self.release_first(before, out);
    }

    /// Releases the rest.
    pub(crate) fn finish(&mut self, out: &mut Vec<Record>) {
        self.release(u64::MAX, out);
        self.late.tell(self.released, out);
    }

    /// How many came too late so far.
    pub(crate) fn late(&self) -> impl Iterator<Item = Losses> {
        self.late.all.iter().map(|((cpu, kind), count)| Losses { cpu: *cpu, kind: *kind, count: *count })
    }

    fn release_first(&mut self, count: usize, out: &mut Vec<Record>) {
        if count > 0 {
            self.late.tell(self.released, out);
            self.released = self.waiting[count - 1].time;
            out.extend(self.waiting.drain(..count));
        }
    }
}

impl Late {
    fn count(&mut self, record: &Record) {
        for counts in [&mut self.all, &mut self.untold] {
            *counts.entry((record.cpu, record.kind)).or_default() += 1;
        }
    }

    /// Tells what is not told yet, before anything later is released.
    fn tell(&mut self, time: u64, out: &mut Vec<Record>) {
        for ((cpu, kind), count) in std::mem::take(&mut self.untold) {
            out.push(Record {
                time,
                value: count,
                cpu,
                kind: Kind::Lost as u8,
                op: kind,
                flags: Flags::VALUE,
                ..Record::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(time: u64, cpu: u16) -> Record {
        Record { time, cpu, kind: Kind::Read as u8, ..Record::default() }
    }

    fn times(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.time).collect()
    }

    #[test]
    fn what_is_before_the_floor_is_released_in_order() {
        let mut sorter = Sorter::new(100);
        let mut out = Vec::new();
        for (time, cpu) in [(10, 0), (30, 0), (40, 0), (20, 1), (30, 1), (50, 1)] {
            sorter.push(read(time, cpu), &mut out);
        }
        assert!(out.is_empty());
        sorter.release(40, &mut out);
        assert_eq!(times(&out), [10, 20, 30, 30]);
        assert_eq!((out[2].cpu, out[3].cpu), (0, 1), "at one time, what came first is first");
        // The floor does not rise while a program is running.
        sorter.push(read(40, 1), &mut out);
        sorter.release(40, &mut out);
        assert_eq!(out.len(), 4);
        sorter.finish(&mut out);
        assert_eq!(times(&out[4..]), [40, 40, 50]);
        assert_eq!(sorter.late().count(), 0);
    }

    #[test]
    fn what_is_late_is_counted_and_told_at_once() {
        let mut sorter = Sorter::new(100);
        let mut out = Vec::new();
        sorter.push(read(20, 0), &mut out);
        sorter.release(25, &mut out);
        for record in [read(20, 1), read(19, 1), read(18, 1), read(24, 1)] {
            sorter.push(record, &mut out);
        }
        sorter.release(30, &mut out);
        assert_eq!(times(&out), [20, 20, 20, 24]);
        let lost = out[1];
        assert_eq!((lost.kind, lost.op, lost.cpu), (Kind::Lost as u8, Kind::Read as u8, 1));
        assert_eq!(lost.known_value(), Some(2));
        assert_eq!(sorter.late().collect::<Vec<_>>(), [Losses { cpu: 1, kind: Kind::Read as u8, count: 2 }]);
    }

    #[test]
    fn losses_and_names_keep_to_the_rest() {
        let mut sorter = Sorter::new(100);
        let mut out = Vec::new();
        sorter.push(read(20, 0), &mut out);
        sorter.finish(&mut out);
        for kind in [Kind::Lost, Kind::TaskName] {
            sorter.push(Record { kind: kind as u8, value: 7, ..read(10, 1) }, &mut out);
        }
        sorter.finish(&mut out);
        assert_eq!(times(&out), [20, 20, 20]);
        assert_eq!(out[1].value, 7);
        assert_eq!(sorter.late().count(), 0);
    }

    #[test]
    fn what_is_late_last_is_told_at_the_end() {
        let mut sorter = Sorter::new(100);
        let mut out = Vec::new();
        sorter.push(read(20, 0), &mut out);
        sorter.finish(&mut out);
        sorter.push(read(10, 0), &mut out);
        sorter.finish(&mut out);
        assert_eq!((out.len(), out[1].kind), (2, Kind::Lost as u8));
        sorter.finish(&mut out);
        assert_eq!(out.len(), 2, "told once");
    }
}

/// Random histories of several CPUs: programs that start, take their time, are held up, and send into the ring of their
/// CPU or into one that they share.
#[cfg(test)]
#[path = "sorter_properties.rs"]
mod properties;

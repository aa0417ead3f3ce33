//! What was lost: the programs' counters, and the records that tell of it.

use std::collections::BTreeMap;

use lazymmu_abi::{Counters, Flags, KINDS, Kind, Record};
use lazymmu_trace::Losses;

use crate::{Error, sys};

/// The name of the map.
pub(crate) const COUNTERS: &str = "COUNTERS";

/// The counters of every CPU.
pub(crate) struct CounterMap(sys::MappedArray<Counters>);

/// How a capture ended: `seen` + what was lost = `produced`, or something is wrong with the account itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Items that the programs wanted to send, and hits for which the kernel did not run them.
    pub produced: u64,
    /// Items that came out of the rings in time. `Lost` records are not counted.
    pub seen: u64,
    /// What was lost, by CPU and kind. Kind 0 on [`Record::ANY_CPU`] are the hits for which the kernel did not run
    /// a program, because it was running on that CPU already.
    pub lost: Vec<Losses>,
    /// Those of the lost that came out of a ring, too late for their place.
    pub late: u64,
}

impl Totals {
    /// Everything that was lost.
    pub fn lost(&self) -> u64 {
        self.lost.iter().fold(0, |sum, losses| sum.saturating_add(losses.count))
    }

    /// Whether every item is accounted for.
    pub fn balanced(&self) -> bool {
        self.seen.saturating_add(self.lost()) == self.produced
    }

    /// The same for the trailer of a trace.
    pub fn counters(&self) -> lazymmu_trace::Counters {
        lazymmu_trace::Counters { produced: self.produced, lost: self.lost.clone() }
    }
}

impl CounterMap {
    pub(crate) fn new(map: aya::maps::Map) -> Result<Self, Error> {
        let aya::maps::Map::Array(map) = map else { return Err(Error::Mismatch(COUNTERS)) };
        sys::MappedArray::to_read(map).map(Self).map_err(|source| Error::Mapping { name: COUNTERS, source })
    }

    /// Reads them, a CPU at a time.
    pub(crate) fn read(&self) -> Vec<Counters> {
        self.0.read()
    }
}

/// The totals of what was counted. `seen` is what came out of the rings, and `late` what of that was dropped.
pub(crate) fn totals(
    counters: &[Counters],
    seen: u64,
    misses: u64,
    late: impl Iterator<Item = Losses>,
) -> Totals {
    let produced = counters.iter().flat_map(|cpu| cpu.produced).sum::<u64>() + misses;
    let mut lost: BTreeMap<(u16, u8), u64> = BTreeMap::new();
    let mut add = |Losses { cpu, kind, count }| *lost.entry((cpu, kind)).or_default() += count;
    by_cpu_and_kind(counters, |cpu| cpu.lost).for_each(&mut add);
    if misses > 0 {
        add(Losses { cpu: Record::ANY_CPU, kind: 0, count: misses });
    }
    let late = late.inspect(|losses| add(*losses)).map(|losses| losses.count).sum::<u64>();
    let lost = lost.into_iter().map(|((cpu, kind), count)| Losses { cpu, kind, count }).collect();
    Totals { produced, seen: seen.saturating_sub(late), lost, late }
}

/// Up to which time everything is in the rings, if the counters were read after the clock said `now`: what programs are
/// working on is not.
pub(crate) fn floor(now: u64, counters: &[Counters]) -> u64 {
    let running = counters.iter().flat_map(|cpu| cpu.running).filter(|time| *time != 0);
    running.min().map_or(now, |first| first.min(now))
}

/// The records for what was lost and is told by no record in the ring.
pub(crate) fn untold(counters: &[Counters], now: u64) -> impl Iterator<Item = Record> {
    by_cpu_and_kind(counters, |cpu| cpu.untold).map(move |losses| lost_record(losses, now))
}

/// The record for hits for which the kernel did not run a program.
pub(crate) fn missed(count: u64, now: u64) -> Record {
    lost_record(Losses { cpu: Record::ANY_CPU, kind: 0, count }, now)
}

fn lost_record(losses: Losses, now: u64) -> Record {
    Record {
        time: now,
        value: losses.count,
        cpu: losses.cpu,
        kind: Kind::Lost as u8,
        op: losses.kind,
        flags: Flags::VALUE,
        ..Record::default()
    }
}

fn by_cpu_and_kind(
    counters: &[Counters],
    part: impl Fn(&Counters) -> [u64; KINDS],
) -> impl Iterator<Item = Losses> {
    counters.iter().zip(0..).flat_map(move |(counters, cpu)| {
        part(counters).into_iter().zip(0..).filter(|(count, _)| *count > 0).map(move |(count, kind)| Losses {
            cpu,
            kind,
            count,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Losses, floor, missed, totals, untold};
    use lazymmu_abi::{Counters, Flags, Kind, Record};

    fn two_cpus() -> [Counters; 2] {
        let mut cpus = [Counters::default(); 2];
        cpus[0].produced[0] = 10;
        cpus[1].produced[3] = 5;
        cpus[1].lost[Kind::Write as usize] = 3;
        cpus[1].untold[Kind::Write as usize] = 2;
        cpus
    }

    fn none() -> std::iter::Empty<Losses> {
        std::iter::empty()
    }

    #[test]
    fn the_account_is_balanced_only_if_nothing_is_missing() {
        let whole = totals(&two_cpus(), 12, 0, none());
        assert_eq!((whole.produced, whole.lost(), whole.balanced()), (15, 3, true));
        assert!(!totals(&two_cpus(), 11, 0, none()).balanced());
        assert!(!totals(&two_cpus(), 13, 0, none()).balanced());
    }

    #[test]
    fn skipped_hits_are_produced_and_lost() {
        let totals = totals(&two_cpus(), 12, 4, none());
        assert_eq!((totals.produced, totals.lost(), totals.balanced()), (19, 7, true));
        assert_eq!(totals.counters().lost.last().unwrap().cpu, Record::ANY_CPU);
    }

    #[test]
    fn what_came_too_late_is_lost_and_not_seen() {
        let late = [(1, Kind::Write, 1), (0, Kind::Read, 2)];
        let late = late.map(|(cpu, kind, count)| Losses { cpu, kind: kind as u8, count });
        let totals = totals(&two_cpus(), 12, 0, late.into_iter());
        assert_eq!((totals.seen, totals.lost(), totals.late, totals.balanced()), (9, 6, 3, true));
        let told: Vec<_> = totals.lost.iter().map(|losses| (losses.cpu, losses.kind, losses.count)).collect();
        assert_eq!(told, [(0, Kind::Read as u8, 2), (1, Kind::Write as u8, 4)]);
    }

    #[test]
    fn the_floor_is_where_the_first_program_stands() {
        let mut cpus = two_cpus();
        assert_eq!(floor(100, &cpus), 100);
        cpus[1].running[3] = 90;
        cpus[0].running[0] = 95;
        assert_eq!(floor(100, &cpus), 90);
        // It started after the clock was read.
        assert_eq!(floor(80, &cpus), 80);
        cpus[0].running[0] = Counters::STARTING;
        assert_eq!(floor(100, &cpus), 1);
    }

    #[test]
    fn what_no_record_in_the_ring_tells_is_told() {
        let records: Vec<Record> = untold(&two_cpus(), 99).collect();
        assert_eq!(records.len(), 1);
        let record = records[0];
        assert_eq!((record.time, record.cpu, record.known_value()), (99, 1, Some(2)));
        assert_eq!((record.kind, record.op), (Kind::Lost as u8, Kind::Write as u8));
        assert_eq!(missed(4, 1).op, 0);
        assert_eq!(missed(4, 1).flags, Flags::VALUE);
    }
}

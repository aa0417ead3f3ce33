use lazymmu_abi::{Kind, Record};
use proptest::collection::vec;
use proptest::prelude::*;

use super::Sorter;

/// A hit: when its program starts after the one before it on its CPU, and how long it takes to send.
#[derive(Clone, Copy, Debug)]
struct Hit {
    after: u64,
    takes: u64,
}

fn hits() -> impl Strategy<Value = Vec<Vec<Hit>>> {
    // Most programs are fast; some are held up for longer than the reader waits.
    let takes = prop_oneof![8 => 0_u64..20, 1 => 0_u64..1000];
    let hit = (0_u64..50, takes).prop_map(|(after, takes)| Hit { after, takes });
    vec(vec(hit, 0..30), 1..5)
}

/// What a program will have done when.
#[derive(Clone, Copy, Debug)]
struct Sent {
    start: u64,
    end: u64,
    record: Record,
}

/// When each CPU's programs start and end. They nest as interrupts do: `after` may fall into the one before, which is
/// then held up until the inner one has ended.
fn history(cpus: &[Vec<Hit>]) -> Vec<Vec<Sent>> {
    let mut serial = 0;
    cpus.iter()
        .zip(0_u16..)
        .map(|(hits, cpu)| {
            let mut now = 1;
            let mut sent: Vec<Sent> = Vec::new();
            for Hit { after, takes } in hits {
                now += after;
                serial += 1;
                let record =
                    Record { time: now, cpu, kind: Kind::Read as u8, entry: serial, ..Record::default() };
                sent.push(Sent { start: now, end: now + takes, record });
            }
            // An inner one ends before the outer one does.
            for outer in (0..sent.len()).rev() {
                for inner in outer + 1..sent.len() {
                    if sent[inner].start <= sent[outer].end {
                        sent[outer].end = sent[outer].end.max(sent[inner].end + 1);
                    }
                }
            }
            sent.sort_by_key(|sent| sent.end);
            sent
        })
        .collect()
}

/// Plays a history: every `step` the reader looks. Gives what came out, and the most that waited at once.
fn play(history: &[Vec<Sent>], step: u64, most: usize, slack: u64) -> (Vec<Record>, Sorter, usize) {
    let mut sorter = Sorter::new(most);
    let mut out = Vec::new();
    let mut waited = 0;
    let mut next: Vec<usize> = vec![0; history.len()];
    let end = history.iter().flatten().map(|sent| sent.end).max().unwrap_or(0);
    let mut clock = 0;
    while clock <= end + step {
        clock += step;
        let running = history.iter().flatten().filter(|sent| sent.start < clock && sent.end >= clock);
        let floor = running.map(|sent| sent.start).min().unwrap_or(clock).min(clock);
        for (sent, next) in history.iter().zip(&mut next) {
            while let Some(Sent { record, .. }) = sent.get(*next).filter(|sent| sent.end < clock) {
                sorter.push(*record, &mut out);
                waited = waited.max(sorter.waiting.len());
                *next += 1;
            }
        }
        sorter.release(floor.saturating_add(slack), &mut out);
    }
    sorter.finish(&mut out);
    (out, sorter, waited)
}

fn in_order(records: &[Record]) -> bool {
    records.is_sorted_by_key(|record| record.time)
}

/// Records, and those that `Lost` records tell of.
fn account(out: &[Record]) -> (u64, u64) {
    let lost = out.iter().filter(|record| record.kind == Kind::Lost as u8);
    let told: u64 = lost.clone().map(|record| record.value).sum();
    (out.len() as u64 - lost.count() as u64, told)
}

proptest! {
    #[test]
    fn with_the_floor_nothing_is_ever_late(cpus in hits(), step in 10_u64..400) {
        let history = history(&cpus);
        let (out, sorter, _) = play(&history, step, 1 << 20, 0);
        let mut expected: Vec<Record> = history.iter().flatten().map(|sent| sent.record).collect();
        expected.sort_by_key(|record| record.time);
        prop_assert!(in_order(&out));
        prop_assert_eq!(sorter.late().count(), 0);
        let key = |record: &Record| (record.time, record.entry);
        let mut seen: Vec<_> = out.iter().map(key).collect();
        let mut wanted: Vec<_> = expected.iter().map(key).collect();
        seen.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn with_a_floor_that_is_too_high_exactly_the_late_ones_are_missing(
        cpus in hits(), step in 10_u64..400, wrong in 1_u64..1000
    ) {
        let history = history(&cpus);
        let (out, sorter, _) = play(&history, step, 1 << 20, wrong);
        let all = history.iter().map(Vec::len).sum::<usize>() as u64;
        prop_assert!(in_order(&out));
        let (seen, told) = account(&out);
        let late: u64 = sorter.late().map(|late| late.count).sum();
        prop_assert_eq!(told, late);
        prop_assert_eq!(seen + late, all);
        // Each CPU's share too, and none is there twice.
        for (cpu, sent) in (0_u16..).zip(&history) {
            let seen = out.iter().filter(|record| record.cpu == cpu && record.kind == Kind::Read as u8).count() as u64;
            let late: u64 = sorter.late().filter(|late| late.cpu == cpu).map(|late| late.count).sum();
            prop_assert_eq!(seen + late, sent.len() as u64);
        }
        let mut serials: Vec<u64> = out.iter().map(|record| record.entry).filter(|serial| *serial > 0).collect();
        serials.sort_unstable();
        serials.dedup();
        prop_assert_eq!(serials.len() as u64, seen);
    }

    #[test]
    fn what_waits_is_bounded(cpus in hits(), step in 10_u64..400, most in 1_usize..20) {
        let history = history(&cpus);
        let (out, sorter, waited) = play(&history, step, most, 0);
        prop_assert!(waited <= most);
        prop_assert!(in_order(&out));
        let (seen, told) = account(&out);
        let late: u64 = sorter.late().map(|late| late.count).sum();
        prop_assert_eq!(told, late);
        prop_assert_eq!(seen + late, history.iter().map(Vec::len).sum::<usize>() as u64);
    }
}

//! Many programs on all CPUs, and one that fails made small.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use lazymmu_hazard::Engine;

use crate::check::examine;
use crate::program::{Program, program, shrink};
use crate::tally::Tally;

/// The programs of the test; the bench goes on behind them.
pub(crate) const IN_TESTS: u64 = 100_000;

/// Runs the programs of these numbers; the first failure, shrunk, if there is one.
pub(crate) fn run(numbers: Range<u64>) -> Result<Tally, String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let stop = AtomicBool::new(false);
    let part = |thread: u64| {
        let mut tally = Tally::default();
        for number in numbers.clone().skip(thread as usize).step_by(threads as usize) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let Ok(more) = examine(&program(number), number, &Engine::new) else {
                stop.store(true, Ordering::Relaxed);
                return Err(failure(number));
            };
            tally.add(&more);
        }
        Ok(tally)
    };
    let part = &part;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        let mut all = Tally::default();
        for handle in parts {
            let tally =
                handle.join().map_err(|_| "a machine contradicted itself: see above".to_owned())??;
            all.add(&tally);
        }
        Ok(all)
    })
}

/// One failing program for each sort of failure among those of these numbers, the smallest, with how many there were.
#[allow(dead_code, reason = "the bench stops at the first")]
pub(crate) fn sorts(numbers: Range<u64>) -> BTreeMap<String, (u64, u64, Program)> {
    let mut sorts: BTreeMap<String, (u64, u64, Program)> = BTreeMap::new();
    for number in numbers {
        let program = program(number);
        let Err(error) = examine(&program, number, &Engine::new) else { continue };
        let line = error.lines().next().unwrap_or_default();
        let line = line.split_once("]: ").map_or(line, |(_, rest)| rest);
        let sort: String = line.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let (count, ..) = *sorts.get(&sort).unwrap_or(&(0, 0, program.clone()));
        let best = sorts.entry(sort).or_insert((0, number, program.clone()));
        best.0 = count + 1;
        if program.steps.len() < best.2.steps.len() {
            (best.1, best.2) = (number, program);
        }
    }
    sorts
}

pub(crate) fn failure(number: u64) -> String {
    let small = shrink(&program(number), &|program| examine(program, number, &Engine::new).is_err());
    let difference = examine(&small, number, &Engine::new).err().unwrap_or_default();
    format!(
        "program {number}, shrunk:\n{small}\n{difference}\n\
         repeat: LAZYMMU_ORACLE_PROGRAM={number} cargo test -p lazymmu-hazard --test oracle -- --nocapture"
    )
}

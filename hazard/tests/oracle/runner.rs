//! Many programs on all CPUs, and one that fails made small.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use lazymmu_hazard::Engine;

use crate::check::examine;
use crate::program::{program, shrink};
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

fn failure(number: u64) -> String {
    let small = shrink(&program(number), &|program| examine(program, number, &Engine::new).is_err());
    let difference = examine(&small, number, &Engine::new).err().unwrap_or_default();
    format!(
        "program {number}, shrunk:\n{small}\n{difference}\n\
         repeat: LAZYMMU_ORACLE_PROGRAM={number} cargo test -p lazymmu-hazard --test oracle -- --nocapture"
    )
}

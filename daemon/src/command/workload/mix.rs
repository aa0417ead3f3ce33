//! `workload run all --seconds N`: the workloads in an order that nobody chose, on every CPU, for a time.
//!
//! What each task runs one after the other follows from the seed alone, so a mix that found something can be run again. How
//! far it comes, and what falls together, depends on the machine. With more than one task for each CPU they preempt each other.

use std::process::Command;
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lazymmu_workload::Workload;

use super::{is_good, status_of};
use crate::ExitStatus;
use crate::session::Output;

/// What a mix is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    pub(super) time: Duration,
    pub(super) seed: u64,
    /// How many run at once for each CPU.
    pub(super) tasks: usize,
}

/// How often each workload ended how.
#[derive(Clone, Default)]
struct Count {
    passed: u32,
    skipped: u32,
    failed: u32,
}

impl Mix {
    /// Runs until the time is over; what runs then is waited for.
    pub(super) fn run(self, workloads: &'static [Workload]) -> Result<ExitStatus> {
        let own = std::env::current_exe().context("failed to find lazymmu's own binary to run a workload")?;
        let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let Self { time, seed, tasks } = self;
        Output::print(&format!(
            "mix: {} s on {cpus} CPUs, {tasks} at once on each, seed {seed}\n",
            time.as_secs()
        ))?;
        let end = Instant::now() + time;
        // Who wants the machine for itself waits for the others, and they for it.
        let alone = RwLock::new(());
        let counts = Mutex::new(vec![Count::default(); workloads.len()]);
        let worker = |task: usize| -> Result<()> {
            let mut order = Order::new(seed, task, workloads.len());
            while Instant::now() < end {
                let index = order.next();
                let workload = &workloads[index];
                let mut command = Command::new(&own);
                command.args(["workload", "run", workload.name]);
                let status = if workload.alone {
                    let _guard = alone.write().unwrap_or_else(PoisonError::into_inner);
                    status_of(&mut command)?
                } else {
                    let _guard = alone.read().unwrap_or_else(PoisonError::into_inner);
                    status_of(&mut command)?
                };
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                let count = &mut counts[index];
                *match status {
                    0 => &mut count.passed,
                    status if is_good(status) => &mut count.skipped,
                    _ => &mut count.failed,
                } += 1;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cpus * tasks).map(|task| scope.spawn(move || worker(task))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
        })?;
        let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        Output::print(&table(workloads, &counts))?;
        let failed = counts.iter().any(|count| count.failed > 0);
        Ok(if failed { ExitStatus::Inconclusive } else { ExitStatus::Clean })
    }
}

fn table(workloads: &[Workload], counts: &[Count]) -> String {
    let lines = workloads.iter().zip(counts).filter_map(|(workload, count)| {
        let Count { passed, skipped, failed } = count;
        let times = passed + skipped + failed;
        (times > 0).then(|| {
            format!("mix: {:<18} {passed} passed, {skipped} skipped, {failed} failed\n", workload.name)
        })
    });
    lines.collect()
}

/// The order of one task: each workload once in a round, and each round shuffled, so that none is left out.
struct Order {
    state: u64,
    round: Vec<usize>,
    of: usize,
}

impl Order {
    fn new(seed: u64, task: usize, of: usize) -> Self {
        // They must not do the same side by side.
        let state = seed ^ (task as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self { state, round: Vec::new(), of }
    }

    fn next(&mut self) -> usize {
        if self.round.is_empty() {
            self.round = (0..self.of).collect();
            for last in (1..self.of).rev() {
                let other = usize::try_from(self.number() % (last as u64 + 1)).unwrap_or(0);
                self.round.swap(last, other);
            }
        }
        self.round.pop().unwrap_or(0)
    }

    /// SplitMix64.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, task: usize) -> Vec<usize> {
        let mut order = Order::new(seed, task, 7);
        (0..28).map(|_| order.next()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_order_again() {
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1), "each task has an order of its own");
    }

    #[test]
    fn every_round_has_each_once() {
        for round in first(5, 3).chunks(7) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}

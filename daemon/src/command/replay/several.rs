//! Several traces, judged at the same time and told of in the order in which they were given.
//!
//! Each trace is judged by itself, on one thread from beginning to end, so what is said of it is the same whatever the
//! number of threads. A trace that cannot be judged does not keep the others from it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::Result;
use lazymmu_report::Report;

use super::{Judged, judge_input};
use crate::cli::Format;
use crate::command::status_of;
use crate::policy::{Known, Policy};
use crate::session::Output;
use crate::{ExitStatus, Failure};

pub(super) fn run(
    traces: &[PathBuf],
    jobs: Option<NonZeroUsize>,
    reduced: Option<&Path>,
    policy: &Policy,
    output: Output,
) -> Result<ExitStatus> {
    if reduced.is_some() {
        let what = "failed to write a reduced trace: it is made of one trace, and several were given";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    if !matches!(output.format(), Format::Human | Format::Json) {
        let what = "failed to report several traces in this form: it is human or json; \
                    `lazymmu report` makes any form of one trace";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    if policy.baseline.as_ref().is_some_and(Known::is_updated) {
        let what = "failed to update the baseline: it is made of one trace, and several were given";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    let jobs =
        jobs.map_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get), NonZeroUsize::get);
    let judge = |trace: &Path| judge_input(Some(trace), policy.clone(), None, output);
    let mut telling = Telling::new(output.format(), traces.len());
    in_order(traces, jobs, judge, |trace, judged| telling.tell(trace, judged))?;
    telling.end()
}

/// Does `work` for each item on so many threads, and hands the results to `take` in the order of the items, each as
/// soon as it and those before it are there. An error of `take` is the end.
fn in_order<I: AsRef<Path> + Sync, T: Send>(
    items: &[I],
    jobs: usize,
    work: impl Fn(&Path) -> T + Sync,
    mut take: impl FnMut(&Path, T) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    // Nobody listens any more: there is nothing to do.
                    if done.send((number, work(item.as_ref()))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut turn = 0;
        for (number, result) in results {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&turn) {
                take(items[turn].as_ref(), result)?;
                turn += 1;
            }
        }
        Ok(())
    })
}

/// Writes what is said of each trace, and remembers the worst status.
struct Telling {
    format: Format,
    traces: usize,
    told: usize,
    by_status: BTreeMap<u8, usize>,
    worst: ExitStatus,
}

impl Telling {
    fn new(format: Format, traces: usize) -> Self {
        Self { format, traces, told: 0, by_status: BTreeMap::new(), worst: ExitStatus::Clean }
    }

    fn tell(&mut self, trace: &Path, judged: Result<Judged>) -> Result<()> {
        let name = trace.display().to_string();
        let (status, report) = match judged {
            Ok(judged) => {
                for note in &judged.notes {
                    eprintln!("lazymmu: {name}: {note}");
                }
                (judged.status, Ok(judged.report))
            }
            Err(error) => {
                let why = format!("{error:#}");
                let named = if why.contains(&name) { why.clone() } else { format!("{name}: {why}") };
                eprintln!("lazymmu: {named}");
                (status_of(&error), Err(why))
            }
        };
        Output::print(&match self.format {
            Format::Json => self.as_json(&name, status, &report),
            _ => self.as_text(&name, &report),
        })?;
        self.told += 1;
        *self.by_status.entry(status as u8).or_default() += 1;
        self.worst = if rank(status) > rank(self.worst) { status } else { self.worst };
        Ok(())
    }

    fn as_text(&self, name: &str, report: &Result<String, String>) -> String {
        let gap = if self.told == 0 { "" } else { "\n" };
        match report {
            Ok(report) => format!("{gap}==> {name} <==\n{report}"),
            Err(why) => format!("{gap}==> {name} <==\nNOT JUDGED: {why}\n"),
        }
    }

    /// One element of the list, as the documents of single traces are laid out.
    fn as_json(&self, name: &str, status: ExitStatus, report: &Result<String, String>) -> String {
        let begin = match self.told {
            0 => format!("{{\n  \"schema\": {},\n  \"files\": [\n", Report::SCHEMA),
            _ => ",\n".to_owned(),
        };
        let name = serde_json::Value::from(name);
        let rest = match report {
            // No string of a document has a line break in it, so its lines can be moved.
            Ok(report) => format!("\"report\": {}", report.trim_end().replace('\n', "\n      ")),
            Err(why) => format!("\"error\": {}", serde_json::Value::from(why.as_str())),
        };
        let status = status as u8;
        format!("{begin}    {{\n      \"file\": {name},\n      \"status\": {status},\n      {rest}\n    }}")
    }

    fn end(self) -> Result<ExitStatus> {
        let count = |status: ExitStatus| self.by_status.get(&(status as u8)).copied().unwrap_or_default();
        let judged = [ExitStatus::Clean, ExitStatus::Hazards, ExitStatus::Inconclusive].map(count);
        let [clean, hazards, inconclusive] = judged;
        let rest = self.traces - judged.iter().sum::<usize>();
        let worst = self.worst as u8;
        Output::print(&match self.format {
            Format::Json => format!("\n  ],\n  \"status\": {worst}\n}}\n"),
            _ => format!(
                "\n{} traces: {hazards} with hazards, {inconclusive} inconclusive, {clean} clean, {rest} not judged\n",
                self.traces
            ),
        })?;
        Ok(self.worst)
    }
}

/// The worst status is that of all. A trace that was not judged at all is worse than one with hazards: else nobody would
/// notice that it never is.
fn rank(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Clean => 0,
        ExitStatus::Inconclusive => 1,
        ExitStatus::Hazards => 2,
        ExitStatus::CannotTrace | ExitStatus::NotPermitted => 3,
        ExitStatus::Usage | ExitStatus::Skip => 4,
        ExitStatus::Bug => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_whatever_takes_long() {
        let items: Vec<PathBuf> = (0..40).map(|number| PathBuf::from(number.to_string())).collect();
        let slow_first = |path: &Path| {
            let number: u64 = path.to_str().unwrap().parse().unwrap();
            thread::sleep(std::time::Duration::from_millis((40 - number) % 7));
            number * 10
        };
        for jobs in [1, 2, 8, 100] {
            let mut taken = Vec::new();
            let mut take = |path: &Path, result: u64| {
                taken.push((path.to_owned(), result));
                Ok(())
            };
            in_order(&items, jobs, slow_first, &mut take).unwrap();
            let expected: Vec<_> = items.iter().cloned().zip((0..40).map(|number| number * 10)).collect();
            assert_eq!(taken, expected, "{jobs} jobs");
        }
    }

    #[test]
    fn an_error_of_the_taker_ends_it() {
        let items: Vec<PathBuf> = (0..1000).map(|number| PathBuf::from(number.to_string())).collect();
        let worked = AtomicUsize::new(0);
        let work = |_: &Path| {
            worked.fetch_add(1, Ordering::Relaxed);
            thread::sleep(std::time::Duration::from_millis(1));
        };
        let refuse = |_: &Path, ()| Err(anyhow::anyhow!("no more"));
        assert!(in_order(&items, 2, work, refuse).is_err());
        assert!(worked.load(Ordering::Relaxed) < 1000);
    }

    #[test]
    fn what_was_not_judged_is_worse_than_a_hazard() {
        use ExitStatus::{Bug, Clean, Hazards, Inconclusive, Usage};
        let order = [Clean, Inconclusive, Hazards, Usage, Bug].map(rank);
        assert!(order.is_sorted_by(|a, b| a < b));
    }
}

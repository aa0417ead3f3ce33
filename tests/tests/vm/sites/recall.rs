//! How much of what the drop-in tells is told by probed instructions: both watch the same run of the same kernel.
//!
//! One lazymmu records by the drop-in's tracepoints, and the command that it runs is another one, which records by a plan.

use std::collections::{BTreeMap, BTreeSet};

use lazymmu_abi::{Kind, Op, Record};
use lazymmu_tests::{Series, step_output};
use lazymmu_vm::StepStatus;

use super::Trace;
use crate::shared::{PROBE_PLAN, Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

const WORKLOADS: [&str; 6] = ["fork", "mprotect", "mremap", "munmap", "madvise", "fork-exclusive"];

/// The traces: by the drop-in and by the plan.
const TRACES: [&str; 2] = ["dev.lmt", "site.lmt"];

/// Percent of the reads and writes in sections.
fn least(series: Series) -> usize {
    if series == Series::V6_12 { 95 } else { 99 }
}

/// Percent of the values that both tell.
const LEAST_EQUAL: usize = 99;

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let [dev, site] = TRACES.map(|name| format!("/out/{name}"));
        let by_plan = ["/bin/lazymmu", "record", "--plan", PROBE_PLAN, "-o", &site];
        let by_dev = ["record", "-o", &dev, "--"].into_iter().chain(by_plan);
        let both = lazymmu(by_dev.chain(["--", "workload", "run"]).chain(WORKLOADS));
        Plan::new().with_debug_info().with_probe_plan().run_as("both", both)
    })
}

/// What both recorded while both did.
fn both(run: &Run) -> [Trace; 2] {
    // The one upon the other may cost the drop-in's programs a hit: then its recording is inconclusive.
    let status = run.step("both").status;
    assert!(
        [StepStatus::Exit(0), StepStatus::Exit(3)].contains(&status),
        "{}",
        step_output(run.step("both"))
    );
    let [mut dev, mut site] = TRACES.map(|file| Trace::read(run.file(file)));
    assert!(dev.lost() < 10 && site.lost() == 0, "lost: {:?} and {:?}", dev.losses(), site.losses());
    let mut sections = site.records.iter().filter(|record| record.kind == Kind::Section as u8);
    let first = sections.next().map(|record| record.time).expect("no section by the plan");
    let last = sections.next_back().map_or(first, |record| record.time);
    for trace in [&mut dev, &mut site] {
        trace.records.retain(|record| (first..=last).contains(&record.time));
    }
    [dev, site]
}

/// An entry that was accessed, by whom and how.
type Access = (u32, u64, u8);

/// Every entry of every access, in the order of time: a record for each, with the value that it tells.
fn entries(trace: &Trace) -> BTreeMap<Access, Vec<(Record, Option<u64>)>> {
    let mut entries: BTreeMap<Access, Vec<_>> = BTreeMap::new();
    for record in trace.accesses() {
        for index in 0..u64::from(record.count) {
            let key = (record.tid, record.entry + 8 * index, record.kind);
            let value = record.known_value().filter(|_| index == 0);
            entries.entry(key).or_default().push((*record, value));
        }
    }
    entries
}

fn refusals_are_foreseen(site: &Trace) {
    let sites = site.header.plan.sites.as_ref().expect("no sites in the header");
    eprintln!("{} found, {} probed, {} refused", sites.found, sites.hooked, sites.refused());
    let unforeseen: Vec<_> = sites.refused.iter().filter(|refused| !refused.foreseen).collect();
    assert!(unforeseen.is_empty(), "{unforeseen:#?}");
}

pub(crate) fn accesses_are_the_same(series: Series) {
    let [dev, site] = both(run(series));
    // 6.12 refuses two calls of the mode in what commits a hazard, which is not understood.
    if series == Series::V7 {
        refusals_are_foreseen(&site);
    }
    let known = entries(&site);
    let (mut all, mut told, mut compared, mut equal) = (0, 0, 0, 0);
    let mut missed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut different: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (key, expected) in entries(&dev) {
        let found = known.get(&key).map_or(&[][..], Vec::as_slice);
        all += expected.len();
        told += found.len().min(expected.len());
        for (record, _) in expected.iter().skip(found.len()) {
            *missed.entry((dev.function(record), name(record))).or_default() += 1;
        }
        // Which is which can be told only if both have as many.
        let pairs = expected.iter().zip(found).filter(|_| found.len() == expected.len());
        for ((record, value), (_, other)) in pairs {
            if let (Some(value), Some(other)) = (value, other) {
                compared += 1;
                equal += usize::from(value == other);
                if value != other {
                    *different.entry((dev.function(record), name(record))).or_default() += 1;
                }
            }
        }
    }
    // `cargo xtask recall` is for this.
    let release = &dev.header.kernel.release;
    let share = 10_000 * told / all.max(1);
    eprintln!(
        "\n{release}: {told} of {all} entries accessed in sections are told by probed instructions ({}.{:02} %)",
        share / 100,
        share % 100
    );
    eprintln!("{release}: {equal} of {compared} values that both tell are the same");
    for (what, list) in [("not told", &missed), ("another value", &different)] {
        for ((function, op), count) in list {
            eprintln!("{release}: {what}: {count} of {op} in {function}");
        }
    }
    assert!(all > 20_000, "too little happened: {all}");
    assert!(100 * told >= least(series) * all, "{told} of {all} are told");
    assert!(compared > all / 4, "too few values can be compared: {compared}");
    assert!(100 * equal >= LEAST_EQUAL * compared, "{equal} of {compared} values are the same");
}

pub(crate) fn sections_are_the_same(series: Series) {
    let [dev, site] = both(run(series)).map(|trace| calls(&trace));
    let keys: BTreeSet<_> = dev.keys().chain(site.keys()).collect();
    let count = |calls: &BTreeMap<_, usize>, key| calls.get(key).copied().unwrap_or(0);
    let different: Vec<_> = keys.iter().filter(|key| count(&dev, **key) != count(&site, **key)).collect();
    let by: usize = different.iter().map(|key| count(&dev, **key).abs_diff(count(&site, **key))).sum();
    // Of a call at either end of the window, only one may tell.
    assert!(by <= 2, "{different:?}");
}

/// A task, what it called, and the counters that it then had.
type Call = (u32, u8, Option<u64>, Option<u64>);

/// How often each task entered and left.
fn calls(trace: &Trace) -> BTreeMap<Call, usize> {
    let mut calls = BTreeMap::new();
    for record in trace.records.iter().filter(|record| {
        record.kind == Kind::Section as u8 && [Op::Enter as u8, Op::Leave as u8].contains(&record.op)
    }) {
        *calls.entry((record.tid, record.op, record.known_value(), record.known_memory())).or_default() += 1;
    }
    calls
}

fn name(record: &Record) -> &'static str {
    Op::try_from(record.op).map_or("?", Op::name)
}

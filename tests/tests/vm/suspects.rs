//! What the level `suspects` finds is what `sections` finds. Both capture the same run of each workload, one inside the
//! other, and what they have of the workload's own processes is judged by itself.

use std::collections::{BTreeMap, BTreeSet};

use lazymmu_abi::Record;
use lazymmu_hazard::rules::RuleId;
use lazymmu_hazard::{Arch, Config, Engine, Outcome};
use lazymmu_tests::{Series, number_before, step_output};
use lazymmu_trace::Reader;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// The workloads that run on every kernel that is tested.
const WORKLOADS: [&str; 13] = [
    "fork-exclusive",
    "fork",
    "mprotect",
    "mremap",
    "munmap",
    "madvise",
    "swap",
    "swap-private-file",
    "thp",
    "userfaultfd-move",
    "pagemap-scan",
    "migrate-device",
    "vmalloc",
];

/// Rules of pending writes of which something must be found in them.
const FOUND: [RuleId; 3] = [RuleId::ReadPending, RuleId::RmwPending, RuleId::TlbBeforeFlush];

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let outer = ["record", "-o", "/out/sections.lmt", "--", "/bin/lazymmu"];
        let inner = ["record", "--capture", "suspects", "-o", "/out/suspects.lmt", "--"];
        let each = ["/init", "each", "/bin/lazymmu", "workload", "run", "--"];
        let both = outer.into_iter().chain(inner).chain(each).chain(WORKLOADS);
        let tiny = ["live", "--format", "json", "--capture", "suspects", "--pending", "16"];
        let tiny = tiny.into_iter().chain(["--", "workload", "run", "mprotect"]);
        Plan::new().run_as("both", lazymmu(both)).run_as("tiny table", lazymmu(tiny))
    })
}

fn records(run: &Run, file: &str) -> Vec<Record> {
    let mut reader = Reader::from_bytes(run.file(file)).unwrap();
    let mut records = Vec::new();
    while let Some(batch) = reader.records.next_batch().unwrap() {
        records.extend_from_slice(batch);
    }
    records
}

/// The processes that were first seen when both captures were under way.
fn processes(sections: &[Record], suspects: &[Record]) -> BTreeSet<u32> {
    let begin = suspects.first().map_or(u64::MAX, |record| record.time);
    let mut first = BTreeMap::new();
    for record in sections {
        first.entry(record.tgid).or_insert(record.time);
    }
    first.into_iter().filter(|(_, time)| *time > begin).map(|(process, _)| process).collect()
}

fn judge(records: &[Record], processes: &BTreeSet<u32>) -> Outcome {
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    for record in records.iter().filter(|record| processes.contains(&record.tgid)) {
        engine.process(record);
    }
    engine.finish()
}

/// Everything that is found, with its stacks and how often.
fn shown(outcome: &Outcome) -> Vec<String> {
    let found = outcome.occurrences.iter().map(|found| format!("{} times {:?}", found.count, found.place));
    let mut lines: Vec<String> = found.collect();
    lines.sort();
    lines
}

pub(crate) fn find_the_same(series: Series) {
    let run = run(series);
    let step = run.step("both");
    let said = String::from_utf8_lossy(&step.stderr);
    for name in WORKLOADS {
        assert!(
            String::from_utf8_lossy(&step.stdout).contains(&format!("{name}: ")),
            "{}",
            step_output(step)
        );
    }
    let whole = said.matches(" 0 lost").count() == 2;
    let (sections, suspects) = (records(run, "sections.lmt"), records(run, "suspects.lmt"));
    println!("{} records at sections, {} at suspects", sections.len(), suspects.len());
    assert!(suspects.len() * 5 < sections.len(), "{} of {}", suspects.len(), sections.len());
    let processes = processes(&sections, &suspects);
    let (expected, outcome) = (judge(&sections, &processes), judge(&suspects, &processes));
    assert!(expected.statistics.in_sections > 100_000, "{:?}", expected.statistics);
    for rule in FOUND {
        let found = expected.occurrences.iter().any(|found| found.place.rule == rule);
        assert!(found, "{rule:?} is not found at all");
    }
    // Two captures on one CPU may each miss a hit in which the other was interrupted. Then all places must be the same, but
    // not how often.
    let places = |outcome: &Outcome| -> Vec<String> {
        let mut places: Vec<_> =
            outcome.occurrences.iter().map(|found| format!("{:?}", found.place)).collect();
        places.sort();
        places
    };
    assert_eq!(places(&expected), places(&outcome));
    let (expected, outcome) = (shown(&expected), shown(&outcome));
    assert!(expected == outcome || !whole, "sections found {expected:#?}\nsuspects found {outcome:#?}");
    println!("all the same: {}", expected == outcome);
}

pub(crate) fn a_full_table_is_a_loss(series: Series) {
    let run = run(series);
    let step = run.expect_exit("tiny table", 3);
    let report = run.report("tiny table");
    assert_eq!(report.verdict(), "inconclusive");
    let stderr = String::from_utf8_lossy(&step.stderr);
    let line = stderr
        .lines()
        .find(|line| line.contains("items:"))
        .unwrap_or_else(|| panic!("{}", step_output(step)));
    assert!(number_before(line, "lost").unwrap() > 1000, "{line}");
}

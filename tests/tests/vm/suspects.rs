//! What the level `suspects` finds is what `sections` finds. Both capture the same run of each workload, one inside the
//! other, and what they have of the workload's own processes is judged by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use lazymmu_abi::{Kind, Record};
use lazymmu_hazard::rules::RuleId;
use lazymmu_hazard::{Arch, Config, Engine, Outcome, Statistics};
use lazymmu_tests::{Lab, Report, Series, Stock, number_before, step_output};
use lazymmu_trace::Reader;
use lazymmu_vm::{Command, Finished, Job, StepResult};

use crate::shared::{PROBE_PLAN, Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();
static XEN: Runs = Runs::new();
static BARE: Runs = Runs::new();
static STOCK: [OnceLock<Result<Finished, String>>; 4] = [const { OnceLock::new() }; 4];

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

/// Those that take what a stock kernel has without modules.
const PLAIN: [&str; 5] = ["fork", "mprotect", "mremap", "munmap", "madvise"];

/// Those in which the most is found.
const FINDERS: [&str; 4] = ["fork-exclusive", "mremap", "swap-private-file", "pagemap-scan"];

/// Those that a guest of Xen survives.
const SURVIVED: [&str; 5] = ["fork", "mprotect", "mremap", "munmap", "swap-private-file"];

/// Rules of pending writes of which something must be found in all of them.
const FOUND: [RuleId; 3] = [RuleId::ReadPending, RuleId::RmwPending, RuleId::TlbBeforeFlush];

/// Where machines have the plan of a stock kernel. The name has to end so: it is compressed.
const STOCK_PLAN: &str = "/kernel.plan.zst";

/// What is kept of a recording.
const FILTER: &str = "rule=read-pending";

/// Both captures, with these options of both, of these workloads.
fn both(options: &[&'static str], workloads: &[&'static str]) -> Command {
    let outer = ["record", "-o", "/out/sections.lmt"].iter().chain(options).chain(&["--", "/bin/lazymmu"]);
    let inner = ["record", "--capture", "suspects", "-o", "/out/suspects.lmt"].iter().chain(options);
    let each = ["--", "/init", "each", "/bin/lazymmu", "workload", "run", "--"];
    lazymmu(outer.chain(inner).chain(&each).chain(workloads).copied())
}

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let tiny = ["live", "--format", "json", "--capture", "suspects", "--pending", "16"];
        let tiny = tiny.into_iter().chain(["--", "workload", "run", "mprotect"]);
        let filter = ["--capture", "suspects", "--filter", FILTER];
        let live = ["live", "--format", "json", "--record", "/out/live.lmt"].into_iter().chain(filter);
        let record = ["record", "-o", "/out/filtered.lmt"].into_iter().chain(filter);
        let workload = ["--", "workload", "run", "fork-exclusive", "mprotect"];
        Plan::new()
            .run_as("both", both(&[], &WORKLOADS))
            .run_as("tiny table", lazymmu(tiny))
            .run_as("live", lazymmu(live.chain(workload)))
            .run_as("record", lazymmu(record.chain(workload)))
    })
}

fn run_under_xen(series: Series) -> &'static Run {
    XEN.get(series, || Plan::new().under_xen().run_as("both", both(&[], &SURVIVED)))
}

fn run_without_the_drop_in(series: Series) -> &'static Run {
    BARE.get(series, || {
        let both = both(&["--plan", PROBE_PLAN], &FINDERS);
        Plan::new().with_probe_plan().run_as("both", both)
    })
}

fn run_by_plan(stock: Stock) -> &'static Finished {
    let run = STOCK[stock as usize].get_or_init(|| boot(stock).map_err(|error| error.to_string()));
    run.as_ref().unwrap_or_else(|error| panic!("the run that this test looks at failed: {error}"))
}

fn boot(stock: Stock) -> Result<Finished, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let mut initramfs = lab.initramfs()?;
    initramfs.add_file(STOCK_PLAN, &lab.stock_plan(stock)?, 0o644)?;
    let job = Job::new([both(&["--plan", STOCK_PLAN], &PLAIN).into()]);
    Ok(lab.machine(&lab.stock_kernel(stock)?).run(&initramfs, &job, &mut |_| ())?)
}

/// What both captures gave.
struct Both<'a> {
    step: &'a StepResult,
    sections: Vec<Record>,
    suspects: Vec<Record>,
    /// Whether neither has lost anything.
    whole: bool,
}

impl<'a> Both<'a> {
    fn of(step: &'a StepResult, sections: &[u8], suspects: &[u8]) -> Self {
        let said = String::from_utf8_lossy(&step.stderr);
        let whole = said.matches(" 0 lost").count() == 2;
        Self { step, sections: records(sections), suspects: records(suspects), whole }
    }

    /// Fails unless both found the same in these workloads; gives what.
    fn compare(&self, workloads: &[&str]) -> Outcome {
        let Self { step, sections, suspects, whole } = self;
        for name in workloads {
            assert!(
                String::from_utf8_lossy(&step.stdout).contains(&format!("{name}: ")),
                "{}",
                step_output(step)
            );
        }
        println!("{} records at sections, {} at suspects", sections.len(), suspects.len());
        assert!(suspects.len() * 5 < sections.len(), "{} of {}", suspects.len(), sections.len());
        let processes = processes(sections, suspects);
        let (expected, outcome) = (judge(sections, &processes), judge(suspects, &processes));
        // Two captures on one CPU may each miss a hit in which the other was interrupted. Then all places must be the same,
        // but not how often.
        let places = |outcome: &Outcome| -> Vec<String> {
            let mut places: Vec<_> =
                outcome.occurrences.iter().map(|found| format!("{:?}", found.place)).collect();
            places.sort();
            places
        };
        assert_eq!(places(&expected), places(&outcome));
        let (all, told) = (shown(&expected), shown(&outcome));
        assert!(all == told || !whole, "sections found {all:#?}\nsuspects found {told:#?}");
        let (all, told) = (figures(&expected.statistics), figures(&outcome.statistics));
        assert!(all == told || !whole, "sections counted {all:#?}\nsuspects counted {told:#?}");
        println!("nothing was lost: {whole}; {} accesses in sections", expected.statistics.in_sections);
        expected
    }
}

fn records(trace: &[u8]) -> Vec<Record> {
    let mut reader = Reader::from_bytes(trace).unwrap();
    let mut records = Vec::new();
    while let Some(batch) = reader.records.next_batch().unwrap() {
        records.extend_from_slice(batch);
    }
    records
}

/// The processes that were seen only while both captures were under way. Which the inner capture itself is not.
fn processes(sections: &[Record], suspects: &[Record]) -> BTreeSet<u32> {
    let begin = suspects.first().map_or(u64::MAX, |record| record.time);
    let end = suspects.last().map_or(0, |record| record.time);
    let mut seen: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for record in sections {
        seen.entry(record.tgid).or_insert((record.time, 0)).1 = record.time;
    }
    let whole = seen.into_iter().filter(|(_, (first, last))| *first > begin && *last <= end);
    whole.map(|(process, _)| process).collect()
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

/// What docs/ebpf.md says is the same. The sum of what was pending at one time is not, as several sections may be open.
fn figures(statistics: &Statistics) -> BTreeMap<&'static str, u64> {
    let sizes = statistics.batch_sizes;
    BTreeMap::from([
        ("accesses in sections", statistics.in_sections),
        ("accesses in interrupts", statistics.in_interrupts),
        ("sections", statistics.sections),
        ("enters inside of sections", statistics.nested_enters),
        ("nesting", statistics.deepest),
        ("pauses", statistics.pauses),
        ("flushes", statistics.flushes),
        ("entries written", statistics.entries_written),
        ("batches", sizes.batches),
        ("empty batches", sizes.empty),
        ("entries of batches", sizes.entries),
        ("largest batch", sizes.largest),
    ])
}

pub(crate) fn find_the_same(series: Series) {
    let run = run(series);
    let both = Both::of(run.step("both"), run.file("sections.lmt"), run.file("suspects.lmt"));
    let expected = both.compare(&WORKLOADS);
    assert!(expected.statistics.in_sections > 100_000, "{:?}", expected.statistics);
    for rule in FOUND {
        let found = expected.occurrences.iter().any(|found| found.place.rule == rule);
        assert!(found, "{rule:?} is not found at all");
    }
}

/// The mode is a state of each CPU there, and stores really wait.
pub(crate) fn find_the_same_under_xen(series: Series) {
    let run = run_under_xen(series);
    let both = Both::of(run.step("both"), run.file("sections.lmt"), run.file("suspects.lmt"));
    let expected = both.compare(&SURVIVED);
    let found = expected.occurrences.iter().any(|found| found.place.rule == RuleId::ReadPending);
    assert!(found, "{:?}", expected.statistics);
}

/// By the probes of a plan.
pub(crate) fn find_the_same_without_the_drop_in(series: Series) {
    let run = run_without_the_drop_in(series);
    let both = Both::of(run.step("both"), run.file("sections.lmt"), run.file("suspects.lmt"));
    let expected = both.compare(&FINDERS);
    for rule in [RuleId::ReadPending, RuleId::RmwPending] {
        let found = expected.occurrences.iter().any(|found| found.place.rule == rule);
        assert!(found, "{rule:?} is not found at all");
    }
}

/// The same on Debian's kernels.
pub(crate) fn find_the_same_by_plan(stock: Stock) {
    let run = run_by_plan(stock);
    let file = |name: &str| match run.files.get(Path::new(name)) {
        Some(file) => file.as_slice(),
        None => panic!("there is no {name}; {}", step_output(&run.steps[0])),
    };
    let both = Both::of(&run.steps[0], file("sections.lmt"), file("suspects.lmt"));
    let expected = both.compare(&PLAIN);
    assert!(expected.statistics.entries_written > 10_000, "{:?}", expected.statistics);
}

/// A filter selects from such a trace what it selects from what is kept of it.
pub(crate) fn filters_select_the_same(series: Series) {
    let run = run(series);
    let directory = tempfile::tempdir().unwrap();
    let [whole, part] = ["whole.lmt", "part.lmt"].map(|name| directory.path().join(name));
    std::fs::write(&whole, run.file("suspects.lmt")).unwrap();
    let replay = |trace: &Path, filter: &str, more: &[&str]| -> Report {
        let mut command = std::process::Command::new(run.lab.lazymmu());
        command.arg("replay").arg(trace).args(["--format", "json", "--filter", filter]).args(more);
        lazymmu_tests::run_binary(&mut command).unwrap().report().unwrap_or_else(|error| panic!("{error}"))
    };
    let mut found = 0;
    for filter in ["rule=read-pending", "rule=rmw-pending,tlb-before-flush", "level=pmd", "cpu=1"] {
        let mut command = std::process::Command::new(run.lab.lazymmu());
        command.arg("replay").arg(&whole).args(["--keep", filter, "-o"]).arg(&part);
        lazymmu_tests::run_binary(&mut command).unwrap();
        let (all, kept) = (replay(&whole, filter, &[]), replay(&part, filter, &[]));
        std::fs::remove_file(&part).unwrap();
        assert!(kept.number("/records/total") < all.number("/records/total"), "{filter}");
        for rule in FOUND {
            let name = rule.info().name;
            assert_eq!(all.findings(name), kept.findings(name), "{filter}");
            found += all.findings(name).len();
        }
    }
    assert!(found > 0);
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

/// What is recorded by a filter and as suspects at once is judged alike live and from the trace, and has what is selected.
pub(crate) fn a_recording_may_be_filtered(series: Series) {
    let run = run(series);
    run.expect_exit("live", 1);
    run.expect_exit("record", 0);
    let replayed = run.replay("live.lmt");
    assert_eq!(String::from_utf8_lossy(&run.step("live").stdout), String::from_utf8_lossy(&replayed.stdout));
    let recorded = run.replay("filtered.lmt").report().unwrap_or_else(|error| panic!("{error}"));
    let live = run.report("live");
    for report in [&live, &recorded] {
        assert_eq!(report.number("/losses/total"), 0);
        assert_eq!(report.0["filter"]["trace"], FILTER, "{:#}", report.0["filter"]);
        let all = report.0["findings"].as_array().unwrap();
        assert_eq!(all.len(), report.findings("read-pending").len());
    }
    // The same pages are forked in both runs, from the same place.
    let counts = |report: &Report| -> Vec<_> {
        report.findings("read-pending").iter().map(|finding| finding["count"].as_u64().unwrap()).collect()
    };
    assert!(!counts(&live).is_empty());
    assert_eq!(counts(&live), counts(&recorded));
    // The sections of mprotect are left out, but for the calls of the mode.
    let kept = records(run.file("filtered.lmt"));
    let kinds = [Kind::Read, Kind::Write, Kind::Rmw].map(|kind| kind as u8);
    let accesses = kept.iter().filter(|record| kinds.contains(&record.kind)).count();
    assert!(accesses > 0 && accesses < 4096, "{accesses}");
}

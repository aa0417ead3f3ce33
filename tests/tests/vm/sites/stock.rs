//! Debian's kernels as they are, traced by their plans.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use lazymmu_abi::{Context, Kind, Op, Record};
use lazymmu_tests::{Lab, Stock, number_before, step_output};
use lazymmu_vm::{Finished, Job, StepStatus};

use super::Trace;
use crate::shared::lazymmu;

/// Where machines have the plan.
const PLAN: &str = "/kernel.plan.zst";

/// Pages that each of the workloads works on.
const PAGES: u64 = 4096;

const WORKLOADS: [&str; 5] = ["fork", "mprotect", "mremap", "munmap", "madvise"];

/// What has to be seen of them: on how many entries, by which operation, or which where kernels differ.
const EXPECTED: [(u64, &[Op]); 7] = [
    (4 * PAGES, &[Op::PtepGet, Op::RawRead]),
    // fork
    (PAGES, &[Op::WrprotectPtes, Op::PtepSetWrprotect]),
    // fork and mremap
    (2 * PAGES, &[Op::SetPtes]),
    // mprotect, twice
    (2 * PAGES, &[Op::ModifyProtStart]),
    (2 * PAGES, &[Op::ModifyProtCommit]),
    // mremap
    (PAGES, &[Op::GetAndClearFullPtes, Op::PtepGetAndClear]),
    // munmap, madvise and the ends of processes
    (3 * PAGES, &[Op::ClearFullPtes, Op::GetAndClearFullPtes, Op::PtepGetAndClearFull]),
];

static RUNS: [OnceLock<Result<Finished, String>>; 3] = [const { OnceLock::new() }; 3];

fn run(stock: Stock) -> &'static Finished {
    let run = RUNS[stock as usize].get_or_init(|| do_run(stock).map_err(|error| error.to_string()));
    run.as_ref().unwrap_or_else(|error| panic!("the run that this test looks at failed: {error}"))
}

fn do_run(stock: Stock) -> Result<Finished, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let mut initramfs = lab.initramfs()?;
    initramfs.add_file(PLAN, &lab.stock_plan(stock)?, 0o644)?;
    let record = |trace: &str, options: &[&str], workloads: &[&str]| {
        let by_plan = ["record", "--plan", PLAN, "-o", trace].into_iter().chain(options.iter().copied());
        let workloads = ["--", "workload", "run"].into_iter().chain(workloads.iter().copied());
        lazymmu(by_plan.chain(workloads)).into()
    };
    let job = Job::new([
        record("/out/sections.lmt", &[], &WORKLOADS),
        record("/out/all.lmt", &["--scope", "all"], &["fork"]),
        record("/out/frames.lmt", &[], &["page-frames"]),
    ]);
    let finished = lab.machine(&lab.stock_kernel(stock)?).cpus(2).run(&initramfs, &job, &mut |_| ())?;
    for step in &finished.steps {
        if step.status != StepStatus::Exit(0) {
            return Err(step_output(step).into());
        }
    }
    Ok(finished)
}

fn trace(stock: Stock, name: &str) -> Trace {
    let name = format!("{name}.lmt");
    Trace::read(&run(stock).files[std::path::Path::new(&name)])
}

pub(crate) fn takes_what_the_plan_says(stock: Stock) {
    let sites = trace(stock, "sections").header.plan.sites.expect("no sites in the header");
    let refused = sites.refused();
    eprintln!(
        "{} found, {} probed, {} covered, {refused} refused, {} of unknown entries",
        sites.found, sites.hooked, sites.covered, sites.unaddressed
    );
    let unforeseen: Vec<_> = sites.refused.iter().filter(|refused| !refused.foreseen).collect();
    assert!(unforeseen.is_empty(), "{unforeseen:#?}");
    assert_eq!(sites.hooked + sites.covered + sites.unaddressed + refused, sites.found);
    let least = if stock == Stock::V6_1 { 85 } else { 90 };
    assert!(100 * (sites.found - refused) >= least * sites.found, "{refused} of {} are refused", sites.found);
    assert!(sites.hooked > 700, "{}", sites.hooked);
    let uncounted = sites.blind.iter().any(|blind| blind.contains("does not count"));
    assert_eq!(uncounted, stock == Stock::V6_1, "{:?}", sites.blind);
}

pub(crate) fn workloads_are_seen(stock: Stock) {
    let trace = trace(stock, "sections");
    let mut seen: BTreeMap<u8, u64> = BTreeMap::new();
    let in_task = |record: &&Record| record.context() == Context::Task;
    let (all, in_tasks) = (trace.accesses().count(), trace.accesses().filter(in_task).count());
    assert!(100 * in_tasks >= 99 * all, "{in_tasks} of {all} are no interrupt's");
    for record in trace.accesses() {
        assert!(is_plausible(record), "{record:?}");
        *seen.entry(record.op).or_default() += u64::from(record.count);
    }
    let names: BTreeMap<&str, u64> =
        seen.iter().map(|(op, count)| (Op::try_from(*op).map_or("?", Op::name), *count)).collect();
    eprintln!("{names:?}");
    for (least, choice) in EXPECTED {
        let count: u64 = choice.iter().filter_map(|op| seen.get(&(*op as u8))).sum();
        assert!(count >= least, "{choice:?} on {count} entries; {names:?}");
    }
    let entered = trace.records.iter().filter(|record| record.op == Op::Enter as u8).count();
    let left = trace.records.iter().filter(|record| record.op == Op::Leave as u8).count();
    assert!(entered > 50 && entered.abs_diff(left) <= 1, "{entered} entered, {left} left");
}

/// Entries are where the kernel maps memory, aligned, and tasks touch them.
fn is_plausible(record: &Record) -> bool {
    record.entry >> 56 == 0xff
        && record.entry.is_multiple_of(8)
        && record.count > 0
        && record.stack != 0
        && (1..=3).contains(&record.level)
}

/// What is found in an entry is what was last written there, but for the bits that the processor sets. Every access is
/// recorded for this, as entries are written outside of sections as well.
pub(crate) fn values_are_those_that_were_written(stock: Stock) {
    const ACCESSED_AND_DIRTY: u64 = 3 << 5;
    let trace = trace(stock, "all");
    let (mut compared, mut equal) = (0_u64, 0_u64);
    let mut different: BTreeMap<(String, u8, String, u8), u64> = BTreeMap::new();
    let mut written: BTreeMap<u64, (u64, &Record)> = BTreeMap::new();
    for record in trace.accesses() {
        if record.kind != Kind::Write as u8
            && let (Some((written, by)), Some(value)) = (written.get(&record.entry), record.known_value())
        {
            compared += 1;
            if (written ^ value) & !ACCESSED_AND_DIRTY == 0 {
                equal += 1;
            } else {
                let place = |record| trace.function(record).to_owned();
                *different.entry((place(by), by.op, place(record), record.op)).or_default() += 1;
            }
        }
        if record.kind == Kind::Read as u8 {
            continue;
        }
        // What is not told any more, or not told at all, cannot be compared.
        for index in 0..u64::from(record.count) {
            written.remove(&(record.entry + 8 * index));
        }
        if record.kind == Kind::Write as u8
            && let Some(value) = record.known_value()
        {
            written.insert(record.entry, (value, record));
        }
    }
    eprintln!("{equal} of {compared} values are those that were written");
    for ((writer, write, reader, read), count) in &different {
        let name = |op: &u8| Op::try_from(*op).map_or("?", Op::name);
        eprintln!("another value: {count} of {} in {reader} after {} in {writer}", name(read), name(write));
    }
    assert!(compared > 4096, "{compared}");
    assert!(equal * 100 >= compared * 99, "{equal} of {compared}");
}

/// Each entry is at its address's place in a table, and maps the frame that the kernel itself names.
pub(crate) fn entries_are_where_the_kernel_has_the_pages(stock: Stock) {
    const FRAMES: u64 = 0x000f_ffff_ffff_f000;
    let said = String::from_utf8_lossy(&run(stock).steps[2].stdout).into_owned();
    let told: Vec<(u64, u64)> = said
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(address, frame)| {
            [address, frame].map(|number| u64::from_str_radix(number, 16).unwrap()).into()
        })
        .collect();
    assert!(told.len() > 100, "{said}");
    let trace = trace(stock, "frames");
    let changed: Vec<_> = trace.accesses().filter(|record| record.op == Op::ModifyProtStart as u8).collect();
    // Addresses of one table, and tables.
    let mut tables: BTreeMap<u64, u64> = BTreeMap::new();
    for (address, frame) in told {
        let of_frame: Vec<_> = changed
            .iter()
            .filter(|record| {
                let found = record.known_value().or(record.known_memory()).unwrap_or_default();
                (found & FRAMES) >> 12 == frame && record.entry & 0xfff == (address >> 12 & 0x1ff) * 8
            })
            .collect();
        let [record] = of_frame[..] else {
            panic!(
                "{address:x}={frame:x} is in {} of {} records: {of_frame:?}",
                of_frame.len(),
                changed.len()
            );
        };
        assert_eq!((record.level, record.count), (1, 1), "{record:?}");
        assert_eq!(
            *tables.entry(address >> 21).or_insert(record.entry >> 12),
            record.entry >> 12,
            "{record:?}"
        );
    }
    let places: std::collections::BTreeSet<_> = tables.values().collect();
    assert!(tables.len() >= 8 && places.len() == tables.len(), "{tables:x?}");
}

pub(crate) fn nothing_is_lost(stock: Stock) {
    for step in &run(stock).steps {
        let said = String::from_utf8_lossy(&step.stderr);
        let line = said.lines().find(|line| line.contains("items:")).expect("no account");
        assert_eq!(number_before(line, "lost"), Some(0), "{line}");
    }
}

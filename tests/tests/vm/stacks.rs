//! The call stacks of mode calls: the kernel's own test of the mode (mm/tests/lazy_mmu_mode_kunit.c, 7.2) does in one
//! function whatever may be done with it.

use lazymmu_abi::{Kind, Op, Record};
use lazymmu_tests::Series;
use lazymmu_trace::Reader;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// Whatever is written there, the tests are run.
const TEST: &str = "/sys/kernel/debug/kunit/lazy_mmu_mode/run";

/// The function that calls.
const CALLER: &str = "lazy_mmu_mode_active";

/// What it does, and whether that is a call of which a finding may be: all but the plain leave at the end.
const CALLS: [(Op, bool); 10] = [
    (Op::Enter, true),
    (Op::Enter, true),
    (Op::Leave, true),
    (Op::Pause, true),
    (Op::Enter, true),
    (Op::Leave, true),
    (Op::Pause, true),
    (Op::Resume, true),
    (Op::Resume, true),
    (Op::Leave, false),
];

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let record = ["record", "-o", "/out/kunit.lmt", "--", "/init", "write", TEST, "1"];
        Plan::new().on_cpus(2).run_as("kunit", lazymmu(record))
    })
}

pub(crate) fn odd_calls_have_stacks(series: Series) {
    let run = run(series);
    run.expect_exit("kunit", 0);
    let mut reader = Reader::from_bytes(run.file("kunit.lmt")).unwrap_or_else(|error| panic!("{error}"));
    let mut records: Vec<Record> = Vec::new();
    while let Some(batch) = reader.records.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        records.extend_from_slice(batch);
    }
    assert!(
        records.is_sorted_by_key(|record| record.time),
        "the records are not in the order of their times"
    );
    let innermost = |record: &Record| {
        let mut frames = reader.about.symbols.frames(record.stack);
        frames.next().map(|frame| frame.function.clone())
    };
    let by_test = |record: &&Record| innermost(record).as_deref() == Some(CALLER);
    let task =
        records.iter().find(by_test).unwrap_or_else(|| panic!("nothing is by the test: {records:#?}")).tid;
    let calls: Vec<&Record> =
        records.iter().filter(|record| record.tid == task && record.kind == Kind::Section as u8).collect();
    let ops: Vec<Op> = calls.iter().filter_map(|record| Op::try_from(record.op).ok()).collect();
    let start = ops.windows(CALLS.len()).position(|ops| ops.iter().eq(CALLS.iter().map(|(op, _)| op)));
    let start = start.unwrap_or_else(|| panic!("the test did something else: {ops:?}"));
    for (record, (op, odd)) in calls[start..].iter().zip(&CALLS) {
        let expected = odd.then_some(CALLER);
        assert_eq!(innermost(record).as_deref(), expected, "{}: {record:#?}", op.name());
    }
}

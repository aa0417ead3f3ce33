//! The known hazard, on a real kernel: fork of a range to which a device has exclusive access. Between entering and
//! leaving the lazy MMU mode, `copy_pte_range` has an entry restored and reads it back (mm/memory.c, 6.12 and 7.2).

use lazymmu_tests::{Report, Series, number_before, step_output};

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let live = ["live", "--format", "json", "--record", "/out/fork-exclusive.lmt"];
        let workload = ["--", "workload", "run", "fork-exclusive"];
        Plan::new().on_cpus(2).with_debug_info().run_as("live", lazymmu(live.into_iter().chain(workload)))
    })
}

pub(crate) fn live_finds_the_read(series: Series) {
    let run = run(series);
    run.expect_exit("live", 1);
    let report = run.report("live");
    assert_eq!(report.verdict(), "hazards");
    let findings = report.findings("read-pending");
    let found = findings.iter().find(|finding| {
        Report::functions(finding, "write").contains(&"restore_exclusive_pte")
            && Report::functions(finding, "access").contains(&"copy_pte_range")
    });
    let found = found.unwrap_or_else(|| panic!("no such finding; {}", step_output(run.step("live"))));
    assert_eq!(Report::breaks(found, "xen-pv"), Some(true), "{found:#}");
    assert_eq!(Report::breaks(found, "arm64"), Some(false), "{found:#}");
    let frames = found["access"]["stack"].as_array().unwrap();
    let inlined = frames.iter().find(|frame| frame["inlined"] == true);
    let inlined = inlined.unwrap_or_else(|| panic!("no inlined frame in {frames:#?}"));
    assert!(inlined["file"].is_string() && inlined["line"].is_u64(), "no source line in {inlined:#}");
}

pub(crate) fn live_finds_the_read_modify_write(series: Series) {
    let run = run(series);
    let report = run.report("live");
    let findings = report.findings("rmw-pending");
    let found = findings.iter().find(|finding| finding["access"]["op"] == "wrprotect_ptes");
    let found = found.unwrap_or_else(|| panic!("no such finding; {}", step_output(run.step("live"))));
    assert!(Report::functions(found, "write").contains(&"restore_exclusive_pte"), "{found:#}");
    assert_eq!(Report::breaks(found, "xen-pv"), Some(true), "{found:#}");
    assert_eq!(Report::breaks(found, "arm64"), Some(false), "{found:#}");
}

pub(crate) fn live_loses_nothing(series: Series) {
    let run = run(series);
    assert_eq!(run.report("live").number("/losses/total"), 0);
    let step = run.step("live");
    let stderr = String::from_utf8_lossy(&step.stderr);
    let line = stderr
        .lines()
        .find(|line| line.contains("items:"))
        .unwrap_or_else(|| panic!("{}", step_output(step)));
    assert_eq!(number_before(line, "lost"), Some(0), "{line}");
    assert_eq!(number_before(line, "items"), number_before(line, "seen"), "{line}");
}

pub(crate) fn replay_says_what_live_said(series: Series) {
    let run = run(series);
    let replayed = run.replay("fork-exclusive.lmt");
    assert_eq!(replayed.code, Some(1), "{}", replayed.stderr);
    let live = &run.step("live").stdout;
    assert!(
        *live == replayed.stdout,
        "live said:\n{}\nreplay says:\n{}",
        String::from_utf8_lossy(live),
        String::from_utf8_lossy(&replayed.stdout)
    );
}

pub(crate) fn the_kernel_does_not_complain(series: Series) {
    let complaints: Vec<&str> = run(series).finished.complaints().collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

//! The dev kernel without the drop-in: its plan alone has to find what the drop-in finds.

use std::time::Duration;

use lazymmu_tests::{Report, Series, number_before, step_output};
use lazymmu_vm::{SignalWhen, Step, StepStatus};

use super::Trace;
use crate::shared::{PROBE_PLAN, Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

const OPTIMIZATION: &str = "/proc/sys/debug/kprobes-optimization";
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// A plan that is of no kernel.
const FOREIGN: &str = "/foreign.plan";

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let live = ["live", "--format", "json"];
        let by_plan = ["--plan", PROBE_PLAN, "--record", "/out/exclusive.lmt"];
        let workload = ["--", "workload", "run", "fork-exclusive"];
        let found = live.into_iter().chain(by_plan).chain(workload);
        let tiny = live.into_iter().chain(["--plan", PROBE_PLAN, "--ring-size", "4K"]);
        let tiny = tiny.chain(["--", "workload", "run", "munmap"]);
        // Until it is killed: what it says first is that its probes are set.
        let killed = lazymmu(["record", "--plan", PROBE_PLAN, "-o", "/out/killed.lmt", "--duration", "300"])
            .signal(9, SignalWhen::Says("instructions of the plan".to_owned(), Duration::from_millis(200)));
        let short = ["record", "--plan", PROBE_PLAN, "-o", "/out/short.lmt", "--duration", "0.1"];
        Plan::new()
            .on_cpus(2)
            .with_debug_info()
            .with_probe_plan()
            .step(copy(OPTIMIZATION, "optimization.first"))
            .step(copy(EXPEDITED, "expedited.first"))
            .run_as("live", lazymmu(found))
            .step(copy(OPTIMIZATION, "optimization.after"))
            .step(copy(EXPEDITED, "expedited.after"))
            .run_as("killed", killed)
            .step(copy(OPTIMIZATION, "optimization.killed"))
            .run_as("short", lazymmu(short))
            .step(copy(OPTIMIZATION, "optimization.last"))
            .step(copy(EXPEDITED, "expedited.last"))
            .run_as("tiny", lazymmu(tiny))
            .step(Step::Write { path: FOREIGN.into(), text: foreign() })
            .run_as(
                "foreign",
                lazymmu(["record", "--plan", FOREIGN, "-o", "/out/foreign.lmt", "--duration", "1"]),
            )
            .run_as("nothing", lazymmu(["record", "-o", "/out/nothing.lmt", "--duration", "1"]))
    })
}

fn copy(from: &str, name: &str) -> Step {
    Step::Copy { from: from.into(), to: format!("/out/{name}").into() }
}

fn foreign() -> String {
    r#"{
        "version": {"major": 1, "minor": 0},
        "kernel": {"release": "7.2.13", "build_id": "00112233445566778899aabbccddeeff00112233",
                   "architecture": "x86_64", "nesting": true},
        "made_from": {"image": "vmlinux", "debug_info": true, "symbols": "symtab", "lazymmu": "0.1.0"},
        "tracepoints": [], "state": [], "probes": []
    }"#
    .to_owned()
}

pub(crate) fn finds_both_hazards(series: Series) {
    let run = run(series);
    run.expect_exit("live", 1);
    let report = run.report("live");
    let said = || step_output(run.step("live"));
    let read = report.findings("read-pending").into_iter().find(|finding| {
        Report::functions(finding, "write").first() == Some(&"restore_exclusive_pte")
            && Report::functions(finding, "access").first() == Some(&"copy_pte_range")
    });
    let read = read.unwrap_or_else(|| panic!("no such read; {}", said()));
    assert_eq!(read["access"]["op"], "ptep_get", "{read:#}");
    assert!(Report::functions(read, "opener").contains(&"copy_pte_range"), "{read:#}");
    let rmw = report.findings("rmw-pending").into_iter().find(|finding| {
        finding["access"]["op"] == "wrprotect_ptes"
            && Report::functions(finding, "write").first() == Some(&"restore_exclusive_pte")
            && Report::functions(finding, "access").contains(&"copy_present_ptes")
    });
    let rmw = rmw.unwrap_or_else(|| panic!("no such read-modify-write; {}", said()));
    for finding in [read, rmw] {
        assert_eq!(Report::breaks(finding, "xen-pv"), Some(true), "{finding:#}");
        assert_eq!(Report::breaks(finding, "arm64"), Some(false), "{finding:#}");
    }
    assert_eq!(report.number("/losses/total"), 0);
    let reasons = report.0["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["kind"] == "coverage"), "{reasons:#?}");
    let sites = Trace::read(run.file("exclusive.lmt")).header.plan.sites.unwrap();
    assert_eq!(report.number("/hooks/sites/hooked"), sites.hooked);
    assert!(
        run.finished.complaints().next().is_none(),
        "{:#?}",
        run.finished.complaints().collect::<Vec<_>>()
    );
}

pub(crate) fn replay_says_what_live_said(series: Series) {
    let run = run(series);
    let replayed = run.replay("exclusive.lmt");
    assert_eq!(replayed.code, Some(1), "{}", replayed.stderr);
    assert_eq!(String::from_utf8_lossy(&run.step("live").stdout), String::from_utf8_lossy(&replayed.stdout));
}

pub(crate) fn another_kernels_plan_is_refused(series: Series) {
    let run = run(series);
    let step = run.expect_exit("foreign", 4);
    let said = String::from_utf8_lossy(&step.stderr);
    assert!(said.contains("it is for the kernel with build id 0011"), "{said}");
    // Without a plan it is said what to do.
    let step = run.expect_exit("nothing", 4);
    let said = String::from_utf8_lossy(&step.stderr);
    assert!(said.contains("no tracepoint lazy_mmu:") && said.contains("--plan"), "{said}");
}

pub(crate) fn losses_are_counted(series: Series) {
    let run = run(series);
    let step = run.expect_exit("tiny", 3);
    assert!(run.report("tiny").number("/losses/total") > 0, "{}", step_output(step));
    let stderr = String::from_utf8_lossy(&step.stderr);
    let line = stderr.lines().find(|line| line.contains("items:"));
    let line = line.unwrap_or_else(|| panic!("{}", step_output(step)));
    let number = |word| number_before(line, word).unwrap_or_else(|| panic!("no {word} in {line}"));
    assert_eq!(number("seen") + number("lost"), number("items"), "{line}");
}

pub(crate) fn settings_are_put_back(series: Series) {
    let run = run(series);
    let value = |name: &str| String::from_utf8_lossy(run.file(name)).trim().to_owned();
    let first = (value("optimization.first"), value("expedited.first"));
    assert_eq!(first, ("1".to_owned(), "0".to_owned()));
    assert_eq!((value("optimization.after"), value("expedited.after")), first);
    assert_eq!(run.step("killed").status, StepStatus::Signal(9), "{}", step_output(run.step("killed")));
    assert_eq!(value("optimization.killed"), "0");
    run.expect_exit("short", 0);
    assert_eq!((value("optimization.last"), value("expedited.last")), first);
}

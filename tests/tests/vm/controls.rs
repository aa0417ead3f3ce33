//! Workloads in which there is no hazard, and the tracepoints as ftrace sees them.

use lazymmu_tests::{Series, step_output};
use lazymmu_vm::Step;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// The workloads, and the file that each leaves.
const CONTROLS: [(&str, &str); 5] = [
    ("fork", "fork.lmt"),
    ("mprotect", "mprotect.lmt"),
    ("mremap", "mremap.lmt"),
    ("munmap", "munmap.lmt"),
    ("madvise", "madvise.lmt"),
];

const TRACING: &str = "/sys/kernel/tracing";

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let mut plan = Plan::new();
        for (name, file) in CONTROLS {
            let trace = format!("/out/{file}");
            let live = ["live", "--format", "json", "--record", &trace, "--", "workload", "run", name];
            plan = plan.run_as(name, lazymmu(live));
        }
        let set = |path: &str, text: &str| Step::Write {
            path: format!("{TRACING}/{path}").into(),
            text: text.to_owned(),
        };
        plan.step(set("buffer_size_kb", "256"))
            .step(set("events/lazy_mmu/enable", "1"))
            .run_as("plain fork", lazymmu(["workload", "run", "fork"]))
            .step(set("tracing_on", "0"))
            .step(Step::Copy { from: format!("{TRACING}/trace").into(), to: "/out/ftrace.txt".into() })
    })
}

pub(crate) fn is_clean(series: Series, workload: &str) {
    let run = run(series);
    run.expect_exit(workload, 0);
    let report = run.report(workload);
    assert_eq!(report.verdict(), "clean");
    let seen = report.number("/records/in_sections");
    assert!(seen > 1000, "only {seen} records in sections; {}", step_output(run.step(workload)));
    let replayed = run.replay(&format!("{workload}.lmt"));
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    assert!(
        replayed.stdout == run.step(workload).stdout,
        "replay says other than live:\n{:#}",
        replayed.report().unwrap().0
    );
}

pub(crate) fn ftrace_sees_the_tracepoints(series: Series) {
    let run = run(series);
    run.expect_exit("plain fork", 0);
    let text = String::from_utf8_lossy(run.file("ftrace.txt"));
    for event in ["lazy_mmu_read:", "lazy_mmu_write:", "lazy_mmu_rmw:", "lazy_mmu_section:"] {
        let count = text.lines().filter(|line| line.contains(event)).count();
        let start: String = text.lines().take(40).collect::<Vec<_>>().join("\n");
        assert!(count > 0, "ftrace saw no {event}; its buffer begins:\n{start}");
    }
}

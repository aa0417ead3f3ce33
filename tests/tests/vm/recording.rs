//! Recordings that do not go to their end in peace: tasks that preempt each other, too small a ring, signals, a full disk.

use std::time::Duration;

use lazymmu_tests::{Series, number_before, step_output};
use lazymmu_vm::{Command, SignalWhen, Step, StepStatus};

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();
static BUSY: Runs = Runs::new();

/// Work without end, so that a recording can only end by what the test does to it.
const ENDLESS: [&str; 7] = ["--", "/init", "repeat", "/bin/lazymmu", "workload", "run", "munmap"];

/// What the workload says each time it is done.
const DONE: &str = "pages unmapped";

const LIMIT: Duration = Duration::from_mins(1);
const BUSY_LIMIT: Duration = Duration::from_mins(4);

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let tiny = ["live", "--format", "json", "--ring-size", "4K", "--", "workload", "run", "munmap"];
        let mut plan = Plan::new().run_as("tiny ring", lazymmu(tiny).limit(LIMIT));
        for (name, number) in [("sigint", 2), ("sigterm", 15), ("sigkill", 9)] {
            // Waiting records are written out twice a second; what counts is in the file when the signal comes.
            let when = SignalWhen::Says(DONE.to_owned(), Duration::from_millis(1500));
            plan = plan.run_as(name, endless(&format!("/out/{name}.lmt")).signal(number, when));
        }
        let small = Step::Mount { kind: "tmpfs".into(), target: "/small".into(), options: "size=64k".into() };
        plan.step(small)
            .run_as("full disk", endless("/small/t.lmt"))
            .step(Step::Copy { from: "/small/t.lmt".into(), to: "/out/full.lmt".into() })
    })
}

fn endless(trace: &str) -> Command {
    lazymmu(["record", "-o", trace].into_iter().chain(ENDLESS)).limit(LIMIT)
}

/// Tasks that are preempted while they are traced cost no hit: the kernel would skip it.
pub(crate) fn a_busy_cpu_costs_nothing(series: Series) {
    // The reader is one of six that want the only CPU: the ring is to hold what it cannot take out.
    let busy = ["live", "--format", "json", "--ring-size", "64M", "--", "workload", "run", "all"];
    let busy = lazymmu(busy.into_iter().chain(["--seconds", "4", "--tasks", "5"]));
    let run = BUSY.get(series, || Plan::new().run_as("busy", busy.limit(BUSY_LIMIT)));
    let step = run.step("busy");
    let report = run.report("busy");
    assert_eq!(report.number("/losses/total"), 0, "{:#}", report.0["losses"]);
    assert!([StepStatus::Exit(0), StepStatus::Exit(1)].contains(&step.status), "{}", step_output(step));
    assert!(report.number("/records/in_sections") > 10_000, "{:#}", report.0["records"]);
}

pub(crate) fn losses_are_counted(series: Series) {
    let run = run(series);
    let step = run.expect_exit("tiny ring", 3);
    let report = run.report("tiny ring");
    assert_eq!(report.verdict(), "inconclusive");
    assert!(report.number("/losses/total") > 0, "{}", step_output(step));
    let stderr = String::from_utf8_lossy(&step.stderr);
    let line = stderr
        .lines()
        .find(|line| line.contains("items:"))
        .unwrap_or_else(|| panic!("{}", step_output(step)));
    let number = |word| number_before(line, word).unwrap_or_else(|| panic!("no {word} in {line}"));
    assert!(number("lost") > 0, "{line}");
    assert_eq!(number("seen") + number("lost"), number("items"), "{line}");
}

pub(crate) fn ends_at_a_signal(series: Series, name: &str) {
    let run = run(series);
    run.expect_exit(name, 0);
    let replayed = run.replay(&format!("{name}.lmt"));
    let report = replayed.report().unwrap();
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    assert!(report.number("/records/in_sections") > 1000, "{:#}", report.0["records"]);
    assert!(report.0["damage"].is_null(), "{:#}", report.0["damage"]);
}

pub(crate) fn survives_sigkill(series: Series) {
    let run = run(series);
    let step = run.step("sigkill");
    assert_eq!(step.status, StepStatus::Signal(9), "{}", step_output(step));
    let replayed = run.replay("sigkill.lmt");
    // The end is missing, so what was found so far is all that can be said; nothing found is no verdict.
    assert_eq!(replayed.code, Some(3), "{}", replayed.stderr);
    let report = replayed.report().unwrap();
    assert!(report.number("/records/in_sections") > 1000, "{:#}", report.0["records"]);
    assert!(!report.0["damage"].is_null(), "the missing end is not told");
}

pub(crate) fn a_full_disk_ends_the_recording(series: Series) {
    let run = run(series);
    let step = run.expect_exit("full disk", 3);
    let stderr = String::from_utf8_lossy(&step.stderr);
    assert!(stderr.contains("failed to write to the trace"), "{}", step_output(step));
    let replayed = run.replay("full.lmt");
    let report = replayed.report().unwrap();
    assert!(report.number("/records/in_sections") > 1000, "{:#}\n{}", report.0["records"], replayed.stderr);
}

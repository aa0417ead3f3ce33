//! A kernel with the drop-in as the first PV guest of Xen, where stores to entries really wait in a queue: what is only
//! latent elsewhere is seen with two values here, and what follows from it as well (docs/findings.md).

use std::time::Duration;

use lazymmu_tests::{Report, Series, step_output};
use lazymmu_vm::{SignalWhen, Step};
use serde_json::Value;

use crate::shared::{Plan, Run, Runs, lazymmu};
use crate::xen_batches;

static ZAP: Runs = Runs::new();
static FORK: Runs = Runs::new();
static BATCHES: Runs = Runs::new();

fn live<'a>(trace: &'a str, workload: &'a str) -> lazymmu_vm::Command {
    lazymmu(["live", "--format", "json", "--record", trace, "--", "workload", "run", workload])
}

fn zap() -> &'static Run {
    ZAP.get(Series::V6_12, || {
        Plan::new().under_xen().with_debug_info().run_as("live", live("/out/zap.lmt", "swap-private-file"))
    })
}

/// The child of the fork has entries that map nothing. The kernel finds them when it ends, and dies of it in part: the child
/// never ends, and nobody knows what else waits for it. So the trace goes out while it is written, and is judged here.
fn fork() -> &'static Run {
    FORK.get(Series::V6_12, || {
        let survive = Step::Write { path: "/proc/sys/kernel/panic_on_oops".into(), text: "0".into() };
        let record = ["record", "-o", "-", "--", "workload", "run", "page-frames", "fork-exclusive"];
        // What comes first tells when the programs are attached, which takes its time.
        let soon = SignalWhen::Says("pages made read-only".into(), Duration::from_secs(15));
        let record = lazymmu(record).signal(9, soon).limit(Duration::from_mins(2));
        Plan::new().under_xen().with_debug_info().step(survive).run_as("record", record)
    })
}

fn forked() -> Report {
    let run = fork();
    run.judge(&run.step("record").stdout).report().unwrap_or_else(|error| panic!("{error}"))
}

/// A workload that queues many stores, with the kernel's own tracepoint for the queue on.
fn batches() -> &'static Run {
    let record = ["record", "-o", "/out/mprotect.lmt", "--", "workload", "run", "mprotect"];
    BATCHES.get(Series::V6_12, || {
        let plan = xen_batches::begin().into_iter().fold(Plan::new().under_xen(), Plan::step);
        let plan = plan.run_as("record", lazymmu(record));
        xen_batches::end("/out/flushes").into_iter().fold(plan, Plan::step)
    })
}

/// The finding of a rule with these functions on the stacks of the write and of the access.
fn finding(report: &Report, (rule, write, access): (&str, &str, &str)) -> Value {
    let findings = report.findings(rule);
    let found = findings.into_iter().find(|finding| {
        Report::functions(finding, "write").contains(&write)
            && Report::functions(finding, "access").contains(&access)
    });
    found.unwrap_or_else(|| panic!("no such finding; {}", report.verdict())).clone()
}

fn raw<'a>(finding: &'a Value, value: &str) -> &'a str {
    finding["example"][value]["raw"].as_str().unwrap_or_else(|| panic!("no {value} in {finding:#}"))
}

/// The access got what memory held, and that was not what had been written.
fn is_proven(finding: &Value) {
    assert_eq!(finding["state"], "proven", "{finding:#}");
    assert_eq!(finding["example"]["comparison"], "different", "{finding:#}");
    assert_eq!(raw(finding, "seen"), raw(finding, "memory"), "{finding:#}");
    assert_ne!(raw(finding, "seen"), raw(finding, "pending"), "{finding:#}");
    assert_eq!(Report::breaks(finding, "xen-pv"), Some(true), "{finding:#}");
}

fn complains(run: &Run, words: &[&str]) {
    let complaints: Vec<&str> = run.finished.complaints().collect();
    let found = complaints.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "{words:?} is not in {complaints:#?}");
}

#[test]
fn zap_reads_what_it_has_cleared() {
    let run = zap();
    run.expect_exit("live", 1);
    let finding =
        finding(&run.report("live"), ("read-pending", "zap_pte_range", "pte_install_uffd_wp_if_needed"));
    is_proven(&finding);
    assert_eq!(raw(&finding, "pending"), "0x0000000000000000", "{finding:#}");
    // The queue is emptied where it is full, so that only the last of a range are still in it: 31 at most
    // (arch/x86/xen/multicalls.c:187, 6.12.117), and a range is of 512 entries at most.
    let [count, proven] = ["count", "proven"].map(|name| finding[name].as_u64().unwrap_or_default());
    assert!(proven > 0 && proven <= 31 * (count / 512 + 1), "{finding:#}");
}

#[test]
fn the_kernel_warns_of_a_cleared_entry() {
    complains(zap(), &["WARNING: ", "include/linux/mm_inline.h:567"]);
}

#[test]
fn fork_copies_a_mark_for_a_page() {
    let finding = finding(&forked(), ("read-pending", "restore_exclusive_pte", "copy_pte_range"));
    is_proven(&finding);
    assert_eq!(finding["example"]["pending"]["decoded"]["kind"], "present", "{finding:#}");
    assert_ne!(finding["example"]["seen"]["decoded"]["kind"], "present", "{finding:#}");
}

/// Which of its checks comes first depends on what else the child has.
#[test]
fn the_kernel_finds_the_pages_of_a_mark() {
    let complaints: Vec<&str> = fork().finished.complaints().collect();
    let found = |line: &&&str| line.contains("BUG: Bad page") || line.contains("kernel BUG at ");
    assert!(complaints.iter().any(|line| found(&line)), "{complaints:#?}");
}

#[test]
fn nothing_is_lost() {
    for report in [zap().report("live"), forked()] {
        assert_eq!(report.number("/losses/total"), 0);
    }
}

#[test]
fn replay_says_what_live_said() {
    let run = zap();
    let replayed = run.replay("zap.lmt");
    assert!(run.step("live").stdout == replayed.stdout, "{}", step_output(run.step("live")));
}

/// The stores of each batch by our records, and by what the kernel says that it sends to the hypervisor.
#[test]
fn batches_are_those_of_the_kernel() {
    let run = batches();
    run.expect_exit("record", 0);
    xen_batches::compare(run.file("mprotect.lmt"), run.file("flushes"));
}

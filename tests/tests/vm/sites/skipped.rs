//! Hits of probed instructions that the kernel skips: another task on the same CPU is inside of a BPF system call, is
//! preempted there, and until it goes on the kernel runs no program at a kprobe (`bpf_prog_active`). One hit that is skipped may
//! hide many accesses, if it is where a section is entered.

use std::sync::OnceLock;

use lazymmu_abi::{Kind, Op, Record};
use lazymmu_tests::{Lab, Report, Stock, step_output};
use lazymmu_vm::{Finished, Job};

use super::Trace;
use crate::shared::{TRIAL, lazymmu};

/// Where machines have the plan.
const PLAN: &str = "/kernel.plan.zst";

/// Entries that the workload changes in two steps each.
const CHANGED: usize = 2 * 4096;

static RUNS: [OnceLock<Result<Finished, String>>; 3] = [const { OnceLock::new() }; 3];

fn run(stock: Stock) -> &'static Finished {
    let run = RUNS[stock as usize].get_or_init(|| do_run(stock).map_err(|error| error.to_string()));
    run.as_ref().unwrap_or_else(|error| panic!("the run that this test looks at failed: {error}"))
}

fn do_run(stock: Stock) -> Result<Finished, Box<dyn std::error::Error>> {
    let lab = Lab::open()?;
    let mut initramfs = lab.initramfs()?;
    initramfs.add_file(PLAN, &lab.stock_plan(stock)?, 0o644)?;
    initramfs.add_file(TRIAL, &lab.trial(), 0o755)?;
    let live = ["live", "--format", "json", "--record", "/out/skipped.lmt", "--plan", PLAN, "--"];
    let beside = [TRIAL, "lookups", "/bin/lazymmu", "workload", "run", "mprotect"];
    let job = Job::new(vec![lazymmu(live.into_iter().chain(beside)).into()]);
    // Only a kernel that preempts itself lets another task in while a value is copied.
    let machine = lab.machine(&lab.stock_kernel(stock)?).append("preempt=full");
    Ok(machine.run(&initramfs, &job, &mut |_| ())?)
}

pub(crate) fn hits_are_losses(stock: Stock) {
    let step = &run(stock).steps[0];
    let report = Report::parse(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)));
    let trace = Trace::read(&run(stock).files[std::path::Path::new("skipped.lmt")]);
    let seen = |op: Op| trace.accesses().filter(|record| record.op == op as u8).count();
    let (starts, commits) = (seen(Op::ModifyProtStart), seen(Op::ModifyProtCommit));
    let unseen = CHANGED.saturating_sub(starts) + CHANGED.saturating_sub(commits);
    let lost: u64 = trace
        .records
        .iter()
        .filter(|record| record.kind == Kind::Lost as u8 && record.cpu == Record::ANY_CPU)
        .map(|record| record.value)
        .sum();
    eprintln!("{unseen} of {} accesses are not seen, {lost} hits are told as lost", 2 * CHANGED);
    assert_eq!(report.verdict(), "inconclusive", "{}", step_output(step));
    if stock == Stock::V6_1 {
        // Before 6.7 the kernel counts nothing of it, and that is what is said.
        let sites = trace.header.plan.sites.expect("no sites in the header");
        assert!(sites.blind.iter().any(|blind| blind.contains("does not count")), "{:?}", sites.blind);
        return;
    }
    assert!(lost > 0, "nothing was skipped; {}", step_output(step));
    assert_eq!(report.number("/losses/total"), lost);
    let reasons = report.0["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["kind"] == "lost"), "{reasons:#?}");
}

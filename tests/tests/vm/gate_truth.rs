//! The gate on a kernel that commits hazards on demand (kernel/hazards): the four steps of somebody who uses it, and guests
//! that die. The binary runs here and boots its guests by itself.

use std::path::Path;
use std::process::Command;

use lazymmu_tests::{Lab, Report, Said, Series, run_binary};

const SERIES: Series = Series::V7;

/// Runs `lazymmu gate` on that kernel.
fn gate(arguments: &[&str]) -> Said {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let kernel = lab.kernel(SERIES).unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(lab.lazymmu());
    command.arg("gate").arg("--kernel").arg(kernel.boot_image()).args(arguments);
    run_binary(&mut command).unwrap()
}

fn run(workloads: &[&str], more: &[&str]) -> Said {
    let workloads = workloads.iter().flat_map(|workload| ["--workload", workload]);
    let arguments: Vec<&str> = workloads.chain(["--format", "json"]).chain(more.iter().copied()).collect();
    gate(&arguments)
}

fn errors(report: &Report) -> Vec<(String, String)> {
    let all = report.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let errors = all.iter().filter(|finding| finding["severity"] == "error");
    let mut errors: Vec<_> =
        errors.map(|finding| (text(&finding["rule"]), text(&finding["baseline"]["state"]))).collect();
    errors.sort();
    errors
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(rule, state)| ((*rule).to_owned(), (*state).to_owned())).collect()
}

/// Known hazards fail once, a new one fails by itself, and what was mended is told.
pub(crate) fn four_steps() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known.toml");
    let known = ["--baseline", file.to_str().unwrap()];

    let said = run(&["fork-exclusive"], &[]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let two = [("read-pending", ""), ("rmw-pending", "")];
    assert_eq!(errors(&said.report().unwrap()), pairs(&two), "docs/findings.md, C01");

    let said = run(&["fork-exclusive"], &[&known[..], &["--update-baseline"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(std::fs::read_to_string(&file).unwrap().contains("read-pending"));
    let said = run(&["fork-exclusive"], &known);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let two = [("read-pending", "known"), ("rmw-pending", "known")];
    assert_eq!(errors(&said.report().unwrap()), pairs(&two));

    let said = run(&["fork-exclusive", "hazard:tlb-before-flush"], &known);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let three = [two[0], two[1], ("tlb-before-flush", "new")];
    assert_eq!(errors(&said.report().unwrap()), pairs(&three));

    // The kernel flushes what restore_exclusive_pte() has written.
    let said = run(&["hazard:mend-fork-exclusive", "fork-exclusive"], &known);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let report = said.report().unwrap();
    assert_eq!(errors(&report), []);
    assert_eq!(report.0["baseline"]["fixed"], true, "{:#}", report.0["baseline"]);
    let gone = report.0["baseline"]["gone"].as_array().unwrap();
    let mut gone: Vec<_> = gone.iter().filter_map(|gone| gone["rule"].as_str()).collect();
    gone.sort_unstable();
    assert_eq!(gone, ["read-pending", "rmw-pending"]);
}

/// The guest died of that, and the gate ended with that status.
fn dies(said: &Said, of: &str, code: i32) {
    assert!(said.stderr.contains(&format!("GUEST DIED ({of})")), "{}", said.stderr);
    assert_eq!(said.code, Some(code), "{}", said.stderr);
}

pub(crate) fn a_panic_is_told_and_what_was_before_is_judged() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let said = run(&["hazard:read-pending", "fork", "hazard:panic"], &["--out", out]);
    dies(&said, "panic", 1);
    assert!(said.stderr.contains("lazymmu_hazards was asked for it"), "{}", said.stderr);
    assert!(Path::new(out).join("report.html").is_file());
    let console = std::fs::read_to_string(Path::new(out).join("console.log")).unwrap();
    assert!(console.contains("Kernel panic - not syncing: lazymmu_hazards was asked for it"), "{console}");
}

/// With its only CPU held up the kernel cannot say so either, so the time limit ends it.
pub(crate) fn a_hang_is_ended_and_told() {
    dies(&run(&["fork", "hazard:hang"], &["--timeout", "10"]), "time-out", 3);
}

pub(crate) fn a_first_process_that_cannot_start_is_told() {
    dies(&run(&["fork"], &["--append", "rdinit=/nowhere"]), "no first process", 3);
}

/// What the kernel lacks is said, and no verdict comes of it.
pub(crate) fn a_hazard_that_is_none_here_is_no_verdict() {
    let said = run(&["fork", "hazard:nested-section"], &[]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("does not offer it"), "{}", said.stderr);
}

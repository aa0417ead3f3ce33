//! Where lazymmu cannot trace, it says so in one message that tells what to do, and exits with the status for it.

use lazymmu_tests::{Lab, Series, Stock, step_output};
use lazymmu_vm::{Finished, Step, StepResult, StepStatus};

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

const DOCTOR: [&str; 3] = ["doctor", "--format", "json"];
const LIVE: [&str; 5] = ["live", "--", "workload", "run", "fork"];

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        // With something empty mounted over it, the kernel looks as if it had been built without BTF.
        let hide =
            Step::Mount { kind: "tmpfs".into(), target: "/sys/kernel/btf".into(), options: String::new() };
        Plan::new()
            .run_as("user", lazymmu(LIVE).user(1000))
            .run_as("doctor", lazymmu(DOCTOR))
            .run_as("doctor, user", lazymmu(DOCTOR).user(1000))
            .step(hide)
            .run_as("no btf", lazymmu(LIVE))
            .run_as("doctor, no btf", lazymmu(DOCTOR))
    })
}

/// One line, which has all of these words in it, and no verdict on stdout.
fn refuses(step: &StepResult, code: i32, words: &[&str]) {
    assert_eq!(step.status, StepStatus::Exit(code), "{}", step_output(step));
    assert!(step.stdout.is_empty(), "{}", step_output(step));
    let stderr = String::from_utf8_lossy(&step.stderr);
    assert_eq!(stderr.trim_end().lines().count(), 1, "not one message: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
}

pub(crate) fn without_privilege(series: Series) {
    refuses(run(series).step("user"), 5, &["root"]);
}

pub(crate) fn without_btf(series: Series) {
    refuses(run(series).step("no btf"), 4, &["BTF", "CONFIG_DEBUG_INFO_BTF"]);
}

/// What `doctor` says in a step that ends with this status.
fn doctor(step: &StepResult, status: i32) -> serde_json::Value {
    assert_eq!(step.status, StepStatus::Exit(status), "{}", step_output(step));
    let document: serde_json::Value = serde_json::from_slice(&step.stdout).unwrap();
    assert_eq!(document["verdict"]["status"], status, "{}", step_output(step));
    document
}

/// The doctor says the same as a capture that is tried.
pub(crate) fn doctor_knows(series: Series) {
    let well = doctor(run(series).step("doctor"), 0);
    assert_eq!((&well["kernel"]["btf"], &well["coverage"]["by"]), (&"present".into(), &"dropin".into()));
    let hooks = well["hooks"].as_array().unwrap();
    assert!(hooks.iter().all(|hook| hook["present"] == true || hook["needed_for"] == "nothing"), "{hooks:?}");
    let user = doctor(run(series).step("doctor, user"), 5);
    assert_eq!(user["privileges"]["capabilities"]["CAP_BPF"], false);
    let blind = doctor(run(series).step("doctor, no btf"), 4);
    assert_eq!(blind["kernel"]["btf"], "missing");
}

pub(crate) fn without_the_drop_in(stock: Stock) {
    let lab = Lab::open().unwrap_or_else(|error| panic!("{error}"));
    let image = lab.stock_kernel(stock).unwrap_or_else(|error| panic!("{error}"));
    let finished: Finished = lab
        .run(&image, vec![lazymmu(LIVE).into(), lazymmu(DOCTOR).into()])
        .unwrap_or_else(|error| panic!("{error}"));
    let step = &finished.steps[0];
    assert_eq!(step.status, StepStatus::Exit(4), "{}", step_output(step));
    assert!(step.stdout.is_empty(), "{}", step_output(step));
    // First that nothing is there to make a plan of, then what can be done.
    let stderr = String::from_utf8_lossy(&step.stderr);
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("no plan can be made of the running kernel"), "{stderr}");
    assert!(lines[1].contains("kernel apply"), "{stderr}");
    let said = doctor(&finished.steps[1], 4);
    assert_eq!(said["kernel"]["dropin"], false);
    assert!(said["no_plan"].as_str().unwrap().contains("boot/vmlinuz-"), "{said}");
}

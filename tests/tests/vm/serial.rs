//! The view of a daemon on a serial line, as on a machine that has no other way in. What is done there stands in
//! `src/bin/lazymmu-trial/serial.rs`; all times are the guest's.

use std::time::Duration;

use lazymmu_tests::{Series, step_output};
use lazymmu_vm::Command;
use serde_json::Value;

use crate::shared::{Plan, Run, Runs, TRIAL};

static SHORT: Runs = Runs::new();
static LONG: Runs = Runs::new();

/// A finding may be on the screen so long after another client was told of it.
const MOST_MS: u64 = 1000;
/// What the line can carry in a second, at 115200 baud.
const BYTES: u64 = 11_520;

fn run(runs: &'static Runs, series: Series, workload: &[&str]) -> Value {
    let run: &Run = runs.get(series, || {
        let words = [TRIAL, "serial"].into_iter().chain(workload.iter().copied());
        let trial = Command::new(words).limit(Duration::from_mins(19));
        Plan::new().with_trial().with_cable().counting().run_as("serial", trial)
    });
    let step = run.expect_exit("serial", 0);
    serde_json::from_slice(&step.stdout).unwrap_or_else(|error| panic!("{error}\n{}", step_output(step)))
}

pub(crate) fn shows_a_finding_at_once(series: Series) {
    let seen = run(&SHORT, series, &["fork-exclusive"]);
    is_as_it_should_be(&seen);
    let rules = ["read-pending", "rmw-pending"];
    let found = |rule| seen["findings"].as_array().unwrap().iter().any(|finding| finding["rule"] == rule);
    assert!(rules.into_iter().all(found), "{:#}", seen["findings"]);
}

pub(crate) fn shows_findings_while_all_workloads_run(series: Series) {
    let seen = run(&LONG, series, &["all", "--seconds", "30", "--seed", "7"]);
    is_as_it_should_be(&seen);
    assert!(seen["findings"].as_array().unwrap().len() > 2, "{:#}", seen["findings"]);
}

fn is_as_it_should_be(seen: &Value) {
    assert_eq!((&seen["workload"], &seen["lost"]), (&0.into(), &0.into()), "{seen:#}");
    let mut slowest = None;
    for finding in seen["findings"].as_array().unwrap() {
        if finding["away"] == true {
            continue;
        }
        let after = finding["after_ms"].as_u64();
        assert!(after.is_some_and(|after| after < MOST_MS), "{finding}\n{}", seen["last"].as_str().unwrap());
        slowest = slowest.max(after);
    }
    let slowest = slowest.expect("no finding came while the list was on the screen");
    let (sent, took) = (seen["sent"].as_u64().unwrap(), seen["took_ms"].as_u64().unwrap());
    let rate = sent * 1000 / took;
    eprintln!(
        "on the screen {slowest} ms after a client was told, at most; {rate} bytes a second went over the line"
    );
    assert!(rate < BYTES, "{sent} bytes in {took} ms");
    // Given back as it was taken.
    assert_eq!(
        (&seen["code"], &seen["cooked"], &seen["alternate"]),
        (&0.into(), &true.into(), &false.into())
    );
    assert_eq!(seen["ended"]["code"], 0);
}

//! `lazymmu replay` of several traces: their order, what becomes of one that cannot be judged, and that the number of
//! threads changes nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sample/fork-exclusive.lmt");
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hazard/corpus");

fn replay(arguments: &[&str], traces: &[PathBuf]) -> Output {
    let mut lazymmu = Command::new(env!("CARGO_BIN_EXE_lazymmu"));
    lazymmu.arg("replay").args(arguments).args(traces).output().unwrap()
}

fn json(traces: &[PathBuf]) -> (Option<i32>, Value) {
    let said = replay(&["--format", "json"], traces);
    (said.status.code(), serde_json::from_slice(&said.stdout).unwrap())
}

/// The sample, scenarios with and without a hazard, and a damaged trace, many times over.
fn mixed(directory: &Path) -> Vec<PathBuf> {
    let cut = directory.join("cut.lmt");
    let sample = fs::read(SAMPLE).unwrap();
    fs::write(&cut, &sample[..sample.len() / 2]).unwrap();
    let scenarios = ["c01-fork-exclusive-ok.scn", "c22-fork-gup-fast.scn", "c21-raw-pmd.scn"];
    let mut traces: Vec<PathBuf> = vec![SAMPLE.into(), cut];
    traces.extend(scenarios.map(|name| Path::new(CORPUS).join(name)));
    (0..4).flat_map(|_| traces.clone()).collect()
}

fn clean() -> PathBuf {
    Path::new(CORPUS).join("c01-fork-exclusive-ok.scn")
}

#[test]
fn any_number_of_threads_says_the_same_in_the_order_of_the_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let mut traces = mixed(directory.path());
    traces.insert(3, directory.path().join("missing.lmt"));
    for format in ["human", "json"] {
        let one = replay(&["--format", format, "--jobs", "1"], &traces);
        assert_eq!(one.status.code(), Some(2));
        for jobs in ["2", "8", "64"] {
            let more = replay(&["--format", format, "--jobs", jobs], &traces);
            assert_eq!(more.status, one.status);
            assert!(more.stdout == one.stdout, "{format}, {jobs} threads: another report");
            assert!(more.stderr == one.stderr, "{format}, {jobs} threads: other messages");
        }
    }
    let (_, document) = json(&traces);
    let names: Vec<_> =
        document["files"].as_array().unwrap().iter().map(|file| file["file"].clone()).collect();
    let given: Vec<_> = traces.iter().map(|path| Value::from(path.to_str().unwrap())).collect();
    assert_eq!(names, given);
}

#[test]
fn what_is_said_of_a_trace_is_what_is_said_of_it_alone() {
    let traces = [PathBuf::from(SAMPLE), clean()];
    let (code, document) = json(&traces);
    assert_eq!(code, Some(1));
    assert_eq!((&document["schema"], &document["status"]), (&Value::from(2), &Value::from(1)));
    for (trace, file) in traces.iter().zip(document["files"].as_array().unwrap()) {
        let (alone_code, alone) = json(std::slice::from_ref(trace));
        assert_eq!(file["report"], alone);
        assert_eq!(file["status"].as_i64().map(|code| code as i32), alone_code);
        assert!(file.get("error").is_none());
    }
    let text = String::from_utf8(replay(&[], &traces).stdout).unwrap();
    let alone = String::from_utf8(replay(&[], &traces[..1]).stdout).unwrap();
    assert!(text.starts_with(&format!("==> {SAMPLE} <==\n{alone}\n==> ")), "{text}");
    assert!(text.ends_with("\n2 traces: 1 with hazards, 0 inconclusive, 1 clean, 0 not judged\n"), "{text}");
}

#[test]
fn one_that_cannot_be_read_does_not_keep_the_others_from_being_judged() {
    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.lmt");
    fs::write(&bad, "no trace").unwrap();
    let traces = [clean(), bad.clone(), SAMPLE.into()];
    let (code, document) = json(&traces);
    assert_eq!((code, &document["status"]), (Some(2), &Value::from(2)));
    let files = document["files"].as_array().unwrap();
    assert_eq!([0, 1, 2].map(|number| files[number]["status"].as_i64().unwrap()), [0, 2, 1]);
    assert_eq!(files[2]["report"]["verdict"], "hazards");
    assert!(files[1].get("report").is_none());
    assert!(files[1]["error"].as_str().unwrap().starts_with("failed to"), "{}", files[1]);

    let said = replay(&[], &traces);
    let (text, messages) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    assert!(text.contains(&format!("==> {} <==\nNOT JUDGED: failed to", bad.display())), "{text}");
    assert!(text.ends_with("3 traces: 1 with hazards, 0 inconclusive, 1 clean, 1 not judged\n"), "{text}");
    assert_eq!(messages.lines().filter(|line| line.contains("bad.lmt")).count(), 1, "{messages}");
}

#[test]
fn the_worst_status_is_that_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.lmt");
    let sample = fs::read(SAMPLE).unwrap();
    // So much of it that it opens, and so little that nothing is found in it.
    let least = (1..100).map(|parts| sample.len() * parts / 100).find(|len| {
        fs::write(&cut, &sample[..*len]).unwrap();
        replay(&[], std::slice::from_ref(&cut)).status.code() == Some(3)
    });
    assert!(least.is_some(), "no part of the sample is inconclusive");
    let missing = directory.path().join("missing.lmt");
    let status = |traces: &[PathBuf]| replay(&[], traces).status.code();
    assert_eq!(status(&[clean(), clean()]), Some(0));
    assert_eq!(status(&[cut.clone(), clean()]), Some(3));
    assert_eq!(status(&[clean(), SAMPLE.into(), cut.clone()]), Some(1));
    assert_eq!(status(&[SAMPLE.into(), missing, cut]), Some(2));
}

#[test]
fn one_reduced_trace_is_not_made_of_several() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("small.lmt");
    let arguments = ["--keep", "pid=1", "-o", output.to_str().unwrap()];
    let said = replay(&arguments, &[SAMPLE.into(), clean()]);
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("several"), "{said:?}");
    assert!(!output.exists());
}

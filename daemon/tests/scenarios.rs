//! `lazymmu replay` of scenarios, right and wrong ones.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const FORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hazard/corpus/c01-fork-exclusive.scn");

fn replay(path: &Path) -> (Option<i32>, String, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_lazymmu")).arg("replay").arg(path).output();
    let Output { status, stdout, stderr } = run.unwrap();
    (
        status.code(),
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

#[test]
fn a_scenario_is_reported_like_a_trace() {
    let (code, stdout, stderr) = replay(Path::new(FORK));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stdout.contains("HAZARD: read-pending in copy_pte_range"), "{stdout}");
    assert!(stdout.contains(" restore_exclusive_pte (mm/memory.c:905)"), "{stdout}");
    assert!(stdout.contains("parent/101"), "{stdout}");
    assert_eq!(stderr, "lazymmu: 2 of 2 expectations hold\n");
}

#[test]
fn a_scenario_is_known_without_its_ending() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(FORK, file.path()).unwrap();
    let (code, _, stderr) = replay(file.path());
    assert_eq!((code, stderr.as_str()), (Some(1), "lazymmu: 2 of 2 expectations hold\n"));
}

#[test]
fn what_does_not_hold_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        "scenario x\nentry e pte\ntask a on cpu 0 in f\nenter\nwrite e\nread e\nleave\nexpect nothing\n";
    std::fs::write(file.path(), text).unwrap();
    let (code, _, stderr) = replay(file.path());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("lazymmu: line 8: expected nothing, but something was found\n"), "{stderr}");
    assert!(stderr.contains("lazymmu: 0 of 1 expectations hold\n"), "{stderr}");
}

#[test]
fn a_wrong_scenario_is_refused_with_its_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrong.scn");
    std::fs::write(&path, "scenario x\ntask a on cpu 0\n  jump\n").unwrap();
    let (code, stdout, stderr) = replay(&path);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(
        stderr.contains("failed to read the scenario ") && stderr.contains("line 3, column 3:"),
        "{stderr}"
    );
}

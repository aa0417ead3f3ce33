//! `lazymmu what-if` and `lazymmu stats` over the embedded sample, against the files in `golden/`.
//!
//! `LAZYMMU_BLESS=1 cargo test -p lazymmu --test what_if` writes the files anew; look at the difference before it is
//! committed.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

fn lazymmu(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lazymmu")).args(args).output().unwrap()
}

fn check(name: &str, args: &[&str]) -> String {
    let run = lazymmu(args);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    let actual = String::from_utf8(run.stdout).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("LAZYMMU_BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    assert_eq!(
        actual,
        std::fs::read_to_string(&path).unwrap_or_default(),
        "{name} differs; see the top of this file"
    );
    actual
}

#[test]
fn a_flush_before_the_read_of_fork_mends_both_hazards() {
    let text = check("what-if.txt", &["what-if", "--flush-before", "mm/memory.c:1309"]);
    assert_eq!(text.matches("  gone   ").count(), 2, "{text}");
    check("what-if.json", &["what-if", "--flush-before", "mm/memory.c:1309", "--format", "json"]);
}

#[test]
fn a_flush_before_the_write_protection_mends_one() {
    let args = ["what-if", "--flush-before", "__copy_present_ptes", "--format", "json"];
    let answer: serde_json::Value = serde_json::from_slice(&lazymmu(&args).stdout).unwrap();
    let fates: Vec<_> = answer["findings"].as_array().unwrap().iter().collect();
    let then = |rule: &str| fates.iter().find(|fate| fate["rule"] == rule).unwrap()["then"].clone();
    assert_eq!((then("read-pending"), then("rmw-pending")), (64.into(), 0.into()));
}

#[test]
fn batches_by_opener() {
    check("stats.txt", &["stats"]);
    check("stats.json", &["stats", "--format", "json"]);
}

#[test]
fn what_is_no_site_is_refused() {
    let run = lazymmu(&["what-if", "--flush-before", "mm/memory.c:here"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("FILE:LINE"));
}

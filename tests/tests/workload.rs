//! Every workload, run for real on the kernel of this machine: each in a process of its own with a single thread, as
//! they want it. What is checked of their effect, they check themselves.

#![allow(clippy::unwrap_used)]

use lazymmu_tests::{Said, lazymmu};

fn run(name: &str) -> Said {
    lazymmu(["workload", "run", name]).unwrap()
}

fn does_what_it_says(name: &str) {
    let said = run(name);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let summary = String::from_utf8(said.stdout).unwrap();
    assert!(summary.starts_with(&format!("{name}: 4096 pages")), "{summary}");
}

#[test]
fn fork() {
    does_what_it_says("fork");
}

#[test]
fn mprotect() {
    does_what_it_says("mprotect");
}

#[test]
fn mremap() {
    does_what_it_says("mremap");
}

#[test]
fn munmap() {
    does_what_it_says("munmap");
}

#[test]
fn madvise() {
    does_what_it_says("madvise");
}

/// With the device it works (the tests in machines run it there); without it, it must not look as if it had.
#[test]
fn fork_exclusive_needs_its_device() {
    let said = run("fork-exclusive");
    if std::fs::read_to_string("/proc/devices").is_ok_and(|list| list.contains("HMM_DMIRROR")) {
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    } else {
        assert_eq!(said.code, Some(3), "{}", said.stderr);
        assert!(said.stderr.contains("/dev/hmm_dmirror0"), "{}", said.stderr);
        assert!(said.stderr.contains("CONFIG_TEST_HMM"), "{}", said.stderr);
    }
}

#[test]
fn every_workload_is_tested_here() {
    let said = lazymmu(["workload", "list"]).unwrap();
    let list = String::from_utf8(said.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["fork-exclusive", "fork", "mprotect", "mremap", "munmap", "madvise"]);
}

#[test]
fn an_unknown_name_lists_those_that_exist() {
    let said = run("frok");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("frok") && said.stderr.contains("fork-exclusive, fork"), "{}", said.stderr);
}

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
        assert_eq!(said.code, Some(4), "{}", said.stderr);
        assert!(said.stderr.contains("/dev/hmm_dmirror0"), "{}", said.stderr);
        assert!(said.stderr.contains("CONFIG_TEST_HMM"), "{}", said.stderr);
    }
}

/// Whatever this machine's kernel has, it either works or says in one message what is missing.
fn works_or_says_what_is_missing(name: &str, missing: &[&str]) {
    let said = run(name);
    match said.code {
        Some(0) => {
            let summary = String::from_utf8(said.stdout).unwrap();
            assert!(summary.starts_with(&format!("{name}: ")), "{summary}");
        }
        code => {
            assert_eq!(code, Some(4), "{}", said.stderr);
            let told = missing.iter().any(|word| said.stderr.contains(word));
            assert!(told, "none of {missing:?} is in: {}", said.stderr);
        }
    }
}

#[test]
fn thp() {
    works_or_says_what_is_missing("thp", &["CONFIG_TRANSPARENT_HUGEPAGE", "switched off"]);
}

#[test]
fn userfaultfd_move() {
    works_or_says_what_is_missing("userfaultfd-move", &["CONFIG_USERFAULTFD"]);
}

#[test]
fn pagemap_scan() {
    works_or_says_what_is_missing("pagemap-scan", &["CONFIG_USERFAULTFD", "PAGEMAP_SCAN"]);
}

#[test]
fn migrate_device() {
    works_or_says_what_is_missing("migrate-device", &["CONFIG_TEST_HMM"]);
}

#[test]
fn vmalloc() {
    works_or_says_what_is_missing("vmalloc", &["CONFIG_BPF_SYSCALL", "which takes root", "not permitted"]);
}

#[test]
fn bpf_arena() {
    works_or_says_what_is_missing("bpf-arena", &["CONFIG_BPF_JIT", "not permitted"]);
}

#[test]
fn page_frames() {
    works_or_says_what_is_missing("page-frames", &["CONFIG_PROC_PAGE_MONITOR", "only to root"]);
}

#[test]
fn remap_pfn() {
    works_or_says_what_is_missing("remap-pfn", &["CONFIG_DEBUG_INFO_BTF", "6.16"]);
}

/// Those that would change this machine's settings or read its device memory, and so run in machines of their own only.
const ONLY_IN_MACHINES: [&str; 5] = ["swap", "swap-private-file", "lru-gen", "ksm", "ioremap"];

#[test]
fn every_workload_is_tested() {
    let said = lazymmu(["workload", "list"]).unwrap();
    let list = String::from_utf8(said.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        // Hazards on purpose stand below; machines with the kernel that has them run those.
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let here = [
        "fork-exclusive",
        "fork",
        "mprotect",
        "mremap",
        "munmap",
        "madvise",
        "page-frames",
        "thp",
        "userfaultfd-move",
        "pagemap-scan",
        "migrate-device",
        "vmalloc",
        "bpf-arena",
        "remap-pfn",
    ];
    let untested = names.iter().find(|name| !here.contains(name) && !ONLY_IN_MACHINES.contains(name));
    assert_eq!(untested, None);
    assert_eq!(names.len(), here.len() + ONLY_IN_MACHINES.len());
}

#[test]
fn an_unknown_name_lists_those_that_exist() {
    let said = run("frok");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("frok") && said.stderr.contains("fork-exclusive, fork"), "{}", said.stderr);
}

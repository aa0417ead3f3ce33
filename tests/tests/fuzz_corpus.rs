//! What the fuzzer has found worth keeping, checked once more with a stable compiler. `cargo xtask fuzz` runs the fuzzer.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Checks every file of a corpus. Returns how many there are, and of how many `whole` is true.
fn run(name: &str, check: fn(&[u8]), whole: fn(&[u8]) -> bool) -> (usize, usize) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let (mut files, mut good) = (0, 0);
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // Printed only if the test fails: the last one is the file it failed at.
        println!("{}", path.display());
        check(&bytes);
        files += 1;
        good += usize::from(whole(&bytes));
    }
    (files, good)
}

/// Fails if the corpus is empty or if most of what is checked behind the parser is not reached.
fn replay(name: &str, check: fn(&[u8]), whole: fn(&[u8]) -> bool) {
    let (files, good) = run(name, check, whole);
    assert!(files >= 6 && good >= 3, "{name}: {good} of {files} files get past the parser");
}

#[test]
fn traces() {
    replay("trace", targets::trace::check, targets::trace::is_trace);
}

#[test]
fn histories() {
    replay("records", targets::records::check, |bytes| bytes.len() > 8);
}

#[test]
fn scenarios() {
    replay("scenario", targets::scenario::check, targets::scenario::is_scenario);
}

#[test]
fn filters() {
    replay("filter", targets::filter::check, targets::filter::is_filter);
}

#[test]
fn suppressions() {
    replay("suppressions", targets::suppressions::check, targets::suppressions::is_file);
}

#[test]
fn kernel_types() {
    replay("btf", targets::btf::check, targets::btf::is_btf);
}

#[test]
fn kernel_symbols() {
    replay("kallsyms", targets::kallsyms::check, targets::kallsyms::is_table);
}

/// A corpus without a test would never be looked at again.
#[test]
fn every_corpus_has_its_test() {
    let mut names: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["btf", "filter", "kallsyms", "records", "scenario", "suppressions", "trace"]);
}

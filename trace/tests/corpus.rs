//! What the fuzzer has found worth keeping, read once more with a stable compiler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{exercise, with_checksums};

#[test]
fn every_file_of_the_corpus_is_read_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/reader");
    let (mut files, mut traces) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        exercise(&bytes);
        let whole = with_checksums(&bytes);
        exercise(&whole);
        files += 1;
        traces += usize::from(lazymmu_trace::Reader::from_bytes(&whole).is_ok());
    }
    assert!(traces > 10, "only {traces} of {files} files get past the header");
}

//! Reports read by programs of others: the kernel's own parser of KTAP, and a browser.
//!
//! `cargo xtask test` looks where they are, says so in the environment, and counts the tests of those that are not there
//! as skipped.

#![allow(clippy::panic, clippy::unwrap_used)]

mod chromium;
mod kunit;

use std::env;
use std::path::{Path, PathBuf};

use lazymmu_tests::lazymmu;

fn variable(name: &str) -> PathBuf {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map_or_else(|| panic!("{name} is not set; run these tests with `cargo xtask test`"), PathBuf::from)
}

/// Writes a report of the sample, or of a scenario with hostile names, and gives its exit status.
fn report(arguments: &[&str], file: &Path) -> Option<i32> {
    let file = file.to_str().unwrap();
    let said = lazymmu([&["report"], arguments, &["-o", file]].concat()).unwrap();
    said.code
}

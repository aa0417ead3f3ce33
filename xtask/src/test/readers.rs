//! The tests that read reports with programs of others: looks where those are, and counts the tests that cannot be run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::machines;
use super::summary::{Counts, Tally};
use crate::kernel::{self, Series};
use crate::sh;

/// The series whose parser of KTAP is tried: the variable that says where its source is, and the module of the tests.
const SERIES: [(Series, &str, &str); 2] = [
    (Series::V7, "LAZYMMU_KERNEL_SOURCE_7", "kunit::series_7::"),
    (Series::V6_12, "LAZYMMU_KERNEL_SOURCE_6_12", "kunit::series_6_12::"),
];

/// The variable that says where the browser is, and the module of its tests.
const CHROMIUM: (&str, &str) = ("LAZYMMU_CHROMIUM", "chromium::");

/// Runs those for which there is a program.
pub(super) fn run(tally: &mut Tally) {
    let mut cargo = tests();
    cargo.arg("--");
    let python = runs("python3");
    for (series, variable, module) in SERIES {
        let source = kernel::source_in_cache(series);
        match source {
            Some(source) if python => {
                cargo.env(variable, source);
            }
            Some(_) => skip(tally, &mut cargo, module, "there is no python3"),
            None => {
                let why = format!("the source of the kernel of series {} is not there", series.name());
                skip(tally, &mut cargo, module, &why);
            }
        }
    }
    let (variable, module) = CHROMIUM;
    match ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| runs(name)) {
        Some(name) => {
            cargo.env(variable, PathBuf::from(name));
        }
        None => skip(tally, &mut cargo, module, "there is no Chromium"),
    }
    tally.tests("readers of reports", &mut cargo, Counts::of_libtest);
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn tests() -> Command {
    let mut cargo = sh::cargo();
    cargo.args(["test", "--quiet", "-p", "lazymmu-tests", "--features", "readers", "--test", "readers"]);
    cargo.arg("--no-fail-fast");
    cargo
}

fn skip(tally: &mut Tally, cargo: &mut Command, module: &str, reason: &str) {
    machines::skip_of(tests, "readers of reports", tally, cargo, (module, reason));
}

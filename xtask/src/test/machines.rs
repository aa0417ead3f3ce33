//! The tests in virtual machines: builds what they need, tells them where it is, and counts those that cannot be run.

use std::process::Command;

use anyhow::{Result, bail};

use super::summary::{Counts, Tally};
use crate::guest::Binaries;
use crate::kernel::{self, BuiltKernel, Series};
use crate::{sh, stock, vm};

/// The series that are tested: the variable that says where its kernel is, and the module of its tests.
const SERIES: [(Series, &str, &str); 2] = [
    (Series::V7, "LAZYMMU_VM_KERNEL_7", "series_7::"),
    (Series::V6_12, "LAZYMMU_VM_KERNEL_6_12", "series_6_12::"),
];

/// The module of the tests of the machine itself, which want any kernel.
const RUNNER: &str = "runner::";

/// The module of the tests on a stock kernel.
const STOCK: &str = "stock::";

/// Builds what is missing, and runs everything for which it could be built.
pub(super) fn run(tally: &mut Tally) {
    let Some(binaries) = tally.check("static binaries", Binaries::build) else {
        return skip_all(tally, "the static binaries could not be built");
    };
    let mut cargo = tests();
    cargo.env("LAZYMMU_VM_GUEST", binaries.directory()).arg("--");
    let mut kernels = Vec::new();
    for (series, variable, module) in SERIES {
        let name = format!("kernel of series {}", series.name());
        match tally.check(&name, || kernel::ensure(series)) {
            Some(kernel) => {
                cargo.env(variable, &kernel.directory);
                kernels.push(kernel);
            }
            None => skip(tally, &mut cargo, module, &format!("there is no {name}")),
        }
    }
    match kernels.first() {
        None => skip(tally, &mut cargo, RUNNER, "there is no kernel"),
        Some(kernel) => {
            cargo.env("LAZYMMU_VM_KERNEL", &kernel.directory);
            let found = tally.check("accelerator", || accelerator(kernel, &binaries));
            cargo.env("LAZYMMU_VM_ACCELERATOR", found.unwrap_or("tcg"));
        }
    }
    match tally.check("stock kernel", stock::ensure) {
        Some(Some(image)) => {
            cargo.env("LAZYMMU_VM_KERNEL_STOCK", image);
        }
        Some(None) => {
            skip(tally, &mut cargo, STOCK, "a stock kernel is fetched with apt, and this is not Debian");
        }
        None => skip(tally, &mut cargo, STOCK, "there is no stock kernel"),
    }
    // Each machine keeps one CPU busy.
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cargo.args(["--test-threads", &cpus.to_string()]);
    tally.tests("virtual machines", &mut cargo, Counts::of_libtest);
}

fn accelerator(kernel: &BuiltKernel, binaries: &Binaries) -> Result<&'static str> {
    let accelerator = vm::accelerator(&kernel.image, binaries)?;
    eprintln!("machines run on {}", accelerator.name());
    Ok(accelerator.name())
}

/// Runs none, and counts them all as skipped.
pub(super) fn skip_all(tally: &mut Tally, reason: &str) {
    skip(tally, &mut Command::new("true"), "", reason);
}

fn tests() -> Command {
    let mut cargo = sh::cargo();
    // One process for all, so that tests can share a machine's run.
    cargo.args([
        "test",
        "--quiet",
        "-p",
        "lazymmu-tests",
        "--features",
        "vm",
        "--test",
        "vm",
        "--no-fail-fast",
    ]);
    cargo
}

/// Keeps the tests of a module out of a run, and counts them.
fn skip(tally: &mut Tally, cargo: &mut Command, module: &str, reason: &str) {
    cargo.args(["--skip", module]);
    let count = || {
        let output = tests().args(["--", "--list", module]).output()?;
        if !output.status.success() {
            bail!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let list = String::from_utf8_lossy(&output.stdout);
        Ok(list.lines().filter(|line| line.ends_with(": test")).count())
    };
    match count() {
        Ok(count) => tally.skip(count, &format!("tests in virtual machines {module}"), reason),
        Err(error) => {
            tally.check::<()>("list of the tests in virtual machines", || Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_those_that_the_tests_read() {
        let reader = include_str!("../../../tests/src/lab.rs");
        for (_, variable, _) in SERIES {
            assert!(reader.contains(variable), "{variable}");
        }
        for variable in
            ["LAZYMMU_VM_GUEST", "LAZYMMU_VM_ACCELERATOR", "LAZYMMU_VM_KERNEL_STOCK", "\"LAZYMMU_VM_KERNEL\""]
        {
            assert!(reader.contains(variable), "{variable}");
        }
    }
}

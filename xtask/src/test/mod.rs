//! `cargo xtask test`: every check and test, in the order in which a failure is cheapest to learn.
//!
//! The last line counts them all: `lazymmu: N passed, N failed, N skipped`. A check such as clippy counts as one. What
//! is skipped is counted too, and the reason is said.

mod summary;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::guest::Binaries;
use crate::kernel::{self, Series};
use crate::{ebpf, paths, setup, sh, stock, vm};
use summary::{Counts, Tally};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which virtual machines to test in
    #[arg(long, value_enum, default_value_t = Machines::All)]
    vm: Machines,
    /// Take what is installed as it is
    #[arg(long)]
    no_setup: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Machines {
    /// The dev kernels of every series, and a stock kernel; they are built and fetched if missing
    All,
    /// None: these tests are skipped
    None,
}

/// The series that are tested, with the name that the tests know them by.
const SERIES: [Series; 2] = [Series::V7, Series::V6_12];

/// Runs everything and counts it.
pub(crate) fn run(args: &Args) -> ExitCode {
    let start = Instant::now();
    let mut tally = Tally::default();
    if !args.no_setup {
        tally.check("set-up", || setup::run(&setup::Args::default()));
    }
    // Before everything that compiles, so that nothing is compiled twice: the object is embedded.
    tally.check("eBPF object", || ebpf::build().map(drop));
    tally.check("format", format);
    tally.check("clippy", clippy);
    units(&mut tally);
    match args.vm {
        Machines::All => machines(&mut tally),
        Machines::None => skip_machines(&mut tally, "--vm none was given"),
    }
    eprintln!("\ntook {} s", start.elapsed().as_secs());
    tally.finish()
}

fn clippy() -> Result<()> {
    let what = ["--workspace", "--all-targets", "--all-features"];
    sh::run(sh::cargo().args(["clippy", "--quiet"]).args(what).args(["--", "--deny", "warnings"]))
}

fn format() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    let programs = paths::root().join("probe-ebpf/Cargo.toml");
    sh::run(sh::cargo().args(["fmt", "--all", "--check", "--manifest-path"]).arg(programs))
}

/// Unit, property and golden tests, and the examples in the documentation: all that needs no machine.
fn units(tally: &mut Tally) {
    let mut cargo = sh::cargo();
    if has_nextest() {
        // A profile of the user's must not change what is counted.
        cargo.args(["nextest", "run", "--workspace", "--no-fail-fast", "--color", "never"]);
        cargo.args(["--status-level", "fail", "--final-status-level", "fail", "--no-tests", "pass"]);
        tally.tests("tests", &mut cargo, Counts::of_nextest);
    } else {
        cargo.args(["test", "--quiet", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
        tally.tests("tests", &mut cargo, Counts::of_libtest);
    }
    let mut cargo = sh::cargo();
    cargo.args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"]);
    tally.tests("documentation", &mut cargo, Counts::of_libtest);
}

fn has_nextest() -> bool {
    let mut cargo = sh::cargo();
    cargo.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    cargo.status().is_ok_and(|status| status.success())
}

/// What the tests in machines are told through the environment. `lazymmu-tests` reads these.
struct Artefacts {
    variables: Vec<(&'static str, PathBuf)>,
    /// Names of tests that cannot be run, and why.
    skipped: Vec<(&'static str, String)>,
}

fn machines(tally: &mut Tally) {
    match artefacts(tally) {
        Ok(artefacts) => run_machines(tally, artefacts),
        Err(error) => {
            tally.check("what the machines are made of", || Err(error));
            skip_machines(tally, "what they need could not be built");
        }
    }
}

fn artefacts(tally: &mut Tally) -> Result<Artefacts> {
    let binaries = Binaries::build()?;
    let mut variables = vec![("LAZYMMU_VM_GUEST", binaries.directory().to_owned())];
    let mut skipped = Vec::new();
    for series in SERIES {
        let (variable, module) = match series {
            Series::V7 => ("LAZYMMU_VM_KERNEL_7", "series_7::"),
            Series::V6_12 => ("LAZYMMU_VM_KERNEL_6_12", "series_6_12::"),
        };
        match kernel::ensure(series) {
            Ok(kernel) => {
                if series == SERIES[0] {
                    let accelerator = vm::accelerator(&kernel.image, &binaries)?;
                    variables.push(("LAZYMMU_VM_ACCELERATOR", accelerator.name().into()));
                }
                variables.push((variable, kernel.directory));
            }
            Err(error) => {
                skipped.push((module, format!("there is no kernel of series {}", series.name())));
                tally.check(&format!("kernel of series {}", series.name()), || Err(error));
            }
        }
    }
    match stock::ensure()? {
        Some(image) => variables.push(("LAZYMMU_VM_KERNEL_STOCK", image)),
        None => {
            skipped.push(("stock::", "a stock kernel is fetched as a Debian package, with apt".to_owned()));
        }
    }
    Ok(Artefacts { variables, skipped })
}

fn machine_tests() -> Command {
    let mut cargo = sh::cargo();
    // One process for all, so that tests can share a machine's run. Each machine uses one CPU and a bit.
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

fn run_machines(tally: &mut Tally, artefacts: Artefacts) {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cargo = machine_tests();
    cargo.args(["--", "--test-threads", &cpus.to_string()]);
    for (name, reason) in &artefacts.skipped {
        cargo.args(["--skip", name]);
        skip(tally, name, reason);
    }
    cargo.envs(artefacts.variables);
    tally.tests("virtual machines", &mut cargo, Counts::of_libtest);
}

fn skip_machines(tally: &mut Tally, reason: &str) {
    skip(tally, "", reason);
}

/// Counts the tests in machines whose name has this in it.
fn skip(tally: &mut Tally, name: &str, reason: &str) {
    let mut cargo = machine_tests();
    let listed = sh::run_and_read(cargo.args(["--", "--list", name]));
    let count = match listed {
        Ok((status, lines)) if status.success() => {
            lines.iter().filter(|line| line.ends_with(": test")).count()
        }
        Ok((status, _)) => {
            return tally.check("list of the tests in machines", || bail!("it ended with {status}"));
        }
        Err(error) => return tally.check("list of the tests in machines", || Err(error)),
    };
    tally.skip(count, &format!("tests in virtual machines {name}"), reason);
}

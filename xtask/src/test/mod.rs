//! `cargo xtask test`: every check and test, in the order in which a failure is cheapest to learn.
//!
//! The last line counts them all: `lazymmu: N passed, N failed, N skipped`. A check such as clippy counts as one. What
//! is skipped is counted too, and the reason is said.

pub(crate) mod machines;
mod readers;
mod summary;

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{ebpf, paths, setup, sh};
use summary::{Counts, Tally};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which virtual machines to test in
    #[arg(long, value_enum, default_value_t)]
    vm: Machines,
    /// Take what is installed as it is
    #[arg(long)]
    no_setup: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Machines {
    /// The dev kernels of every series, and a stock kernel; they are built and fetched if missing
    #[default]
    Usual,
    /// The variants of dev kernels, and a stock kernel under Xen, as well
    All,
    /// None: these tests are skipped
    None,
}

/// Runs everything and counts it.
pub(crate) fn run(args: &Args) -> ExitCode {
    let start = Instant::now();
    let mut tally = Tally::default();
    if !args.no_setup {
        tally.check("set-up", || setup::run(&setup::Args::default()));
    }
    // Before everything that compiles, so that nothing is compiled twice: the object is embedded.
    tally.check("eBPF object", ebpf::build);
    tally.check("format", format);
    tally.check("clippy", clippy);
    tally.check("clippy of the eBPF programs", clippy_of_programs);
    tally.check("build without the eBPF object", without_object);
    units(&mut tally);
    match args.vm {
        Machines::Usual => machines::run(&mut tally, false),
        Machines::All => machines::run(&mut tally, true),
        Machines::None => machines::skip_all(&mut tally, "--vm none was given"),
    }
    // After the machines, whose kernels bring the sources with the parser.
    readers::run(&mut tally);
    eprintln!("\ntook {} s", start.elapsed().as_secs());
    tally.finish()
}

fn clippy() -> Result<()> {
    let what = ["--workspace", "--all-targets", "--all-features"];
    sh::run(sh::cargo().args(["clippy", "--quiet"]).args(what).args(["--", "--deny", "warnings"]))
}

/// Looks at the programs as if they were for this machine: clippy comes with another compiler than the one that makes the
/// object, and without the sources that the target of the object wants. From the root, where the settings of that
/// target do not apply.
fn clippy_of_programs() -> Result<()> {
    let root = paths::root();
    let mut cargo = sh::cargo();
    cargo.args(["clippy", "--quiet", "--locked", "--manifest-path"]).arg(root.join("probe-ebpf/Cargo.toml"));
    cargo.arg("--target-dir").arg(paths::target().join("clippy-ebpf")).args(["--", "--deny", "warnings"]);
    // The inline assembly of eBPF is not stable, and aya-ebpf wants to know whose registers a context holds.
    cargo.current_dir(root).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"").env_remove("CARGO_ENCODED_RUSTFLAGS");
    sh::run(&mut cargo)
}

fn format() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    let programs = paths::root().join("probe-ebpf/Cargo.toml");
    sh::run(sh::cargo().args(["fmt", "--all", "--check", "--manifest-path"]).arg(programs))
}

/// What a user gets who has cargo and a C compiler only: the sample replays, and a capture says what is missing.
fn without_object() -> Result<()> {
    let run = |command: &str| {
        let mut cargo = sh::cargo();
        // As README.md has it: which binary that is, the workspace knows.
        cargo.args(["run", "--quiet", "--", command]).current_dir(paths::root());
        // No object stands there, wherever the usual place is.
        cargo.env("LAZYMMU_BPF_OBJECT", paths::root().join("no-such-object")).output()
    };
    let replay = run("replay")?;
    let said = String::from_utf8_lossy(&replay.stderr);
    ensure!(replay.status.code() == Some(1), "replay of the sample ended with {}: {said}", replay.status);
    let live = run("live")?;
    let said = String::from_utf8_lossy(&live.stderr);
    ensure!(live.status.code() == Some(4), "live ended with {}: {said}", live.status);
    let one_line = said.trim_end().lines().count() == 1;
    ensure!(one_line && said.contains("`cargo xtask ebpf build`"), "live did not say what to do: {said}");
    Ok(())
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

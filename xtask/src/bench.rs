//! `cargo xtask bench NAME`: a bench of a package, built for speed and run in the open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::guest::Binaries;
use crate::kernel::{self, Variant};
use crate::stock::{self, Series};
use crate::{paths, sh, unpacked, vm};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bench: the name of a file in benches/ of a package without its ending; without it, they are listed
    name: Option<String>,
    /// What is passed on to it
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs it, and exits as it does.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let names = names()?;
    let Some(name) = &args.name else {
        for name in names.keys() {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some(package) = names.get(name) else {
        let all: Vec<_> = names.into_keys().collect();
        bail!("there is no bench {name}; there are: {}", all.join(", "));
    };
    let mut cargo = sh::cargo();
    cargo.args(["bench", "--quiet", "-p", package, "--bench", name]);
    if name == LIVE || name == GATE {
        machines(&mut cargo, name == LIVE)?;
    }
    // Cargo passes an argument of its own to benches; only what follows is ours.
    cargo.arg("--").args(&args.rest).stdin(Stdio::null());
    if name == PLAN && args.rest.is_empty() && std::env::var_os(VMLINUX).is_none() {
        cargo.env(VMLINUX, vmlinux()?);
    }
    let status = cargo.status().with_context(|| format!("failed to start `{}`", sh::shown(&cargo)))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The bench that wants a kernel with debug information, and the variable that names one.
const PLAN: &str = "plan";
const VMLINUX: &str = "LAZYMMU_PLAN_VMLINUX";

/// That of Debian's newest kernel.
fn vmlinux() -> Result<PathBuf> {
    let stock = stock::ensure(Series::V7)?;
    let stock = stock.context("failed to fetch a kernel: this is not Debian; name a vmlinux behind --")?;
    stock::debug_image(Series::V7, &stock)
}

/// The benches that run in machines.
const LIVE: &str = "live";
const GATE: &str = "gate";

/// Builds what a bench in a machine needs, and says where it is as the tests are told; with what is compared if wanted.
fn machines(cargo: &mut Command, compared: bool) -> Result<()> {
    let binaries = Binaries::build()?;
    let plain = kernel::ensure(kernel::Series::V7, Variant::Plain)?;
    let accelerator = vm::accelerator(&plain.image, &binaries)?;
    cargo.env("LAZYMMU_VM_GUEST", binaries.directory());
    cargo.env("LAZYMMU_VM_ACCELERATOR", accelerator.name());
    cargo.env("LAZYMMU_VM_KERNEL_7", &plain.directory);
    if !compared {
        return Ok(());
    }
    let bare = kernel::ensure(kernel::Series::V7, Variant::Bare)?;
    cargo.env("LAZYMMU_VM_KERNEL_7_BARE", &bare.directory);
    match unpacked::peers() {
        Ok(root) => {
            cargo.env("LAZYMMU_BENCH_PEERS", root);
        }
        Err(error) => eprintln!("without other programs to compare with: {error:#}"),
    }
    Ok(())
}

/// The packages that have benches, by their directory.
const PACKAGES: [(&str, &str); 2] = [("tests", "lazymmu-tests"), ("hazard", "lazymmu-hazard")];

/// The benches, each with its package.
fn names() -> Result<BTreeMap<String, &'static str>> {
    let mut names = BTreeMap::new();
    for (directory, package) in PACKAGES {
        let directory = paths::root().join(directory).join("benches");
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("failed to list the benches in {}", directory.display()))?;
        let files = entries.flatten().map(|entry| entry.path());
        let benches = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        names.extend(benches.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), package))));
    }
    Ok(names)
}

//! The tests in virtual machines: builds what they need, tells them where it is, and counts those that cannot be run.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use super::summary::{Counts, Tally};
use crate::guest::Binaries;
use crate::kernel::{self, BuiltKernel, Series, Variant};
use crate::{module, plan, sh, stock, unpacked, vm, xen};

/// A kernel that is tested: the variable that says where it is, and the modules of its tests.
type Tested = (Series, Variant, &'static str, &'static [&'static str]);

const SERIES: [Tested; 2] = [
    (
        Series::V7,
        Variant::Plain,
        "LAZYMMU_VM_KERNEL_7",
        &[
            "series_7::",
            "sections_of_7::",
            "sites_of_7::",
            "stacks_of_7::",
            "suspects_of_7::",
            "daemon_of_7::",
            "matrix_7::",
            "gate_truth_7::",
            "gate_deaths_7::",
        ],
    ),
    (
        Series::V6_12,
        Variant::Plain,
        "LAZYMMU_VM_KERNEL_6_12",
        &[
            "series_6_12::",
            "sites_of_6_12::",
            "suspects_of_6_12::",
            "suspects_under_xen::",
            "matrix_6_12::",
            "matrix_xen::",
            "matrix_all_xen::",
        ],
    ),
];

/// Those that take minutes to build, and are built only for who asks for all.
const VARIANTS: [Tested; 2] = [
    (Series::V7, Variant::Kasan, "LAZYMMU_VM_KERNEL_7_KASAN", &["sections_of_kasan::"]),
    (Series::V7, Variant::Bare, "LAZYMMU_VM_KERNEL_7_BARE", &["bare_7::"]),
];

/// The modules of tests that are run only for who asks for all, though they need nothing of their own.
const LONG: [&str; 4] =
    ["suspects_of_6_12::", "suspects_under_xen::", "daemon_often_of_7::", "gate_deaths_7::"];

/// The variable with the list of functions that open sections.
const SECTIONS: &str = "LAZYMMU_VM_SECTIONS_7";

/// The module of the tests of the machine itself, which want any kernel.
const RUNNER: &str = "runner::";

/// The stock kernels: the variables that say where the boot image and its plan are, and the module of the tests.
const STOCK: [(stock::Series, &str, &str, &str); 6] = [
    (stock::Series::V7, "LAZYMMU_VM_STOCK_7", "LAZYMMU_VM_PLAN_7", "stock_7::"),
    (stock::Series::V6_12, "LAZYMMU_VM_STOCK_6_12", "LAZYMMU_VM_PLAN_6_12", "stock_6_12::"),
    (stock::Series::V6_1, "LAZYMMU_VM_STOCK_6_1", "LAZYMMU_VM_PLAN_6_1", "stock_6_1::"),
    (stock::Series::V6_12Full, "LAZYMMU_VM_STOCK_6_12_FULL", "LAZYMMU_VM_PLAN_6_12_FULL", "stock_xen::"),
    (
        stock::Series::V6_12Full,
        "LAZYMMU_VM_STOCK_6_12_FULL",
        "LAZYMMU_VM_PLAN_6_12_FULL",
        "symbols_6_12_xen::",
    ),
    (stock::Series::V6_1Full, "LAZYMMU_VM_STOCK_6_1_FULL", "LAZYMMU_VM_PLAN_6_1_FULL", "symbols_6_1_xen::"),
];

/// The module, in that of a stock kernel, of the tests that need its plan.
const PLANNED: &str = "planned::";

/// The tests that need the module of kernel/stale/ are in the module of those of its kernel.
const STALE: &str = "stock_xen::";

/// The module of the tests with systemd.
const SERVICE: &str = "service_on_stock_6_12::";

/// The modules of the tests under Xen end so.
const XEN: &str = "xen::";

/// Builds what is missing, and runs everything for which it could be built; the variants as well if they are wanted.
pub(super) fn run(tally: &mut Tally, variants: bool) {
    let Some(binaries) = tally.check("static binaries", Binaries::build) else {
        return skip_all(tally, "the static binaries could not be built");
    };
    let mut cargo = tests();
    cargo.env("LAZYMMU_VM_GUEST", binaries.directory()).arg("--");
    let mut kernels = Vec::new();
    let wanted = if variants { &VARIANTS[..] } else { &[] };
    for &(series, variant, variable, modules) in SERIES.iter().chain(wanted) {
        let name = format!("kernel of series {}{}", series.name(), variant.suffix());
        match tally.check(&name, || kernel::ensure(series, variant)) {
            Some(kernel) => {
                cargo.env(variable, &kernel.directory);
                kernels.push(kernel);
            }
            None => {
                for module in modules {
                    skip(tally, &mut cargo, module, &format!("there is no {name}"));
                }
            }
        }
    }
    if !variants {
        for module in VARIANTS.iter().flat_map(|(_, _, _, modules)| *modules) {
            skip(tally, &mut cargo, module, "it takes a kernel of its own; --vm all builds it");
        }
        for module in LONG {
            skip(tally, &mut cargo, module, "it takes half a minute or more; --vm all has it");
        }
    }
    if let Some(list) = tally.check("list of sections", section_list) {
        cargo.env(SECTIONS, list);
    }
    match kernels.first() {
        None => skip(tally, &mut cargo, RUNNER, "there is no kernel"),
        Some(kernel) => {
            cargo.env("LAZYMMU_VM_KERNEL", &kernel.directory);
            let found = tally.check("accelerator", || accelerator(kernel, &binaries));
            cargo.env("LAZYMMU_VM_ACCELERATOR", found.unwrap_or("tcg"));
        }
    }
    for (series, image, plan, module) in STOCK {
        if !variants {
            skip(tally, &mut cargo, module, "it takes a large package and a minute or two; --vm all has it");
            continue;
        }
        stock_kernel(tally, &mut cargo, &binaries, (series, image, plan, module));
    }
    match tally.check("Xen", xen::find) {
        Some(Some(hypervisor)) => {
            cargo.env("LAZYMMU_VM_XEN", hypervisor);
        }
        Some(None) => skip(tally, &mut cargo, XEN, "Xen is fetched with apt, and this is not Debian"),
        None => skip(tally, &mut cargo, XEN, "there is no Xen"),
    }
    if variants {
        match unpacked::systemd() {
            Ok(root) => {
                cargo.env("LAZYMMU_VM_SYSTEMD", root);
            }
            Err(error) => skip(tally, &mut cargo, SERVICE, &format!("there is no systemd: {error:#}")),
        }
    }
    if let Some(stock) = stock::in_cache_of(stock::Series::V6_12Full).filter(|_| variants) {
        match tally.check("module with a bug", || module::ensure(&stock)) {
            Some(module) => {
                cargo.env("LAZYMMU_VM_STALE_MODULE", module);
            }
            None => skip(tally, &mut cargo, STALE, "there is no module"),
        }
    }
    // Each machine keeps one CPU busy.
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cargo.args(["--test-threads", &cpus.to_string()]);
    tally.tests("virtual machines", &mut cargo, Counts::of_libtest);
}

/// Commits every hazard in machines and prints which were found.
pub(crate) fn matrix() -> Result<ExitCode> {
    shown("matrix_all_xen::")
}

/// Has probed instructions and the drop-in tell of the same run of each series, and prints how much the former missed.
pub(crate) fn recall() -> Result<ExitCode> {
    shown("sites_of_")
}

/// Runs some tests in machines of every series, for what they print.
fn shown(tests_named: &str) -> Result<ExitCode> {
    let binaries = Binaries::build()?;
    let mut cargo = tests();
    cargo.env("LAZYMMU_VM_GUEST", binaries.directory());
    for (series, variant, variable, _) in SERIES {
        let kernel = kernel::ensure(series, variant)?;
        cargo.env("LAZYMMU_VM_ACCELERATOR", accelerator(&kernel, &binaries)?).env(variable, kernel.directory);
    }
    if let Some(hypervisor) = xen::find()? {
        cargo.env("LAZYMMU_VM_XEN", hypervisor);
    }
    cargo.args(["--", "--nocapture", "--test-threads", "1", tests_named]);
    let status = cargo.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes a stock kernel and its plan known to the tests, or skips those that need what is not there: apt may offer a
/// kernel that is newer than every plan, on a machine that has no way to its debug package.
fn stock_kernel(
    tally: &mut Tally,
    cargo: &mut Command,
    binaries: &Binaries,
    (series, image, plan_variable, module): (stock::Series, &str, &str, &str),
) {
    let name = format!("stock kernel of series {}", series.name());
    let stock = match tally.check(&name, || stock::ensure(series)) {
        Some(Some(stock)) => stock,
        Some(None) => {
            return skip(tally, cargo, module, "a stock kernel is fetched with apt, and this is not Debian");
        }
        None => return skip(tally, cargo, module, &format!("there is no {name}")),
    };
    cargo.env(image, &stock.image);
    if !series.is_planned() {
        return;
    }
    match plan::ensure_for(binaries, series, &stock) {
        Ok(path) => {
            cargo.env(plan_variable, path);
        }
        Err(error) => {
            let reason = format!("there is no plan for {}: {error:#}", stock.release);
            skip(tally, cargo, &format!("{module}{PLANNED}"), &reason);
        }
    }
}

/// Runs the workloads and prints which of the kernel's sections they enter; with those of the variants if wanted.
pub(crate) fn sections(variants: bool) -> Result<ExitCode> {
    let binaries = Binaries::build()?;
    let mut cargo = tests();
    cargo.env("LAZYMMU_VM_GUEST", binaries.directory()).env(SECTIONS, section_list()?);
    let mut filters: Vec<&str> = Vec::new();
    for (series, variant, variable, modules) in [SERIES[0]].into_iter().chain(variants.then_some(VARIANTS[0]))
    {
        let kernel = kernel::ensure(series, variant)?;
        cargo.env("LAZYMMU_VM_ACCELERATOR", accelerator(&kernel, &binaries)?).env(variable, kernel.directory);
        filters.extend(modules.iter().filter(|module| module.starts_with("sections_")));
    }
    cargo.args(["--", "--nocapture", "--test-threads", "1"]).args(filters);
    let status = cargo.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn section_list() -> Result<String> {
    let sections = kernel::sections(Series::V7)?;
    Ok(sections.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
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
    skip_of(tests, "tests in virtual machines", tally, cargo, (module, reason));
}

/// The same for the tests that a command runs, with their name. What is skipped is a module, for a reason.
pub(super) fn skip_of(
    tests: fn() -> Command,
    name: &str,
    tally: &mut Tally,
    cargo: &mut Command,
    (module, reason): (&str, &str),
) {
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
        Ok(count) => tally.skip(count, &format!("{name} {module}"), reason),
        Err(error) => {
            tally.check::<()>(&format!("list of the {name}"), || Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_those_that_the_tests_read() {
        let reader = include_str!("../../../tests/src/lab.rs");
        for (_, _, variable, _) in SERIES.into_iter().chain(VARIANTS) {
            assert!(reader.contains(variable), "{variable}");
        }
        assert!(reader.contains(SECTIONS), "{SECTIONS}");
        let stock = STOCK.into_iter().flat_map(|(_, image, plan, _)| [image, plan]);
        for variable in stock.chain([
            "LAZYMMU_VM_GUEST",
            "LAZYMMU_VM_ACCELERATOR",
            "LAZYMMU_VM_XEN",
            "LAZYMMU_VM_STALE_MODULE",
            "LAZYMMU_VM_SYSTEMD",
            "\"LAZYMMU_VM_KERNEL\"",
        ]) {
            assert!(reader.contains(variable), "{variable}");
        }
    }
}

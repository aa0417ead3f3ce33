//! `cargo xtask vm`: one lazymmu command in a virtual machine, as if it ran here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use lazymmu_vm::{
    Accelerator, Command, Initramfs, Job, JobStatus, KernelDirectory, Limits, Machine, Output, Step,
};

use crate::guest::Binaries;
use crate::kernel::{self, Series, Variant};
use crate::{paths, plan, stock, xen};

/// What `cargo xtask vm` takes.
#[derive(clap::Args)]
// Each is a switch of its own on the command line.
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Args {
    /// The kernel series, 7 or 6.12; it is built if there is none yet
    #[arg(long, value_enum, default_value_t = Series::V7, conflicts_with = "kernel")]
    series: Series,
    /// Which kernel of the series
    #[arg(long, value_enum, default_value_t, conflicts_with = "kernel")]
    variant: Variant,
    /// Boot Debian's kernel of a series instead, without the drop-in; its probe plan is /kernel.plan.zst in the machine
    #[arg(long, value_enum, value_name = "SERIES", conflicts_with_all = ["kernel", "series", "variant"])]
    stock: Option<stock::Series>,
    /// Add words to the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// A kernel directory that `cargo xtask kernel build` has made, or a bzImage
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Boot it as the first PV guest of Xen, where the lazy MMU mode does defer
    #[arg(long)]
    xen: bool,
    /// How many CPUs the machine has
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,
    /// How much memory it has, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..))]
    memory: u32,
    /// Whether the kernel's debug information is put into the machine, for source lines and inlined functions
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    debug_info: bool,
    /// Hide the kernel's BTF from the programs in the machine
    #[arg(long)]
    hide_btf: bool,
    /// Put a file of this machine into the other one; may be given several times
    #[arg(long, value_name = "FILE:PATH", value_parser = parse_put)]
    put: Vec<(PathBuf, String)>,
    /// Write what the command leaves in /out to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// End the machine after this many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Use this accelerator instead of the best one that works
    #[arg(long, value_name = "NAME", value_parser = ["kvm", "tcg"])]
    accelerator: Option<String>,
    /// Print the kernel's console at the end
    #[arg(long)]
    console: bool,
    /// What lazymmu is to do in the machine
    #[arg(last = true, required = true, value_name = "LAZYMMU ARGUMENTS")]
    command: Vec<String>,
}

fn parse_put(text: &str) -> Result<(PathBuf, String), String> {
    let (file, path) =
        text.rsplit_once(':').ok_or("not a file and a path in the machine, like a.plan:/a.plan")?;
    Ok((file.into(), path.to_owned()))
}

/// The kernel to boot, and its debug information if there is any.
fn kernel(args: &Args) -> Result<(PathBuf, Option<KernelDirectory>)> {
    let path = match &args.kernel {
        Some(path) if path.is_dir() => path.clone(),
        Some(image) => return Ok((image.clone(), None)),
        None => kernel::ensure(args.series, args.variant)?.directory,
    };
    let directory = KernelDirectory::open(path).context("failed to use the kernel")?;
    Ok((directory.boot_image(), Some(directory)))
}

/// The boot image of a stock kernel; its plan goes into the machine, and its modules, which the steps load.
fn stock_kernel(
    series: stock::Series,
    binaries: &Binaries,
    initramfs: &mut Initramfs,
    steps: &mut Vec<Step>,
) -> Result<PathBuf> {
    let stock = stock::ensure(series)?.context("failed to fetch a stock kernel: this is not Debian")?;
    if series.is_planned() {
        match plan::ensure_for(binaries, series, &stock) {
            Ok(plan) => initramfs.add_file("/kernel.plan.zst", &plan, 0o644)?,
            Err(error) => eprintln!("vm: there will be no plan: {error:#}"),
        }
    }
    for module in stock::modules(series)? {
        let place = Path::new("/").join(module.file_name().unwrap_or_default());
        initramfs.add_file(&place, &module, 0o644)?;
        steps.push(Step::Module(place));
    }
    Ok(stock.image)
}

/// The exit status when the machine could not do its job, which no lazymmu command has.
const MACHINE_FAILED: u8 = 125;

/// Builds what is missing, boots, and exits as the command did.
pub(crate) fn run(args: &Args) -> ExitCode {
    run_in_machine(args).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(MACHINE_FAILED)
    })
}

fn run_in_machine(args: &Args) -> Result<ExitCode> {
    let binaries = Binaries::build()?;
    let mut initramfs = Initramfs::new(&binaries.init())?;
    initramfs.add_file("/bin/lazymmu", &binaries.lazymmu(), 0o755)?;
    let mut steps = Vec::new();
    let (image, directory) = match args.stock {
        Some(series) => (stock_kernel(series, &binaries, &mut initramfs, &mut steps)?, None),
        None => kernel(args)?,
    };
    if let Some(directory) = directory.filter(|_| args.debug_info) {
        directory.add_debug_info(&mut initramfs)?;
    }
    for (file, path) in &args.put {
        initramfs.add_file(path, file, 0o644)?;
    }
    let accelerator = match args.accelerator.as_deref() {
        Some("kvm") => Accelerator::Kvm,
        Some(_) => Accelerator::Tcg,
        None => accelerator(&image, &binaries)?,
    };
    if args.hide_btf {
        steps.push(hide_btf());
    }
    let words = std::iter::once("/bin/lazymmu").chain(args.command.iter().map(String::as_str));
    steps.push(Command::new(words).into());
    let mut machine = Machine::new(image)
        .accelerator(accelerator)
        .cpus(args.smp)
        .memory(args.memory)
        .append(&args.append)
        .limits(Limits { job: Duration::from_secs(args.timeout), ..Limits::default() });
    if args.xen {
        machine = machine.under(xen::ensure()?);
    }

    eprintln!("vm: booting on {}{}", accelerator.name(), if args.xen { ", under Xen" } else { "" });
    let running = machine
        .boot(&initramfs, &Job::new(steps))
        .and_then(lazymmu_vm::Booting::until_ready)
        .context("failed to run the machine")?;
    let (release, seconds) = (running.release(), running.boot_time().as_secs_f32());
    eprintln!("vm: {release} is up after {seconds:.1} s and runs: lazymmu {}", args.command.join(" "));
    let finished = running.finish(&mut print).context("failed to run the machine")?;
    if args.console {
        finished.console.iter().for_each(|line| eprintln!("console: {line}"));
    }
    for line in finished.complaints() {
        eprintln!("vm: the kernel complained: {line}");
    }
    if let Some(out) = &args.out {
        finished.write_files(out)?;
        eprintln!("vm: {} files in {}", finished.files.len(), out.display());
    }
    match finished.status {
        // Exit statuses have eight bits.
        JobStatus::Exit(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        JobStatus::Failed(why) => anyhow::bail!("failed to run the job: the guest could not {why}"),
    }
}

/// The best accelerator that works here.
pub(crate) fn accelerator(image: &Path, binaries: &Binaries) -> Result<Accelerator> {
    let initramfs = Initramfs::new(&binaries.init())?;
    Ok(Accelerator::detect(image, &initramfs, &paths::cache()?.join("accelerator")))
}

/// With something empty mounted over it, a kernel looks as if it had been built without BTF.
fn hide_btf() -> Step {
    Step::Mount { kind: "tmpfs".into(), target: "/sys/kernel/btf".into(), options: String::new() }
}

fn print(output: Output<'_>) {
    // Who closed our output does not want to read more; the exit status still counts.
    let _ = match output {
        Output::Stdout(bytes) => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Output::Stderr(bytes) => std::io::stderr().write_all(bytes),
    };
}

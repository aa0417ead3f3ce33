//! `gate`: what can be asked of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{BaselineArgs, ReportArgs, SuppressArgs, parse_seconds};

/// `gate`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GateArgs {
    /// What to do instead of judging a kernel.
    #[command(subcommand)]
    pub command: Option<GateCommand>,

    /// A file of settings (docs/ci.md); without it ./lazymmu.toml, if there is one. Options go before what it says.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The kernel to boot: a bzImage with the drop-in.
    #[arg(long, value_name = "BZIMAGE")]
    pub kernel: Option<PathBuf>,

    /// Its vmlinux with debug information, for source lines and inlined functions.
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    /// Trace a kernel without the drop-in by this plan, which `lazymmu plan` has made of its vmlinux (docs/plan.md).
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,

    /// Boot it as the first PV guest of this Xen, where x86 does defer: the hypervisor's file, not compressed.
    #[arg(long, value_name = "XEN")]
    pub xen: Option<PathBuf>,

    /// What to run in the guest: a built-in workload, `all` of them, a program with its arguments, or a folder of programs.
    /// May be given several times; they run one after the other.
    #[arg(long, value_name = "NAME|CMD|DIR")]
    pub workload: Vec<String>,

    /// Only what breaks on one of these architectures counts; `lazymmu explain --profile all` lists them.
    #[arg(long, value_name = "PROFILE", value_delimiter = ',')]
    pub profile: Vec<String>,

    /// How many CPUs the guest has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,

    /// How much memory it has, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..))]
    pub memory: Option<u32>,

    /// How many seconds the workloads may take.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,

    /// More words for the kernel's command line.
    #[arg(long, value_name = "WORDS")]
    pub append: Option<String>,

    /// Leave the trace, the reports and the guest's console in this folder, which is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Exit as `git bisect run` wants it: 0 good, 1 bad, 125 for what could not be judged.
    #[arg(long)]
    pub bisect: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub baseline: BaselineArgs,
}

/// `gate ...`
#[derive(Debug, Subcommand)]
pub enum GateCommand {
    /// Write a file of settings with comments, to begin with. One that is there is left alone.
    Init {
        /// Where to.
        #[arg(default_value = "lazymmu.toml")]
        file: PathBuf,
    },
}

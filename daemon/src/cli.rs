//! The command line: what can be asked, in one place. What each command does is in [`crate::command`].

mod daemon;
mod gate;
#[cfg(test)]
mod tests;
mod tui;

pub use daemon::{AskArgs, Asked, DaemonArgs};
pub use gate::{GateArgs, GateCommand};
pub use tui::{LookArgs, Script, Theme, TuiArgs};

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lazymmu_report::what_if::Site;
use lazymmu_report::{Date, Filter};

/// Finds page-table hazards in the Linux kernel's lazy MMU mode.
///
/// Exit status: 0 clean, 1 hazards found, 2 unusable arguments or input, 3 inconclusive (something was not seen),
/// 4 this kernel cannot be traced, 5 not permitted, 70 a fault in lazymmu. Of several traces, the worst.
#[derive(Debug, Parser)]
#[command(name = "lazymmu", version, max_term_width = 110)]
pub struct Cli {
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,

    /// Say more on stderr; twice for debugging.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture to a trace file, to be judged later.
    Record(RecordArgs),
    /// Capture and report: hazards are announced as they are first seen, the full report follows at the end.
    Live(Box<LiveArgs>),
    /// Capture, and serve clients on a Unix socket what is found, until SIGTERM. See docs/daemon.md.
    Daemon(Box<DaemonArgs>),
    /// Ask a daemon, and print what it says, a line of JSON each. See docs/protocol.md.
    Ask(AskArgs),
    /// Detect in a recorded trace, or in the embedded sample.
    Replay(ReplayArgs),
    /// Make a report of a recorded trace in any form, with the course of each finding's section.
    Report(MakeReportArgs),
    /// Look at a recorded trace, or the embedded sample: findings, call paths, sections, CPUs, hooks.
    Tui(TuiArgs),
    /// Boot a kernel in QEMU, run workloads on it, and judge what was recorded: for CI.
    Gate(Box<GateArgs>),
    /// Compare two traces or JSON reports: hazards that are new, gone or changed, and the batches side by side.
    Diff(DiffArgs),
    /// Run a small program that makes the kernel enter the lazy MMU mode.
    Workload(WorkloadArgs),
    /// Say what a flush before a place in the kernel would mend, and what it would cost in batches.
    WhatIf(WhatIfArgs),
    /// Show how large batches are, by the function that opened the section.
    Stats(StatsArgs),
    /// Find the places in a kernel image where page-table entries are accessed, and write them down as a plan.
    Plan(PlanArgs),
    /// Say whether this kernel can be traced by this process, what would be seen, and what to do if not.
    Doctor(DoctorArgs),
    /// Say what a rule catches, which words of the contract it enforces, and what it cannot see.
    Explain(ExplainArgs),
}

/// `record`
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The trace file to write; an existing one is replaced. `-` is stdout, and what the command prints goes to stderr.
    #[arg(short, long, value_name = "TRACE")]
    pub output: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub capture: CaptureArgs,
}

/// `live`
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// Show what is found on the terminal while it is captured, with the settings of `tui`; the report follows when the
    /// view is left, which ends the capture. What the command prints is thrown away, unless stderr is a file.
    #[arg(long)]
    pub tui: bool,

    /// With --tui: the kernel's source tree, to show the code around the lines of call paths.
    #[arg(long, value_name = "DIR", requires = "tui")]
    pub source: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub look: LookArgs,

    /// Write the trace to this file as well.
    #[arg(long, value_name = "TRACE")]
    pub record: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub baseline: BaselineArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub capture: CaptureArgs,
}

/// `replay`
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The traces or scenarios (docs/scenarios.md) to judge, each by itself; without any, the sample inside this binary.
    #[arg(value_name = "TRACE")]
    pub traces: Vec<PathBuf>,

    /// Judge so many traces at the same time; as many as there are CPUs if it is left out. What is printed is the same.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Write what this filter selects to a trace of its own, see -o. The same as --filter otherwise.
    #[arg(long, value_name = "EXPR", value_parser = parse_filter, requires = "output")]
    pub keep: Option<Filter>,

    /// The reduced trace to write: whole sections that the filters select, with all that bears on them.
    #[arg(short, long, value_name = "TRACE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: FilterArgs,

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

/// `report`
#[derive(Debug, Args)]
pub struct MakeReportArgs {
    /// The trace or scenario (docs/scenarios.md); without it, the sample inside this binary.
    #[arg(value_name = "TRACE")]
    pub trace: Option<PathBuf>,

    /// The file to write; an existing one is replaced once the new one is whole. Without it, stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: ReportArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: FilterArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub baseline: BaselineArgs,
}

/// `diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A trace, a scenario, or a report that was made with --format json.
    #[arg(value_name = "A")]
    pub before: PathBuf,

    /// Another one, to be compared with it.
    #[arg(value_name = "B")]
    pub after: PathBuf,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub figures: FigureArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,
}

/// `workload`
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WorkloadCommand,
}

/// `workload ...`
#[derive(Debug, Subcommand)]
pub enum WorkloadCommand {
    /// List the workloads with what each needs.
    List,
    /// Run one, or several one after the other; a workload that could not trigger what it says fails.
    Run {
        /// Its name, as `list` prints it; `all` for every one that the machine has what it needs for; `hazard:RULE` for what
        /// the module of kernel/hazards commits on demand, `hazard:RULE-ok` for its correct twin; or the path of a
        /// program, and its arguments in the same word, which fails unless it exits with 0, or with 4, by which
        /// kselftests say that they were skipped.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,

        /// Run `all` again and again for so many seconds, in random order and on every CPU.
        #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
        seconds: Option<Duration>,

        /// What the order follows from: the same number gives the same order.
        #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "seconds")]
        seed: u64,

        /// How many to run at once for each CPU; more than one preempt each other.
        #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "seconds",
            value_parser = clap::value_parser!(u16).range(1..=256))]
        tasks: u16,
    },
}

/// `what-if`
#[derive(Debug, Args)]
pub struct WhatIfArgs {
    /// The trace or scenario; without it, the sample inside this binary.
    #[arg(value_name = "TRACE")]
    pub trace: Option<PathBuf>,

    /// The place: FUNCTION, FUNCTION+0xOFFSET or FILE:LINE, as call paths have it. Every access that a task makes there
    /// inside a section gets a flush before it.
    #[arg(long, value_name = "SITE")]
    pub flush_before: Site,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: FigureArgs,
}

/// `stats`
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The trace or scenario; without it, the sample inside this binary.
    #[arg(value_name = "TRACE")]
    pub trace: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: FigureArgs,
}

/// `plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// A plan to show. It must be of the kernel that --vmlinux names, or without that of the running one.
    #[arg(value_name = "PLAN")]
    pub plan: Option<PathBuf>,

    /// The kernel image to make a plan of: a vmlinux, or a vmlinuz with --symbols. With debug information it tells all
    /// reads. Without a PLAN and an image, a plan is made of the running kernel's own image, wherever it is kept.
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    /// The kernel's symbols, for an image that has none: its System.map, or a copy of its /proc/kallsyms.
    #[arg(long, value_name = "FILE", requires = "vmlinux")]
    pub symbols: Option<PathBuf>,

    /// Leave nothing to the tracepoints of the drop-in, if the kernel has it: its instructions are to tell all.
    #[arg(long, requires = "vmlinux", conflicts_with = "plan")]
    pub instructions: bool,

    /// Add a module of that kernel, a `.ko` which may be packed, to the plan; may be given several times. With debug
    /// information it tells reads. A PLAN that is already there takes them on the kernel that it is of, or with --vmlinux.
    #[arg(long, value_name = "FILE")]
    pub module: Vec<PathBuf>,

    /// Write the plan to this file as well; an existing one is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: FigureArgs,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A plan of this kernel; without it, one is made of the kernel's image, if that can be found.
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,

    /// The kernel's vmlinux, to make a plan of.
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: FigureArgs,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The rule's id; without it, the rules are listed.
    pub rule: Option<String>,

    /// Say instead what this architecture's profile defers and what flushes it; `all` for every profile.
    #[arg(long, value_name = "NAME", conflicts_with = "rule")]
    pub profile: Option<String>,
}

/// What every command that captures takes.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Which accesses to record.
    #[arg(long = "capture", alias = "scope", value_enum, value_name = "LEVEL", default_value_t = Scope::Sections)]
    pub scope: Scope,

    /// With --capture suspects: how many entries may be pending at one time in all sections; a power of two (K, M).
    /// More are counted as lost.
    #[arg(long, value_name = "ENTRIES", default_value = "64K", value_parser = parse_entries)]
    pub pending: u32,

    /// Take no call stacks. That is cheaper, and findings then name one function of each side.
    #[arg(long)]
    pub no_stacks: bool,

    /// Size of the ring buffers for records between the kernel and lazymmu, together; a power of two, from a page and 2K
    /// for each CPU to 1G (K, M, G). Call stacks take a quarter of it more.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_size)]
    pub ring_size: u32,

    /// The kernel's vmlinux with debug information, for source lines and inlined functions. Without it, it is looked
    /// for by the running kernel's build id.
    #[arg(long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    /// Probe the instructions of this plan (see `lazymmu plan`), which must be of the kernel that runs. Without it, a
    /// kernel that has not the drop-in is probed after a plan made of --vmlinux.
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,

    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: FilterArgs,

    /// The command to run meanwhile; capturing stops when it ends. `workload run NAME` runs a built-in workload.
    /// Without a command, capturing goes on until SIGINT or SIGTERM.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What every command that prints figures takes.
#[derive(Debug, Args)]
pub struct FigureArgs {
    /// The form of the figures on stdout.
    #[arg(long, value_enum, default_value_t = FigureFormat::Human)]
    pub format: FigureFormat,
}

/// What every command that reports takes.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The form of the report; see docs/reports.md.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What is selected: findings where it is judged, whole sections where it is recorded. See docs/filters.md.
///
/// Values of one option are alternatives; different options must all hold.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only what this process does.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Only what tasks of this name do; `*` and `?` as in a shell.
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,

    /// Only what has this function on a call stack; `*` and `?` as in a shell.
    #[arg(long, value_name = "NAME")]
    pub function: Vec<String>,

    /// Only findings of this rule; `*` and `?` as in a shell.
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<String>,

    /// Only findings at this level of the page table.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub level: Vec<Level>,

    /// Only what this expression selects, such as `pid=40 and (function=copy_pte_range or rule=read-pending) and not
    /// level=pmd`, with the keys pid, tid, comm, cpu, time, rule, function and level.
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    pub filter: Option<Filter>,
}

/// A level of the page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Level {
    Pte,
    Pmd,
    Pud,
    P4d,
    Pgd,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pte => "pte",
            Self::Pmd => "pmd",
            Self::Pud => "pud",
            Self::P4d => "p4d",
            Self::Pgd => "pgd",
        }
    }
}

/// Findings that do not count. See docs/suppressions.md.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Suppressions")]
pub struct SuppressArgs {
    /// A file of suppressions (TOML); may be given several times.
    #[arg(long, value_name = "FILE")]
    pub suppressions: Vec<PathBuf>,

    /// Leave out the suppressions that come with lazymmu.
    #[arg(long)]
    pub no_default_suppressions: bool,

    /// The day by which suppressions expire, such as 2027-01-31; today if it is left out.
    #[arg(long, value_name = "DATE")]
    pub today: Option<Date>,
}

/// The hazards that are known. See docs/baseline.md.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Baseline")]
pub struct BaselineArgs {
    /// A file of known hazards (TOML): only new ones make the exit status 1.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Write what was seen to the baseline, which need not exist yet: new hazards come in, fixed ones go.
    #[arg(long, requires = "baseline")]
    pub update_baseline: bool,
}

/// Which accesses are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Every access inside a section.
    Sections,
    /// Every access of every task, inside a section or not.
    All,
    /// Of the accesses inside a section only what comes upon a pending write, and that write; the rest is counted.
    Suspects,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON document; see docs/findings-json.md.
    Json,
    /// The same in lines: the report, then each finding.
    Jsonl,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI.
    Junit,
    /// KTAP, as the kernel's own tests have it.
    Ktap,
    /// One self-contained page.
    Html,
    /// Annotations of GitHub Actions.
    Github,
}

/// The form of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FigureFormat {
    /// For people.
    Human,
    /// One JSON document.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    text.parse().map_err(|error| format!("failed to {error}"))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn parse_entries(text: &str) -> Result<u32, String> {
    let entries = parse_number(text)?;
    if !entries.is_power_of_two() || !(4..=1 << 22).contains(&entries) {
        return Err("not a power of two from 4 to 4M".to_owned());
    }
    Ok(entries)
}

fn parse_size(text: &str) -> Result<u32, String> {
    let size = parse_number(text)?;
    if !size.is_power_of_two() || size < 4096 {
        return Err("not a power of two of at least 4096 bytes".to_owned());
    }
    Ok(size)
}

fn parse_number(text: &str) -> Result<u32, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u32 = digits.parse().map_err(|_| "not a size such as 4096, 64K or 32M".to_owned())?;
    Ok(number.checked_mul(1 << shift).ok_or("larger than 4 GiB")?)
}

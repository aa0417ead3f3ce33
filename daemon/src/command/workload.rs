//! `workload`: the built-in programs that make the kernel enter the mode, and others to be run beside them.

mod mix;

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};

use self::mix::Mix;
use crate::cli::{WorkloadArgs, WorkloadCommand};
use crate::session::Output;
use crate::{ExitStatus, Failure};

/// Stands for every workload that the machine has what it needs for.
const ALL: &str = "all";

/// The exit status by which the kernel's own tests say that they could not be run (KSFT_SKIP in
/// tools/testing/selftests/kselftest.h, 6.12 and 7.2).
const SKIPPED: i32 = 4;

pub(super) fn run(args: &WorkloadArgs) -> Result<ExitStatus> {
    match &args.command {
        WorkloadCommand::List => list(),
        WorkloadCommand::Run { names, seconds: Some(time), seed, tasks } => {
            mixed(names, Mix { time: *time, seed: *seed, tasks: usize::from(*tasks) })
        }
        WorkloadCommand::Run { names, .. } => match names.as_slice() {
            [name] if name != ALL && !is_program(name) => run_one(name),
            names => run_several(names),
        },
    }
}

fn list() -> Result<ExitStatus> {
    let mut text = String::new();
    for workload in lazymmu_workload::list() {
        let _ = writeln!(text, "{:<16} {}", workload.name, workload.what);
        if !workload.needs.is_empty() {
            let _ = writeln!(text, "{:<16} needs {}", "", workload.needs);
        }
    }
    text.push_str(
        "\nWith the module of kernel/hazards: hazard:RULE commits the hazard of that rule, hazard:RULE-ok does it right.\n",
    );
    for hazard in lazymmu_workload::hazards() {
        let _ = writeln!(text, "hazard:{:<20} {}", hazard.rule, hazard.what);
    }
    Output::print(&text)?;
    Ok(ExitStatus::Clean)
}

/// All of them for a time, in an order of the seed's.
fn mixed(names: &[String], mix: Mix) -> Result<ExitStatus> {
    if names != [ALL] {
        let what = "failed to mix workloads: --seconds is for `all` of them; name nothing else";
        return Err(Failure::new(ExitStatus::Usage, what).into());
    }
    mix.run(lazymmu_workload::list())
}

/// Whether that is the exit status of a workload that ran, or lacked what it needs.
fn is_good(status: i32) -> bool {
    [0, i32::from(ExitStatus::CannotTrace as u8)].contains(&status)
}

fn run_one(name: &str) -> Result<ExitStatus> {
    let outcome = lazymmu_workload::run(name).map_err(|error| {
        let status = match error {
            lazymmu_workload::Error::Unknown { .. } => ExitStatus::Usage,
            lazymmu_workload::Error::Missing { .. } => ExitStatus::CannotTrace,
            // What was to be seen did not happen: whoever traces it must not take the silence for a verdict.
            _ => ExitStatus::Inconclusive,
        };
        Failure::to(status, error)
    })?;
    Output::print(&format!("{name}: {}\n", outcome.summary))?;
    Ok(ExitStatus::Clean)
}

fn is_program(name: &str) -> bool {
    name.contains('/')
}

/// Each in a process of its own. One that fails does not keep the others from running.
fn run_several(names: &[String]) -> Result<ExitStatus> {
    let own = std::env::current_exe().context("failed to find lazymmu's own binary to run a workload")?;
    let known: Vec<_> = lazymmu_workload::list().iter().map(|workload| workload.name).collect();
    let mut failed = 0;
    for name in names {
        if name == ALL {
            for name in &known {
                // Of all that there are, those that cannot be run here are not asked for.
                let status = status_of(Command::new(&own).args(["workload", "run", name]))?;
                failed += u32::from(!is_good(status));
            }
        } else if is_program(name) {
            let mut words = name.split_ascii_whitespace();
            let status = status_of(Command::new(words.next().unwrap_or_default()).args(words))?;
            let good = [0, SKIPPED].contains(&status);
            failed += u32::from(!good);
            let end = if status == SKIPPED {
                "skipped"
            } else if good {
                "passed"
            } else {
                "failed"
            };
            Output::print(&format!("{name}: {end}, exit status {status}\n"))?;
        } else if lazymmu_workload::is_known(name) {
            failed += u32::from(status_of(Command::new(&own).args(["workload", "run", name]))? != 0);
        } else {
            return run_one(name);
        }
    }
    Ok(if failed == 0 { ExitStatus::Clean } else { ExitStatus::Inconclusive })
}

/// As a shell would tell it.
fn status_of(command: &mut Command) -> Result<i32> {
    use std::os::unix::process::ExitStatusExt;
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("failed to start {program}"))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

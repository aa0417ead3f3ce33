//! `workload`: the built-in programs that make the kernel enter the mode.

use std::fmt::Write as _;

use anyhow::Result;

use crate::cli::{WorkloadArgs, WorkloadCommand};
use crate::session::Output;
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &WorkloadArgs) -> Result<ExitStatus> {
    match &args.command {
        WorkloadCommand::List => list(),
        WorkloadCommand::Run { names } => {
            names.iter().try_for_each(|name| run_one(name)).map(|()| ExitStatus::Clean)
        }
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
    Output::print(&text)?;
    Ok(ExitStatus::Clean)
}

fn run_one(name: &str) -> Result<()> {
    let outcome = lazymmu_workload::run(name).map_err(|error| {
        let status = match error {
            lazymmu_workload::Error::Unknown { .. } => ExitStatus::Usage,
            // What was to be seen did not happen: whoever traces it must not take the silence for a verdict.
            _ => ExitStatus::Inconclusive,
        };
        Failure::to(status, error)
    })?;
    Output::print(&format!("{name}: {}\n", outcome.summary))
}

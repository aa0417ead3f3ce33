//! `doctor`: says whether this kernel can be traced by this process, what would be seen, and what to do if not.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use lazymmu_inspect::plan::Plan;

use super::plan;
use crate::ExitStatus;
use crate::cli::{Cli, DoctorArgs, FigureFormat};
use crate::doctor::facts::Facts;
use crate::doctor::{document, table, verdict};
use crate::session::Output;

pub(super) fn run(args: &DoctorArgs) -> Result<ExitStatus> {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let made = plan_of(args)?;
    let mut facts = Facts::read(Path::new("/"), text(name.release()), text(name.machine()), made);
    facts.takes_plan = live_takes_plan();
    let verdict = verdict::judge(&facts);
    Output::print(&match args.report.format {
        FigureFormat::Human => table(&facts, &verdict),
        FigureFormat::Json => {
            let document = document(&facts, &verdict);
            serde_json::to_string_pretty(&document).context("failed to write the answer as JSON")? + "\n"
        }
    })?;
    Ok(verdict.status)
}

/// The plan that was named, which must be usable, or one that is made of what there is.
fn plan_of(args: &DoctorArgs) -> Result<Result<Plan, String>> {
    match (&args.plan, &args.vmlinux) {
        (Some(plan), image) => plan::checked(plan, image.as_deref()).map(Ok),
        (None, Some(image)) => plan::made_of(image, None, false).map(Ok),
        (None, None) => Ok(crate::probing::of_running_kernel().map_err(|error| format!("{error:#}"))),
    }
}

/// Whether `live` can use a plan at all.
fn live_takes_plan() -> bool {
    let cli = Cli::command();
    let live = cli.find_subcommand("live");
    live.is_some_and(|live| live.get_arguments().any(|argument| argument.get_id() == "plan"))
}

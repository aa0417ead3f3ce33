//! `plan`: makes a probe plan of a kernel image, or shows one that was made.

use std::path::Path;

use anyhow::{Context, Result};
use lazymmu_inspect::btf::{self, Btf};
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::image::Image;
use lazymmu_inspect::plan::Plan;

use crate::cli::{FigureFormat, PlanArgs};
use crate::session::Output;
use crate::{ExitStatus, Failure, probing};

pub(super) fn run(args: &PlanArgs) -> Result<ExitStatus> {
    let mut plan = match (&args.plan, &args.vmlinux) {
        (Some(plan), image) => checked(plan, image.as_deref())?,
        (None, Some(image)) => made_of(image, args.symbols.as_deref(), args.instructions)?,
        (None, None) => probing::of_running_kernel()?,
    };
    add_modules(&mut plan, args)?;
    if let Some(path) = &args.output {
        plan.save(path).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
    }
    Output::print(&match args.report.format {
        FigureFormat::Human => plan.table(),
        FigureFormat::Json => plan.to_json().context("failed to write the plan as JSON")?,
    })?;
    Ok(ExitStatus::Clean)
}

/// With the type information of the image, or else that of the kernel that runs, which the plan is of then.
fn add_modules(plan: &mut Plan, args: &PlanArgs) -> Result<()> {
    let usage = |error: &dyn std::fmt::Display| Failure::to(ExitStatus::Usage, error);
    for path in &args.module {
        let btf = match &args.vmlinux {
            Some(image) => Image::btf_of(image).map_err(|error| usage(&error))?,
            None => Some(Btf::from_file(btf::RUNNING_KERNEL).map_err(|error| usage(&error))?),
        };
        let why = "it needs the kernel's type information, and the image has none";
        let btf = btf.with_context(|| format!("failed to add the module {}: {why}", path.display()))?;
        let module = Image::open_module(path).map_err(|error| usage(&error))?;
        plan.add_module(&module, btf).map_err(|error| usage(&error))?;
    }
    Ok(())
}

pub(super) fn made_of(path: &Path, symbols: Option<&Path>, instructions: bool) -> Result<Plan> {
    let image = Image::open(path, symbols).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
    let plan = if instructions { Plan::of_instructions(&image) } else { Plan::of(&image) };
    Ok(plan.map_err(|error| Failure::to(ExitStatus::Usage, error))?)
}

/// A plan from a file, if it is of the kernel in question: that of the image, or else the one that runs here.
pub(super) fn checked(path: &Path, image: Option<&Path>) -> Result<Plan> {
    let plan = Plan::load(path).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
    let wanted = match image {
        Some(image) => {
            let found = Image::build_id_of(image).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
            found.with_context(|| format!("failed to check the plan: {} has no build id", image.display()))?
        }
        None => BuildId::of_running_kernel().map_err(|error| Failure::to(ExitStatus::CannotTrace, error))?,
    };
    plan.check_kernel(&wanted).map_err(|error| Failure::to(ExitStatus::CannotTrace, error))?;
    Ok(plan)
}

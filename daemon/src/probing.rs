//! Captures that follow a probe plan: which plan, and what is said of it on stderr.

use std::path::Path;

use anyhow::Result;
use lazymmu_abi::Op;
use lazymmu_inspect::btf::{self, Btf};
use lazymmu_inspect::build_id::BuildId;
use lazymmu_inspect::image::{Image, ImageError, RunningError};
use lazymmu_inspect::kallsyms::{Kallsyms, KallsymsError};
use lazymmu_inspect::plan::Plan;
use lazymmu_trace::{Refused, Sites};

use crate::cli::CaptureArgs;
use crate::{ExitStatus, Failure};

/// The plan that a capture on this machine is to follow: the one that is given, or for a kernel without the drop-in one
/// that is made of its image: the one that is given, or that which is found. `None` if the drop-in tells everything, or if
/// nothing is there to make a plan of.
pub(crate) fn plan(args: &CaptureArgs) -> Result<Option<Plan>> {
    let untraceable = |error: &dyn std::fmt::Display| Failure::to(ExitStatus::CannotTrace, error);
    let (plan, what) = match (&args.plan, &args.vmlinux) {
        (Some(path), _) => {
            (Plan::load(path).map_err(|error| Failure::to(ExitStatus::Usage, error))?, "use the plan")
        }
        // What is wrong with the kernel's own BTF is said by the capture.
        (None, Some(path)) if matches!(lazymmu_capture::has_drop_in(), Ok(false)) => {
            let image = Image::open(path, None).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
            let plan = Plan::of(&image).map_err(|error| Failure::to(ExitStatus::Usage, error))?;
            (plan, "make a plan")
        }
        // Without programs no plan is of use, which the capture says.
        (None, None)
            if lazymmu_capture::has_object() && matches!(lazymmu_capture::has_drop_in(), Ok(false)) =>
        {
            match of_running_kernel() {
                Ok(plan) => {
                    say_found(&plan);
                    (plan, "make a plan")
                }
                // The capture says what else can be done.
                Err(error) => {
                    eprintln!("lazymmu: no plan can be made of the running kernel: {error:#}");
                    return Ok(None);
                }
            }
        }
        (None, _) => return Ok(None),
    };
    let running = BuildId::of_running_kernel().map_err(|error| untraceable(&error))?;
    plan.check_kernel(&running).map_err(|error| untraceable(&error))?;
    if !plan.probes.iter().any(|probe| matches!(probe.op, Op::Enter | Op::ArchEnter)) {
        let why = format!(
            "failed to {what}: it does not tell where the lazy MMU mode is entered, which from 7.0 on takes debug \
             information; --vmlinux names an image that has it"
        );
        return Err(Failure::new(ExitStatus::CannotTrace, why).into());
    }
    if let Some(module) = &plan.kernel.module {
        let why = format!("failed to {what}: it is of the module {module}, not of the kernel");
        return Err(Failure::new(ExitStatus::Usage, why).into());
    }
    Ok(Some(plan))
}

/// A plan of the kernel that runs here, made of its image, which is looked for; in a Xen PV guest without one, of its symbols.
pub(crate) fn of_running_kernel() -> Result<Plan> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let image = Image::of_running_kernel(&release, Path::new("/"));
    if matches!(image, Err(RunningError::None { .. }))
        && lazymmu_capture::is_xen_pv_guest()
        && let Some(plan) = of_symbols(&release)?
    {
        return Ok(plan);
    }
    let image = image.map_err(|error| match &error {
        RunningError::Image(ImageError::Hidden(_)) => Failure::to(ExitStatus::NotPermitted, error),
        RunningError::BuildId(_) => Failure::to(ExitStatus::CannotTrace, error),
        _ => Failure::to(ExitStatus::Usage, error),
    })?;
    Ok(Plan::of(&image).map_err(|error| Failure::to(ExitStatus::Usage, error))?)
}

/// What the symbols of a Xen PV guest tell; `None` if that is too little.
fn of_symbols(release: &str) -> Result<Option<Plan>> {
    let untraceable = |error: &dyn std::fmt::Display| Failure::to(ExitStatus::CannotTrace, error);
    let symbols = Kallsyms::of_running_kernel().map_err(|error| match error {
        KallsymsError::Hidden(_) => Failure::to(ExitStatus::NotPermitted, error),
        error => untraceable(&error),
    })?;
    let btf = Btf::from_file(btf::RUNNING_KERNEL).map_err(|error| untraceable(&error))?;
    let id = BuildId::of_running_kernel().map_err(|error| untraceable(&error))?;
    let plan = Plan::of_symbols(&symbols, &btf, release.to_owned(), &id);
    Ok(plan.map_err(|error| untraceable(&error))?)
}

/// Nobody has asked for a plan, so it is said that there is one, and what it lacks.
fn say_found(plan: &Plan) {
    if plan.is_of_symbols() {
        eprintln!(
            "lazymmu: the kernel has not the drop-in, and no image of it was found: as a Xen PV guest it is traced by its \
             functions, which tell of sections and stores, and of no reads"
        );
        return;
    }
    eprintln!(
        "lazymmu: the kernel has not the drop-in: it is traced by its instructions, as its {} tells",
        plan.made_from.image
    );
    if !plan.made_from.debug_info {
        eprintln!(
            "lazymmu: that has no debug information, so few reads are known: --vmlinux names one that has"
        );
    }
}

/// One line that says how much of a plan can be seen, and one for each refusal that the plan did not foresee.
pub(crate) fn say_coverage(sites: &Sites) {
    let Sites { found, hooked, covered, unaddressed, .. } = sites;
    let (refused, unaddressed) = (sites.refused(), *unaddressed);
    eprintln!(
        "lazymmu: of {found} instructions of the plan {hooked} are probed, {covered} told by others, {refused} refused by \
         the kernel, {unaddressed} of unknown entries"
    );
    for Refused { why, count, functions, .. } in sites.refused.iter().filter(|refused| !refused.foreseen) {
        let functions = functions.join(", ");
        eprintln!("lazymmu: the kernel refused {count} that the plan did not foresee ({why}): {functions}");
    }
}

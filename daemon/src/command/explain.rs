//! `explain`: what a rule enforces and why.

use anyhow::Result;
use lazymmu_hazard::rules::RuleId;

use crate::cli::{Color, ExplainArgs};
use crate::session::Output;
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &ExplainArgs, color: Color) -> Result<ExitStatus> {
    let style = Output::style(color);
    let text = match (&args.rule, args.profile.as_deref()) {
        (_, Some("all")) => lazymmu_report::list_profiles(style),
        (_, Some(name)) => lazymmu_report::explain_profile(name, style).ok_or_else(|| {
            let names = lazymmu_report::profile_names().join(", ");
            let message = format!("failed to find a profile named {name}: there are {names}, and all");
            Failure::new(ExitStatus::Usage, message)
        })?,
        (None, None) => lazymmu_report::list_rules(style),
        (Some(name), None) => {
            let rule = RuleId::by_name(name);
            let rule = rule.ok_or_else(|| {
                Failure::new(
                    ExitStatus::Usage,
                    format!("failed to find a rule named {name}: `lazymmu explain` lists them"),
                )
            })?;
            lazymmu_report::explain(rule, style)
        }
    };
    Output::print(&text)?;
    Ok(ExitStatus::Clean)
}

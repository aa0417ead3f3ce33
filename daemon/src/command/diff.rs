//! `diff`: what changed from one trace or report to another.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use lazymmu_report::diff::{Diff, Side};

use super::report::{Detail, judge};
use crate::cli::{Color, DiffArgs, FigureFormat, SuppressArgs};
use crate::policy::Policy;
use crate::session::Output;
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &DiffArgs, color: Color) -> Result<ExitStatus> {
    let before = side(&args.before, &args.suppress)?;
    let after = side(&args.after, &args.suppress)?;
    let diff = Diff::new(&before, &after);
    Output::print(&match args.figures.format {
        FigureFormat::Human => diff.text(Output::style(color)),
        FigureFormat::Json => diff.json(),
    })?;
    Ok(if diff.is_worse() {
        ExitStatus::Hazards
    } else if before.is_complete() && after.is_complete() {
        ExitStatus::Clean
    } else {
        ExitStatus::Inconclusive
    })
}

/// A report as it is, or one of a trace.
fn side(path: &Path, suppress: &SuppressArgs) -> Result<Side> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Failure::to(ExitStatus::Usage, format!("read {name}: {error}"));
    let mut first = [0];
    let mut file = File::open(path).map_err(unreadable)?;
    let json = file.read(&mut first).map_err(unreadable)? == 1 && first == *b"{";
    let text = if json {
        std::fs::read_to_string(path).map_err(unreadable)?
    } else {
        judge(Some(path), Policy::new(None, suppress)?, Detail::All)?.report.json()
    };
    Ok(Side::parse(&name, &text).map_err(|error| Failure::to(ExitStatus::Usage, error))?)
}

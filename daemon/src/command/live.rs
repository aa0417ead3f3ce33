//! `live`: capture and report as it happens.

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing::{self, Purpose};
use crate::cli::{Color, LiveArgs};
use crate::policy::{self, Judge, Policy};
use crate::session::Output;

pub(super) fn run(args: &LiveArgs, color: Color) -> Result<ExitStatus> {
    let purpose = Purpose {
        trace: args.record.as_deref(),
        judge: true,
        outlives_trace: true,
        owns_stdout: true,
        serve: None,
    };
    let policy = Policy::new(policy::filter(&args.capture.filter, None)?, &args.suppress)?
        .with_baseline(&args.baseline)?;
    let ended = capturing::run(&args.capture, purpose, &policy)?;
    let judge = ended.judge.unwrap_or_else(|| Judge::new(&ended.header, policy.filter.as_ref()));
    let output = Output::new(args.report.format, color);
    let outcome = judge.finish(&ended.symbols);
    let verdict = output.report(&policy, &ended.header, &ended.symbols, outcome, None)?;
    Ok(if verdict == ExitStatus::Clean && ended.incomplete { ExitStatus::Inconclusive } else { verdict })
}

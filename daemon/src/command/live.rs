//! `live`: capture and report as it happens.

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing::{self, Purpose};
use crate::cli::{Color, LiveArgs};
use crate::session::{self, Output};

pub(super) fn run(args: &LiveArgs, color: Color) -> Result<ExitStatus> {
    let purpose =
        Purpose { trace: args.record.as_deref(), judge: true, outlives_trace: true, owns_stdout: true };
    let ended = capturing::run(&args.capture, purpose)?;
    let engine = ended.engine.unwrap_or_else(|| session::engine(&ended.header));
    let output = Output::new(args.report.format, color);
    let verdict = output.report(&ended.header, &ended.symbols, &engine.finish(), None)?;
    Ok(if verdict == ExitStatus::Clean && ended.incomplete { ExitStatus::Inconclusive } else { verdict })
}

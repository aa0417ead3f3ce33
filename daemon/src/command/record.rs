//! `record`: capture to a file.

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing::{self, Purpose};
use crate::cli::RecordArgs;

pub(super) fn run(args: &RecordArgs) -> Result<ExitStatus> {
    let purpose =
        Purpose { trace: Some(&args.output), judge: false, outlives_trace: false, owns_stdout: false };
    let ended = capturing::run(&args.capture, purpose)?;
    Ok(if ended.incomplete { ExitStatus::Inconclusive } else { ExitStatus::Clean })
}

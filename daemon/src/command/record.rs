//! `record`: capture to a file.

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing::{self, Purpose};
use crate::cli::{RecordArgs, SuppressArgs};
use crate::policy::{self, Policy};

pub(super) fn run(args: &RecordArgs) -> Result<ExitStatus> {
    let purpose =
        Purpose { trace: Some(&args.output), judge: false, outlives_trace: false, owns_stdout: false };
    let policy = Policy::new(policy::filter(&args.capture.filter, None)?, &SuppressArgs::default())?;
    let ended = capturing::run(&args.capture, purpose, &policy)?;
    Ok(if ended.incomplete { ExitStatus::Inconclusive } else { ExitStatus::Clean })
}

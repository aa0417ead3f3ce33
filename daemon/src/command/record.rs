//! `record`: capture to a file.

use std::path::Path;

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing;
use crate::cli::{RecordArgs, SuppressArgs};
use crate::policy::{self, Policy};
use crate::purpose::{Audience, CommandOutput, Purpose};

/// As a file to be opened.
const STDOUT: &str = "/proc/self/fd/1";

pub(super) fn run(args: &RecordArgs) -> Result<ExitStatus> {
    let to_stdout = args.output == Path::new("-");
    let trace = if to_stdout { Path::new(STDOUT) } else { &args.output };
    let purpose = Purpose {
        trace: Some(trace),
        judge: false,
        outlives_trace: false,
        output: if to_stdout { CommandOutput::Stderr } else { CommandOutput::Ours },
        audience: Audience::Nobody,
    };
    let policy = Policy::new(policy::filter(&args.capture.filter, None)?, &SuppressArgs::default())?;
    let ended = capturing::run(&args.capture, purpose, &policy)?;
    Ok(if ended.incomplete { ExitStatus::Inconclusive } else { ExitStatus::Clean })
}

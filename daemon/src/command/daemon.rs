//! `daemon`: capture, and serve clients what is found.

use anyhow::Result;

use crate::ExitStatus;
use crate::capturing;
use crate::cli::DaemonArgs;
use crate::policy::{self, Policy};
use crate::purpose::{Audience, CommandOutput, Purpose};
use crate::serving::Socket;

pub(super) fn run(args: &DaemonArgs) -> Result<ExitStatus> {
    let policy = Policy::new(policy::filter(&args.capture.filter, None)?, &args.suppress)?;
    // Before anything is attached: who cannot serve shall not capture.
    let socket = Socket::bind(&args.socket, args.group.as_deref())?;
    let purpose = Purpose {
        trace: args.record.as_deref(),
        judge: true,
        outlives_trace: true,
        output: CommandOutput::Ours,
        audience: Audience::Clients(&socket),
    };
    let ended = capturing::run(&args.capture, purpose, &policy)?;
    if let (Some(judge), Some((feed, serving))) = (ended.judge, ended.serving) {
        feed.finish(judge.finish(&ended.symbols));
        serving.join();
    }
    // What was found is the clients' matter; to end in order is all that a daemon can do well.
    Ok(ExitStatus::Clean)
}

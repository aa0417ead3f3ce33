//! `ask`: a client for scripts. Prints what the daemon says.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use lazymmu_protocol::{Client, Error, Message, Request, Wanted};

use crate::cli::{AskArgs, Asked};
use crate::{ExitStatus, Failure};

pub(super) fn run(args: &AskArgs) -> Result<ExitStatus> {
    let failed = |error: Error| Failure::to(ExitStatus::Usage, error);
    let mut client = Client::connect(&args.socket).map_err(failed)?;
    client.set_patience(args.patience).map_err(failed)?;
    let wanted = |id: &String| Wanted { id: id.clone() };
    let request = match &args.request {
        Asked::Subscribe => Request::Subscribe {},
        Asked::Snapshot => Request::Snapshot {},
        Asked::Status => Request::Status {},
        Asked::Finding { id } => Request::Finding(wanted(id)),
        Asked::Timeline { id } => Request::Timeline(wanted(id)),
        Asked::Metrics => Request::Metrics {},
    };
    client.send(&request).map_err(failed)?;
    while let Some(message) = client.next().map_err(failed)? {
        let goes_on = match message {
            Message::Error(refusal) => return Err(failed(Error::Refused(refusal)).into()),
            Message::Metrics(metrics) => say(&metrics.text)?,
            ref message => say(&message.line())?,
        };
        if !goes_on || !matches!(request, Request::Subscribe {}) {
            break;
        }
    }
    Ok(ExitStatus::Clean)
}

/// Prints. Returns whether the reader is still there.
fn say(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.context("failed to write to stdout").map(|()| true),
    }
}

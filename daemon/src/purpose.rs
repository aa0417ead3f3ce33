//! What a session that captures is for: what is made of the records, where the command's output goes, who looks on.

use std::path::Path;

use tokio::sync::Notify;

use crate::serving::Socket;

/// What a session is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose<'a> {
    /// The trace file to write.
    pub(crate) trace: Option<&'a Path>,
    /// Whether an engine judges what comes in.
    pub(crate) judge: bool,
    /// Whether the session goes on when the trace file can no longer be written.
    pub(crate) outlives_trace: bool,
    /// Where the command's output goes.
    pub(crate) output: CommandOutput,
    /// Who is served.
    pub(crate) audience: Audience<'a>,
}

/// Where the output of the command goes, and whether it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOutput {
    /// Where ours goes.
    Ours,
    /// To stderr, since stdout is ours alone.
    Stderr,
    /// To stderr, and it may not read, since the terminal is ours alone.
    StderrOnly,
    /// Nowhere, and it may not read, since the terminal is ours alone.
    Nowhere,
}

/// Who is served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Audience<'a> {
    /// Nobody.
    Nobody,
    /// Clients of a daemon. All privileges are given up that are needed no more.
    Clients(&'a Socket),
    /// A view inside this process, until the user leaves it.
    View(&'a Socket, &'a Notify),
}

impl<'a> Audience<'a> {
    /// Where it is served.
    pub(crate) fn socket(self) -> Option<&'a Socket> {
        match self {
            Self::Nobody => None,
            Self::Clients(socket) | Self::View(socket, _) => Some(socket),
        }
    }

    /// Whether these are other processes.
    pub(crate) fn is_outside(self) -> bool {
        matches!(self, Self::Clients(_))
    }

    /// When the user leaves; never, where there is no view.
    pub(crate) async fn left(self) {
        match self {
            Self::View(_, left) => left.notified().await,
            Self::Nobody | Self::Clients(_) => std::future::pending().await,
        }
    }
}

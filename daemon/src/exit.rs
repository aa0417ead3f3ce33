//! The exit status of every command: a public contract that scripts and CI rely on.

use std::process::ExitCode;

/// What a finished command tells its caller. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// The command did its work; where it judges, nothing was found and nothing was missed.
    Clean = 0,
    /// At least one hazard was found.
    Hazards = 1,
    /// The command line or an input file cannot be used: unknown option, foreign or unreadable trace.
    Usage = 2,
    /// Nothing was found, but something was not seen: records lost, a damaged trace, a workload that failed.
    Inconclusive = 3,
    /// This kernel cannot be traced: no BTF, no tracepoints of the drop-in, an eBPF feature missing; or this
    /// build of lazymmu holds no eBPF programs. Of a workload: the kernel or the machine lacks what it needs.
    CannotTrace = 4,
    /// The privilege to trace is missing.
    NotPermitted = 5,
    /// A fault in lazymmu itself.
    Bug = 70,
    /// `gate --bisect` only: this kernel could not be judged.
    Skip = 125,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status as u8)
    }
}

/// An error that knows the exit status that it calls for. Where the chain of an error holds none, the status is
/// [`ExitStatus::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The status that the process ends with.
    pub status: ExitStatus,
    message: String,
}

impl Failure {
    /// What a library could not do. The texts of their errors fit after "failed to".
    pub fn to(status: ExitStatus, error: impl std::fmt::Display) -> Self {
        Self::new(status, format!("failed to {error}"))
    }

    /// An error with a status and a message that says what to do.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

//! `daemon` and `ask`: what they take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CaptureArgs, SuppressArgs, parse_seconds};

/// `daemon`
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The socket to listen at. One that a killed daemon left is replaced.
    #[arg(long, value_name = "PATH", default_value = lazymmu_protocol::SOCKET)]
    pub socket: PathBuf,

    /// The group whose members may connect, besides root; the one that the daemon runs as, if it is left out.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Write the trace to this file as well.
    #[arg(long, value_name = "TRACE")]
    pub record: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub suppress: SuppressArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub capture: CaptureArgs,
}

/// `ask`
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Where the daemon listens.
    #[arg(long, value_name = "PATH", default_value = lazymmu_protocol::SOCKET, global = true)]
    pub socket: PathBuf,

    /// Give up after this many seconds. Without it, an answer is waited for as long as it takes.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, global = true)]
    pub patience: Option<Duration>,

    /// What to ask for.
    #[command(subcommand)]
    pub request: Asked,
}

/// `ask ...`
#[derive(Clone, Debug, Subcommand)]
pub enum Asked {
    /// Everything now, and from then on every change, until the capture ends.
    Subscribe,
    /// Everything now.
    Snapshot,
    /// How the capture is doing.
    Status,
    /// All about one finding.
    Finding {
        /// Its id.
        id: String,
    },
    /// The course of the section of one finding.
    Timeline {
        /// Its id.
        id: String,
    },
    /// Metrics in the text form of OpenMetrics.
    Metrics,
}

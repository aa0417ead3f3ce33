//! The commands, one file each.

mod ask;
mod daemon;
mod diff;
mod doctor;
mod explain;
mod gate;
mod live;
mod plan;
mod record;
mod replay;
mod report;
mod stats;
mod tui;
mod what_if;
mod workload;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::{ExitStatus, Failure};

/// Does what the command line asks for.
pub fn run(cli: &Cli) -> Result<ExitStatus> {
    match &cli.command {
        Command::Record(args) => record::run(args),
        Command::Live(args) => live::run(args, cli.color),
        Command::Daemon(args) => daemon::run(args),
        Command::Ask(args) => ask::run(args),
        Command::Replay(args) => replay::run(args, cli.color),
        Command::Gate(args) => gate::run(args, cli.color),
        Command::Diff(args) => diff::run(args, cli.color),
        Command::Report(args) => report::run(args, cli.color),
        Command::Workload(args) => workload::run(args),
        Command::WhatIf(args) => what_if::run(args, cli.color),
        Command::Tui(args) => tui::run(args, cli.color),
        Command::Stats(args) => stats::run(args, cli.color),
        Command::Plan(args) => plan::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Explain(args) => explain::run(args, cli.color),
    }
}

/// The exit status that an error calls for.
pub fn status_of(error: &anyhow::Error) -> ExitStatus {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>())
        .map_or(ExitStatus::Usage, |failure| failure.status)
}

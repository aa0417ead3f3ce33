//! Kernels with the drop-in.

use anyhow::Result;

/// Build kernels with the drop-in, or put it into a tree.
#[derive(clap::Subcommand)]
pub(crate) enum Command {}

/// Runs a subcommand.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {}
}

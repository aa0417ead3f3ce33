//! `cargo xtask vm`.

use anyhow::{Result, bail};

/// What `cargo xtask vm` takes.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args) -> Result<std::process::ExitCode> {
    bail!("failed to run vm: this version has none yet")
}

//! `cargo xtask bench`.

use anyhow::{Result, bail};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args) -> Result<std::process::ExitCode> {
    bail!("failed to run bench: this version has none yet")
}

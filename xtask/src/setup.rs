//! `cargo xtask setup`.

use anyhow::{Result, bail};

/// What `cargo xtask setup` takes.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args) -> Result<()> {
    bail!("failed to run setup: this version has none yet")
}

//! `cargo xtask corpus`: the scenarios of `hazard/corpus/` as a table. What judges is an example of `lazymmu-report`, so
//! that this crate does not depend on the product.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::sh;

/// Runs it, and exits as it does.
pub(crate) fn run() -> Result<ExitCode> {
    let mut cargo = sh::cargo();
    cargo.args(["run", "--quiet", "-p", "lazymmu-report", "--example", "corpus"]).stdin(Stdio::null());
    let status = cargo.status().with_context(|| format!("failed to start `{}`", sh::shown(&cargo)))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

//! `cargo xtask bench NAME`: a bench of `tests/benches/`, built for speed and run in the open.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::{paths, sh};

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bench: the name of a file in tests/benches without its ending; without it, they are listed
    name: Option<String>,
    /// What is passed on to it
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs it, and exits as it does.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let names = names()?;
    let Some(name) = &args.name else {
        for name in names {
            println!("{name}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !names.contains(name) {
        bail!("there is no bench {name}; there are: {}", names.join(", "));
    }
    let mut cargo = sh::cargo();
    cargo.args(["bench", "--quiet", "-p", "lazymmu-tests", "--bench", name]);
    // Cargo passes an argument of its own to benches; only what follows is ours.
    cargo.arg("--").args(&args.rest).stdin(Stdio::null());
    let status = cargo.status().with_context(|| format!("failed to start `{}`", sh::shown(&cargo)))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn names() -> Result<Vec<String>> {
    let directory: PathBuf = paths::root().join("tests/benches");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("failed to list the benches in {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

//! The binary as a user builds it, and what it says.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::report::Report;

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// The report on its standard output.
    pub fn report(&self) -> Result<Report, String> {
        Report::parse(&self.stdout).map_err(|error| format!("{error}\n{}", self.stderr))
    }
}

/// Runs `lazymmu` with these arguments. It is built first, if its sources have changed.
pub fn lazymmu<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> io::Result<Said> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(build).as_ref().map_err(|why| io::Error::other(why.clone()))?;
    run(Command::new(binary).args(arguments))
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> io::Result<Said> {
    let output = command.stdin(Stdio::null()).output()?;
    Ok(Said {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Cargo tells a test only of the binaries of its own package, so it is asked to build this one: with the features
/// that the whole workspace gives it, which is how it was built for the other tests.
fn build() -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--workspace", "--bin", "lazymmu"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // This test lies in deps/ below the directory of the profile.
    let test = env::current_exe().map_err(|error| error.to_string())?;
    let profile = test.ancestors().nth(2).ok_or("the test's own path has no directory")?;
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let said = run(&mut build).map_err(|error| format!("failed to start cargo: {error}"))?;
    if said.code != Some(0) {
        return Err(format!("failed to build lazymmu: {}", said.stderr));
    }
    Ok(profile.join("lazymmu"))
}

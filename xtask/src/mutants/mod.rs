//! `cargo xtask mutants`: breaks the rules and the profile tables on purpose, one place at a time, and asks the tests of
//! the engine whether they notice.
//!
//! Works on a copy of `hazard/` and `probe-abi/` under the target directory, so the checkout is never touched. Each mutant
//! is compiled and tested by itself, which takes minutes in all: this is not part of `cargo xtask test`.

mod places;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{paths, sh};
use places::Mutant;

/// What `cargo xtask mutants` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only mutants whose line in the list has this in it
    only: Option<String>,
    /// List them, and test none
    #[arg(long)]
    list: bool,
}

/// How a mutant ended.
enum End {
    /// These tests failed.
    Caught(Vec<String>),
    Missed,
    /// It is no program.
    NotBuilt,
}

/// Tests each mutant. Fails if one is missed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mutants: Vec<Mutant> = places::all(paths::root())?
        .into_iter()
        .filter(|mutant| args.only.as_ref().is_none_or(|only| mutant.to_string().contains(only.as_str())))
        .collect();
    if args.list {
        for mutant in &mutants {
            println!("{mutant}");
        }
        println!("{} mutants", mutants.len());
        return Ok(ExitCode::SUCCESS);
    }
    let copy = Copy::make()?;
    if !matches!(copy.test()?, End::Missed) {
        bail!("failed to test the engine as it is: mend `cargo test -p lazymmu-hazard` first");
    }
    let start = Instant::now();
    let [mut caught, mut by_programs, mut missed, mut not_built] = [0; 4];
    for mutant in &mutants {
        let path = copy.directory.join(&mutant.file);
        let original = read(&path)?;
        write(&path, &mutant.applied_to(&original))?;
        let end = copy.test();
        write(&path, &original)?;
        let word = match end? {
            End::Caught(tests) => {
                caught += 1;
                by_programs += usize::from(tests.iter().any(|test| test == ORACLE));
                let more =
                    if tests.len() > 3 { format!(" and {} more", tests.len() - 3) } else { String::new() };
                format!("caught by {}{more}", tests[..tests.len().min(3)].join(", "))
            }
            End::Missed => {
                missed += 1;
                "MISSED".to_owned()
            }
            End::NotBuilt => {
                not_built += 1;
                "does not build".to_owned()
            }
        };
        println!("{mutant}: {word}");
    }
    println!(
        "\n{} mutants in {} s: {caught} caught ({by_programs} of them by random programs on the simulated machine), \
         {missed} missed, {not_built} that do not build",
        mutants.len(),
        start.elapsed().as_secs()
    );
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The test that runs random programs.
const ORACLE: &str = "the_engine_says_what_the_hardware_does";

/// A copy of the two crates, in a workspace of its own.
struct Copy {
    directory: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let base = paths::target().join("mutants");
        let directory = base.join("source");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("failed to remove the old copy in {}", directory.display()))?;
        }
        for folder in ["hazard", "probe-abi"] {
            copy(&paths::root().join(folder), &directory.join(folder))?;
        }
        let mut manifest: toml::Table = read(&paths::root().join("Cargo.toml"))?
            .parse()
            .context("failed to understand the Cargo.toml of the workspace")?;
        let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
        let workspace = workspace.context("failed to find the workspace in Cargo.toml")?;
        workspace.remove("default-members");
        workspace.remove("exclude");
        workspace.insert("members".into(), toml::Value::from(vec!["hazard", "probe-abi"]));
        // Settings for packages that are not here are only warned of.
        write(&directory.join("Cargo.toml"), &manifest.to_string())?;
        std::fs::copy(paths::root().join("Cargo.lock"), directory.join("Cargo.lock"))
            .context("failed to copy Cargo.lock")?;
        Ok(Self { directory, target: base.join("target") })
    }

    /// Runs the tests of the engine.
    fn test(&self) -> Result<End> {
        let mut cargo = sh::cargo();
        cargo.current_dir(&self.directory).env("CARGO_TARGET_DIR", &self.target).env("RUST_BACKTRACE", "0");
        cargo.args(["test", "--offline", "-p", "lazymmu-hazard", "--lib", "--tests", "--no-fail-fast"]);
        let (success, text) = quietly(&mut cargo)?;
        if success {
            return Ok(End::Missed);
        }
        let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let mut failed: Vec<String> = failed.map(str::to_owned).collect();
        // That of the programs first: it says most.
        failed.sort_by_key(|test| (test != ORACLE, test.clone()));
        failed.dedup();
        Ok(if failed.is_empty() { End::NotBuilt } else { End::Caught(failed) })
    }
}

fn quietly(command: &mut Command) -> Result<(bool, String)> {
    let output = command.output().with_context(|| format!("failed to start `{}`", sh::shown(command)))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    let entries = std::fs::read_dir(from).with_context(|| format!("failed to list {}", from.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("failed to list {}", from.display()))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            std::fs::copy(&path, to.join(name))
                .with_context(|| format!("failed to copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

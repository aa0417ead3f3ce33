//! A copy of the crates that judge, with every break in it, built once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::places::{self, Mutant};
use crate::{paths, sh};

/// What the scenarios of the corpus need to be judged.
const CRATES: [&str; 4] = ["probe-abi", "hazard", "trace", "report"];
/// Stands in the copy for what knows which break is on.
const INSERTED: &str = include_str!("inserted/mutant.rs");

/// The copy.
pub(super) struct Copy {
    directory: PathBuf,
    target: PathBuf,
    /// Of everything that is in it.
    pub(super) key: String,
    /// The breaks of conditions and statements; those of the tables are told by what was built.
    pub(super) mutants: Vec<Mutant>,
}

impl Copy {
    pub(super) fn make() -> Result<Self> {
        let base = paths::target().join("mutants");
        let directory = base.join("source");
        let mut copy =
            Self { directory, target: base.join("target"), key: String::new(), mutants: Vec::new() };
        let mut files = Vec::new();
        for folder in CRATES {
            list(&paths::root().join(folder), &mut files)?;
        }
        let mut hash = Sha256::new();
        let mut next = 1;
        let mut kept = Vec::new();
        for path in files {
            let relative =
                path.strip_prefix(paths::root()).context("a file of the checkout is outside of it")?;
            let name = relative.to_string_lossy().into_owned();
            let mut bytes = std::fs::read(&path).with_context(|| format!("failed to read {name}"))?;
            hash.update(name.as_bytes());
            hash.update(&bytes);
            let is_code = relative.extension().is_some_and(|extension| extension == "rs");
            if name.starts_with("hazard/src/") && is_code && !name.ends_with("tests.rs") {
                let text = String::from_utf8(bytes).with_context(|| format!("{name} is no text"))?;
                let text = prepared(&name, text)?;
                let broken = places::breaks(&name, &text, &mut next)?;
                copy.mutants.extend(broken.mutants);
                bytes = broken.text.into_bytes();
            }
            if name == "hazard/tests/oracle/runner.rs" {
                bytes = prepared(&name, String::from_utf8_lossy(&bytes).into_owned())?.into_bytes();
            }
            kept.push(copy.put(relative, &bytes)?);
        }
        kept.push(copy.put(Path::new("hazard/src/mutant.rs"), INSERTED.as_bytes())?);
        kept.push(copy.put(Path::new("Cargo.toml"), manifest()?.as_bytes())?);
        let lock = std::fs::read(paths::root().join("Cargo.lock")).context("failed to read Cargo.lock")?;
        copy.put(Path::new("Cargo.lock"), &lock)?;
        kept.push(copy.directory.join("Cargo.lock"));
        remove_others(&copy.directory, &kept)?;
        hash.update(INSERTED);
        hash.update(include_str!("places.rs"));
        copy.key = format!("{:x}", hash.finalize());
        Ok(copy)
    }

    /// Writes a file if it is not so already, so that cargo builds nothing for nothing.
    fn put(&self, relative: &Path, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.directory.join(relative);
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(path);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("failed to make {}", parent.display()))?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// Builds the tests, and returns them: those of the engine, and the corpus.
    pub(super) fn build(&self) -> Result<Vec<PathBuf>> {
        let mut tests = self.built(&["-p", "lazymmu-hazard", "--lib", "--tests"])?;
        tests.extend(self.built(&["-p", "lazymmu-report", "--test", "corpus"])?);
        Ok(tests)
    }

    fn built(&self, what: &[&str]) -> Result<Vec<PathBuf>> {
        let mut cargo = Command::new("nice");
        cargo
            .args(["-n", "10"])
            .arg(sh::cargo().get_program())
            .args(["test", "--no-run", "--offline"])
            .args(what);
        cargo.current_dir(&self.directory).stdin(Stdio::null());
        cargo
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTFLAGS", "--cap-lints allow")
            .env("CARGO_INCREMENTAL", "0");
        let output = cargo.output().with_context(|| format!("failed to start `{}`", sh::shown(&cargo)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("failed to build the copy with every break in it:\n{said}");
        }
        let executables =
            said.lines().filter_map(|line| line.trim().strip_prefix("Executable ")?.rsplit_once('('));
        let found: Vec<_> =
            executables.map(|(_, path)| self.directory.join(path.trim_end_matches(')'))).collect();
        if found.is_empty() {
            bail!("failed to find the tests that cargo built: it said\n{said}");
        }
        Ok(found)
    }

    /// Where the tests of a crate run.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.join("hazard")
    }
}

/// The text before the breaks: something has to stand for the tables and for what is inserted, and there are fewer random
/// programs.
fn prepared(name: &str, text: String) -> Result<String> {
    let replace = |from: &str, to: &str| {
        if text.matches(from).count() != 1 {
            bail!("failed to find `{from}` in {name}: the tables are written in another way now");
        }
        Ok(text.replacen(from, to, 1))
    };
    match name {
        "hazard/src/lib.rs" => replace("mod class;", "mod class;\nmod mutant;"),
        "hazard/src/profile/mod.rs" => {
            replace("pub use table::PROFILES;", "pub use table::PROFILES;\npub(crate) use table::ORIGINAL;")
        }
        "hazard/src/profile/table.rs" => replace(
            "pub static PROFILES:",
            "pub static PROFILES: crate::mutant::Table = crate::mutant::Table;\npub(crate) static ORIGINAL:",
        ),
        // What a tenth of them does not notice, the others seldom do.
        "hazard/tests/oracle/runner.rs" => replace("IN_TESTS: u64 = 100_000", "IN_TESTS: u64 = 10_000"),
        _ => Ok(text),
    }
}

/// The workspace's, with fewer members.
fn manifest() -> Result<String> {
    let text =
        std::fs::read_to_string(paths::root().join("Cargo.toml")).context("failed to read Cargo.toml")?;
    let mut manifest: toml::Table =
        text.parse().context("failed to understand the Cargo.toml of the workspace")?;
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.context("failed to find the workspace in Cargo.toml")?;
    workspace.remove("default-members");
    workspace.remove("exclude");
    workspace.insert("members".into(), toml::Value::from(CRATES.to_vec()));
    // Built often and run briefly.
    let profile = "opt-level = 1\ndebug = false".parse().map(toml::Value::Table);
    let packages = ["profile", "dev", "package"]
        .iter()
        .try_fold(&mut manifest, |table, key| table.get_mut(*key).and_then(toml::Value::as_table_mut));
    let packages = packages.context("failed to find the profiles in Cargo.toml")?;
    packages.insert("lazymmu-hazard".into(), profile.context("failed to write a profile")?);
    Ok(manifest.to_string())
}

/// The files below, in a fixed order, but for what is no part of a build.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.with_context(|| format!("failed to list {}", directory.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if !path.is_dir() {
            files.push(path);
        } else if !path.ends_with("trace/fuzz") && !path.ends_with("target") {
            list(&path, files)?;
        }
    }
    Ok(())
}

/// Removes what an older copy had.
fn remove_others(directory: &Path, kept: &[PathBuf]) -> Result<()> {
    let mut files = Vec::new();
    list(directory, &mut files)?;
    for path in files.iter().filter(|path| !kept.contains(path)) {
        std::fs::remove_file(path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

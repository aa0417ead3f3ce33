//! `cargo xtask fuzz`: the programs of `tests/fuzz`, built with the fuzzer's instrumentation and run for some minutes.
//!
//! The compiler is the one that builds everything else: the instrumentation alone needs no nightly. It knows nothing of
//! what is fuzzed; that is in `tests/fuzz/targets`. What a run finds goes to `tests/fuzz/work`, which git leaves alone;
//! `--keep` takes into the corpus what reaches code that nothing there reaches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{paths, sh};

/// The cargo-fuzz that this version of lazymmu is tried with.
const CARGO_FUZZ: &str = "0.13.2";
/// A reader that takes more memory than this has a bug: no input is larger than a mebibyte.
const MEMORY_MIB: u32 = 512;
/// An input that takes longer is a finding.
const SECONDS_EACH: u32 = 10;
/// Larger files are left out of the corpus, and more of them.
const KEEP_BYTES: usize = 4096;
const KEEP_FILES: usize = 64;

/// What `cargo xtask fuzz` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to fuzz, as files in tests/fuzz/targets are named; all, one after the other, if it is left out
    target: Option<String>,
    /// How long, for each
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Watch memory with this sanitizer; the code is safe Rust, and without one more inputs are tried in the same time
    #[arg(long, value_enum, default_value_t = Sanitizer::None)]
    sanitizer: Sanitizer,
    /// Afterwards, take into the corpus what reaches code that nothing there reaches; with --seconds 0, do only that
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sanitizer {
    None,
    Address,
}

/// Fuzzes. Fails if anything was found.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let all = targets()?;
    let chosen = match &args.target {
        None => all,
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("there is no fuzz target {name}; there are: {}", all.join(", ")),
    };
    let fuzz = CargoFuzz::find_or_install()?;
    let mut found = 0;
    for target in &chosen {
        let program = fuzz.build(target, args.sanitizer)?;
        if args.seconds > 0 {
            found += usize::from(!program.run(args.seconds)?);
        }
        if args.keep {
            program.keep()?;
        }
    }
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn directory() -> PathBuf {
    paths::root().join("tests/fuzz")
}

/// The targets, by their files.
fn targets() -> Result<Vec<String>> {
    let directory = directory().join("fuzz_targets");
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("failed to list the fuzz targets in {}", directory.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// The cargo command that knows how a program is instrumented.
struct CargoFuzz {
    program: PathBuf,
}

impl CargoFuzz {
    /// One in the path, or one in the cache, which is built if it is not there.
    fn find_or_install() -> Result<Self> {
        let root = paths::cache()?.join("cargo-fuzz").join(CARGO_FUZZ);
        let installed = root.join("bin/cargo-fuzz");
        for program in [PathBuf::from("cargo-fuzz"), installed.clone()] {
            let version = Command::new(&program).arg("--version").stderr(Stdio::null()).output();
            if version.is_ok_and(|said| said.status.success()) {
                return Ok(Self { program });
            }
        }
        eprintln!("fuzz: installing cargo-fuzz {CARGO_FUZZ} from crates.io into {}", root.display());
        let mut install = sh::cargo();
        install.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]).arg(&root);
        sh::run(&mut install).context("failed to install cargo-fuzz")?;
        Ok(Self { program: installed })
    }

    fn build(&self, target: &str, sanitizer: Sanitizer) -> Result<Program> {
        let sanitizer = match sanitizer {
            Sanitizer::None => "none",
            Sanitizer::Address => "address",
        };
        let output = paths::target().join("fuzz").join(sanitizer);
        let mut build = Command::new(&self.program);
        build.args(["build", "--sanitizer", sanitizer, "--fuzz-dir"]).arg(directory());
        build.arg("--target-dir").arg(&output).arg(target).current_dir(directory()).stdin(Stdio::null());
        // A sanitizer is an unstable option of the compiler, which a stable one takes with this.
        build.env("RUSTC_BOOTSTRAP", "1");
        sh::run(&mut build).with_context(|| format!("failed to build the fuzz target {target}"))?;
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Ok(Program { target: target.to_owned(), path: output.join(host).join("release").join(target) })
    }
}

/// A target that is built.
struct Program {
    target: String,
    path: PathBuf,
}

impl Program {
    fn corpus(&self) -> PathBuf {
        directory().join("corpus").join(&self.target)
    }

    /// What a run begins with: the corpus, and what the project has of such files anyway.
    fn seeds(&self) -> Vec<PathBuf> {
        let mut seeds = vec![self.corpus()];
        if self.target == "scenario" {
            seeds.push(paths::root().join("hazard/corpus"));
        }
        seeds
    }

    /// What was found so far and is not in the corpus.
    fn work(&self) -> PathBuf {
        directory().join("work").join(&self.target)
    }

    /// With the limits, at the lowest priority that still gets somewhere: there are others on the machine.
    fn command(&self) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "15"]).arg(&self.path).current_dir(directory()).stdin(Stdio::null());
        command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={SECONDS_EACH}"));
        command
    }

    /// Returns whether nothing was found.
    fn run(&self, seconds: u32) -> Result<bool> {
        let artifacts = directory().join("artifacts").join(&self.target);
        for directory in [&self.work(), &artifacts] {
            fs::create_dir_all(directory)
                .with_context(|| format!("failed to make {}", directory.display()))?;
        }
        let mut command = self.command();
        command.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-verbosity=1"]);
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        let dictionary = directory().join("dictionaries").join(&self.target).with_extension("dict");
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.arg(self.work()).args(self.seeds());
        let (status, lines) = sh::run_and_read(&mut command)?;
        println!("{}: {}", self.target, Figures::read(&lines));
        if !status.success() {
            println!(
                "{}: FOUND, see above; the input is in {}. Copy it into {} under a name that says what it is, and mend \
                 what it shows.",
                self.target,
                artifacts.display(),
                self.corpus().display()
            );
        }
        Ok(status.success())
    }

    /// Merges what was found into the corpus: by the code that it reaches, not by how often.
    fn keep(&self) -> Result<()> {
        let new = directory().join("work").join(format!("{}.kept", self.target));
        if new.exists() {
            fs::remove_dir_all(&new).with_context(|| format!("failed to remove {}", new.display()))?;
        }
        fs::create_dir_all(&new).with_context(|| format!("failed to make {}", new.display()))?;
        let mut command = self.command();
        command.args(["-merge=1", "-use_counters=0", "-use_cmp=0", "-use_value_profile=0"]);
        command.arg(format!("-max_len={KEEP_BYTES}")).arg(&new).arg(self.corpus()).arg(self.work());
        let (status, _) = sh::run_and_read(&mut command)?;
        ensure!(status.success(), "failed to merge the corpus of {}: {status}", self.target);
        let before = files(&self.corpus())?;
        let mut known = BTreeSet::new();
        for path in &before {
            known.insert(read(path)?);
        }
        let mut fresh = Vec::new();
        for path in files(&new)? {
            let bytes = read(&path)?;
            if !known.contains(&bytes) && bytes.len() <= KEEP_BYTES {
                fresh.push((path, bytes));
            }
        }
        // Small and large ones alike: the small ones are mostly refused at once.
        let room = KEEP_FILES.saturating_sub(before.len());
        let step = fresh.len().div_ceil(room.max(1)).max(1);
        let mut kept = 0;
        for (path, bytes) in fresh.into_iter().step_by(step).take(room) {
            // Twelve digits of the hash that the fuzzer names it by tell them apart.
            let name = path.file_name().and_then(|name| name.to_str()?.get(..12));
            let kept_as = self.corpus().join(name.context("the fuzzer names files by hashes")?);
            fs::write(&kept_as, bytes).with_context(|| format!("failed to write {}", kept_as.display()))?;
            kept += 1;
        }
        println!("{}: {} files in the corpus, {kept} of them new", self.target, before.len() + kept);
        Ok(())
    }
}

/// The files of a directory, smallest first.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("failed to list {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        files.push((entry.metadata().with_context(failed)?.len(), entry.path()));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

/// What the fuzzer says of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: Option<u64>,
    edges: Option<u64>,
    features: Option<u64>,
    seconds: Option<u64>,
    memory_mib: Option<u64>,
}

impl Figures {
    /// From its status lines, `#42 NEW cov: 7 ft: 9 ...`, and the statistics at its end.
    fn read(lines: &[String]) -> Self {
        let after = |line: &str, word: &str| {
            let rest = line.split_once(word)?.1.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let last = |word: &str| lines.iter().rev().find_map(|line| after(line, word));
        Self {
            executions: last("stat::number_of_executed_units:"),
            edges: last(" cov: "),
            features: last(" ft: "),
            seconds: lines.iter().rev().find_map(|line| {
                after(line.split_once(" runs in ")?.1, "").filter(|_| line.starts_with("Done"))
            }),
            memory_mib: last("stat::peak_rss_mb:"),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |figure: Option<u64>| figure.map_or_else(|| "?".to_owned(), |figure| figure.to_string());
        write!(
            f,
            "{} executions in {} s, {} edges, {} features, at most {} MiB",
            shown(self.executions),
            shown(self.seconds),
            shown(self.edges),
            shown(self.features),
            shown(self.memory_mib)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_the_fuzzer_says() {
        let lines = [
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#900\tREDUCE cov: 345 ft: 1200 corp: 3/9b lim: 4 exec/s: 450 rss: 31Mb L: 2/4 MS: 1 EraseBytes-",
            "Done 12345 runs in 61 second(s)",
            "stat::number_of_executed_units: 12345",
            "stat::peak_rss_mb:              44",
        ];
        let figures = Figures::read(&lines.map(str::to_owned));
        let text = "12345 executions in 61 s, 345 edges, 1200 features, at most 44 MiB";
        assert_eq!(figures.to_string(), text);
        assert_eq!(Figures::read(&[]), Figures::default());
    }

    #[test]
    fn every_target_has_a_corpus_and_a_check() {
        for target in targets().unwrap() {
            assert!(directory().join("corpus").join(&target).is_dir(), "{target}");
            assert!(directory().join("targets").join(&target).with_extension("rs").is_file(), "{target}");
        }
    }
}

//! The tests that are asked, the cheap ones first, until one fails.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::places::Mutant;

/// The test that runs random programs on the simulated machine, and its name here.
const ORACLE: &str = "the_engine_says_what_the_hardware_does";
const PROGRAMS: &str = "random programs";
/// Those with random input. They take seconds, all others together a fraction of one.
const RANDOM: [&str; 3] = [PROGRAMS, "model", "fuzz"];
/// A mutant that takes this many seconds of processor time hangs. The unbroken engine takes a tenth.
const PATIENCE: &str = "10";
const PATIENCE_AT_RANDOM: &str = "120";
/// If it sleeps, no such time passes.
const LONGEST: Duration = Duration::from_mins(20);
/// Address space of a test, in KiB: what a mutant that never stops growing may take.
const MEMORY: &str = "4000000";

/// One run of a test binary.
struct Killer {
    name: String,
    binary: PathBuf,
    arguments: &'static [&'static str],
}

/// All of them.
pub(super) struct Killers {
    all: Vec<Killer>,
    directory: PathBuf,
}

/// What a run of tests said.
enum Said {
    Passed,
    /// These failed.
    Failed(Vec<String>),
}

impl Killers {
    /// Puts the binaries in order. Those with random input come last.
    pub(super) fn new(binaries: Vec<PathBuf>, directory: PathBuf) -> Result<Self> {
        let mut all = Vec::new();
        for binary in binaries {
            let file = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = file.rsplit_once('-').map_or(file.as_str(), |(name, _)| name).to_owned();
            if name == "oracle" {
                let (name, binary) = (PROGRAMS.to_owned(), binary.clone());
                all.push(Killer { name, binary, arguments: &["--exact", ORACLE] });
            }
            let arguments: &[&str] = if name == "oracle" { &["--skip", ORACLE] } else { &[] };
            all.push(Killer { name, binary, arguments });
        }
        let rank = |killer: &Killer| match killer.name.as_str() {
            "rules" => 0,
            "lazymmu_hazard" => 1,
            PROGRAMS => 4,
            "model" => 5,
            "fuzz" => 6,
            "oracle" => 3,
            _ => 2,
        };
        all.sort_by_key(|killer| (rank(killer), killer.name.clone()));
        if !all.iter().any(|killer| killer.name == PROGRAMS) {
            bail!("failed to find the test of the simulated machine among what was built");
        }
        Ok(Self { all, directory })
    }

    /// The breaks of the tables, which only the built engine knows.
    pub(super) fn of_tables(&self) -> Result<Vec<Mutant>> {
        let engine = self.all.iter().find(|killer| killer.name == "lazymmu_hazard");
        let engine = engine.context("failed to find the engine's unit tests among what was built")?;
        let output = Command::new(&engine.binary)
            .args(["--ignored", "--nocapture", "list_of_the_tables"])
            .output()
            .context("failed to ask the built engine for its tables")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mutants = text.lines().filter_map(|line| {
            let (id, words) = line.split_once("table-mutant\t")?.1.split_once('\t')?;
            Some(Mutant { id: id.parse().ok()?, name: format!("profile {words}"), line: 0 })
        });
        let mutants: Vec<_> = mutants.collect();
        if mutants.is_empty() {
            bail!("failed to read the breaks of the tables: the built engine said\n{text}");
        }
        Ok(mutants)
    }

    /// Who notices that break, 0 being none: the binary and the tests in it; nothing if nobody does. `random`: whether
    /// those with random input are asked, or the others.
    pub(super) fn ask(&self, id: usize, random: bool) -> Result<Option<String>> {
        for killer in self.all.iter().filter(|killer| RANDOM.contains(&killer.name.as_str()) == random) {
            if let Said::Failed(tests) = self.run(killer, id)? {
                let more =
                    if tests.len() > 1 { format!(" and {} more", tests.len() - 1) } else { String::new() };
                let first = tests.first().map_or("no test by name", String::as_str);
                return Ok(Some(format!("{}: {first}{more}", killer.name)));
            }
        }
        Ok(None)
    }

    fn run(&self, killer: &Killer, id: usize) -> Result<Said> {
        let mut command = Command::new("sh");
        let random = RANDOM.contains(&killer.name.as_str());
        let seconds = if random { PATIENCE_AT_RANDOM } else { PATIENCE };
        command.args(["-c", "ulimit -v \"$0\" && ulimit -t \"$1\" && shift && exec nice -n 10 \"$@\""]);
        command.args([MEMORY, seconds]).arg(&killer.binary);
        command.args(killer.arguments).current_dir(&self.directory);
        command
            .env("LAZYMMU_MUTANT", id.to_string())
            .env("RUST_BACKTRACE", "0")
            .env("RUST_TEST_THREADS", "1")
            .env_remove("LAZYMMU_ORACLE_PROGRAM");
        // Each mutant has the same random input, and leaves nothing behind for the next.
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("failed to start {}", killer.name))?;
        let output = child.stdout.take();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What cannot be read has no names in it; the status tells the rest.
            let _ = output.map(|mut output| output.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().context("failed to wait for a test")? {
                break status;
            }
            if start.elapsed() > LONGEST {
                child.kill().context("failed to end a test that hangs")?;
                child.wait().context("failed to wait for a test")?;
                return Ok(Said::Failed(vec!["no answer in time".to_owned()]));
            }
            thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 200 { 2 } else { 50 }));
        };
        let text = reader.join().unwrap_or_default();
        if status.success() {
            return Ok(Said::Passed);
        }
        let failed = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        Ok(Said::Failed(failed.map(str::to_owned).collect()))
    }
}

/// Where what was learned is kept, outside of the checkout: by what was built.
pub(super) fn results(key: &str) -> Result<PathBuf> {
    let directory = crate::paths::cache()?.join("mutants");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("failed to make {}", Path::new(&directory).display()))?;
    Ok(directory.join(format!("{}.txt", &key[..16])))
}

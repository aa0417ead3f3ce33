//! What a run of the gate takes, in parts: the boot, attaching the programs, the workloads, and the verdict with its
//! reports.
//!
//! `cargo xtask bench gate`, or `-- WORKLOAD...` for others than one that is short and all of them. Each is run three times;
//! the figures are those of the run in the middle.

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lazymmu_tests::{Lab, Series, run_binary};

const RUNS: usize = 3;
/// What a run with a short workload should take at most, on an emulated CPU.
const MOST: Duration = Duration::from_secs(20);

/// What one run took: all, and its parts as the gate says them.
struct Run {
    all: Duration,
    parts: String,
}

fn run(lab: &Lab, workload: &str) -> Result<Run, Box<dyn Error>> {
    let kernel = lab.kernel(Series::V7)?;
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(lab.lazymmu());
    command.args(["gate", "--workload", workload, "--out"]).arg(directory.path());
    command.arg("--kernel").arg(kernel.boot_image());
    command.arg("--vmlinux").arg(kernel.boot_image().with_file_name("vmlinux.debug"));
    let start = Instant::now();
    let said = run_binary(&mut command)?;
    let all = start.elapsed();
    let parts = said.stderr.lines().find_map(|line| line.strip_prefix("lazymmu: boot "));
    let parts = parts.ok_or_else(|| format!("the gate did not come to its end: {}", said.stderr))?;
    Ok(Run { all, parts: format!("boot {parts}") })
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to run the bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<(), Box<dyn Error>> {
    let lab = Lab::open()?;
    let named: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let workloads =
        if named.is_empty() { vec!["fork-exclusive".to_owned(), "all".to_owned()] } else { named };
    for workload in workloads {
        let mut runs = (0..RUNS).map(|_| run(&lab, &workload)).collect::<Result<Vec<_>, _>>()?;
        runs.sort_by_key(|run| run.all);
        let Run { all, parts } = runs.swap_remove(RUNS / 2);
        println!("{workload:<16} {:>6.1} s in all: {parts}", all.as_secs_f32());
        if workload != "all" && all > MOST {
            println!("{:<16} more than {} s", "", MOST.as_secs());
        }
    }
    Ok(())
}

//! What it costs to make a probe plan of a distribution's kernel, beside another program that reads the same file.
//!
//! Takes a vmlinux with debug information (a hundred megabytes or more), makes a plan of it several times, and prints the
//! least CPU time and the peak of this process's memory, all of it: the code of the program and what it read is in it as
//! well. Fails if either is over its limit, or if the plan has no reads. Then pahole reads the file, if it is
//! installed.
//!
//! `cargo xtask bench plan -- VMLINUX`, or with `LAZYMMU_PLAN_VMLINUX` set.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use lazymmu_abi::Kind;
use lazymmu_inspect::image::Image;
use lazymmu_inspect::plan::Plan;

const ROUNDS: usize = 3;
const MOST_CPU: f64 = 2.5;
const MOST_MEMORY: u64 = 128 << 20;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Cargo hands `--bench` to a bench without a harness.
    let named = env::args_os().skip(1).find(|argument| argument != "--bench");
    let path = named.or_else(|| env::var_os("LAZYMMU_PLAN_VMLINUX")).map(PathBuf::from);
    let path = path.ok_or("which vmlinux? give it behind --, or set LAZYMMU_PLAN_VMLINUX")?;
    println!("{}: {} MiB", path.display(), path.metadata()?.len() >> 20);

    let mut least = f64::INFINITY;
    let mut plan = None;
    for _ in 0..ROUNDS {
        let start = cpu_seconds("self")?.0;
        plan = Some(Plan::of(&Image::open(&path, None)?)?);
        least = least.min(cpu_seconds("self")?.0 - start);
    }
    let peak = peak_memory()?;
    let plan = plan.ok_or("no round was run")?;
    let all = plan.tally(|_| true);
    let reads = plan.tally(|probe| probe.kind == Kind::Read);
    println!(
        "plan:   {least:.2} CPU s (at most {MOST_CPU}), {} MiB (at most {})",
        peak >> 20,
        MOST_MEMORY >> 20
    );
    println!("        {} places, {} of them reads; {} to be probed", all.found, reads.found, all.probe);
    beside("pahole --sizes", Command::new("pahole").args(["-F", "dwarf", "--sizes"]).arg(&path));
    let good = least <= MOST_CPU && peak <= MOST_MEMORY && reads.found > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what another program needs.
fn beside(name: &str, command: &mut Command) {
    let mut measured = || -> Result<(f64, u64), Box<dyn Error>> {
        let before = cpu_seconds("self")?.1;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut most = 0;
        let status = loop {
            // What it has when it is asked; asked often enough to be close to its peak.
            most = most.max(status_field(&child.id().to_string(), "RssAnon:").unwrap_or(0));
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        };
        if !status.success() {
            return Err(format!("it ended with {status}").into());
        }
        Ok((cpu_seconds("self")?.1 - before, most))
    };
    match measured() {
        Ok((cpu, most)) => println!("{name}: {cpu:.2} CPU s, {} MiB of anonymous memory", most >> 20),
        Err(error) => println!("{name}: not measured: {error}"),
    }
}

/// CPU seconds of a process, and of its children that have ended (proc(5): fields 14 to 17 of stat, in ticks of 10 ms).
fn cpu_seconds(process: &str) -> Result<(f64, f64), Box<dyn Error>> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat"))?;
    let fields = stat.rsplit_once(')').ok_or("stat has no name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u32>);
    let ticks: Vec<f64> = ticks.map(|ticks| ticks.map(f64::from)).collect::<Result<_, _>>()?;
    let [user, system, child_user, child_system] = ticks[..] else { return Err("stat is too short".into()) };
    Ok(((user + system) / 100.0, (child_user + child_system) / 100.0))
}

/// The most memory that this process ever had, with its own code and all else.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    status_field("self", "VmHWM:").ok_or_else(|| "/proc/self/status does not tell VmHWM".into())
}

/// A field of a process's status that counts kilobytes, in bytes.
fn status_field(process: &str, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

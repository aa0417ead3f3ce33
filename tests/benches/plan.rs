//! What it costs to make a probe plan of a distribution's kernel, beside other programs that read the same file.
//!
//! Takes a vmlinux with debug information (a hundred megabytes or more) and makes a plan of it several times, each time in
//! a process of its own. Prints the least CPU time and the peak of anonymous memory: what the file's own pages take in
//! the cache is not counted, the system may drop them. Fails if either is over its limit, or if the plan has no reads.
//! Then pahole and perf read the file, if they are installed.
//!
//! `cargo xtask bench plan` takes Debian's newest 7.x, and fetches its debug package if the cache has it not;
//! `cargo xtask bench plan -- VMLINUX` takes another file.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lazymmu_abi::Kind;
use lazymmu_inspect::image::Image;
use lazymmu_inspect::plan::Plan;

const ROUNDS: usize = 5;
const MOST_CPU: f64 = 2.5;
const MOST_MEMORY: u64 = 128 << 20;

/// Says that a process is to make one plan, and nothing else.
const ONE: &str = "--one";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Cargo hands `--bench` to a bench without a harness.
    let mut arguments = env::args_os().skip(1).filter(|argument| argument != "--bench").peekable();
    if arguments.next_if(|argument| argument == ONE).is_some() {
        let path = arguments.next().ok_or("which vmlinux?")?;
        return one(Path::new(&path));
    }
    let path = arguments.next().or_else(|| env::var_os("LAZYMMU_PLAN_VMLINUX")).map(PathBuf::from);
    let path = path.ok_or("which vmlinux? give it behind --, or set LAZYMMU_PLAN_VMLINUX")?;
    println!("{}: {} MiB", path.display(), path.metadata()?.len() >> 20);

    let (mut least, mut peak) = (f64::INFINITY, 0);
    let mut counts = String::new();
    for _ in 0..ROUNDS {
        let measured = measure(Command::new(env::current_exe()?).arg(ONE).arg(&path))?;
        least = least.min(measured.cpu);
        peak = peak.max(measured.memory);
        counts = measured.output;
    }
    println!(
        "plan: {least:.2} CPU s (at most {MOST_CPU}), {} MiB of anonymous memory (at most {})",
        peak >> 20,
        MOST_MEMORY >> 20
    );
    println!("      {}", counts.trim());
    beside("pahole --sizes", Command::new("pahole").args(["-F", "dwarf", "--sizes"]).arg(&path));
    let mut perf = Command::new("perf");
    perf.arg("probe").arg("-k").arg(&path).args(["-V", "do_wp_page"]);
    beside("perf probe -V do_wp_page", &mut perf);
    let good = least <= MOST_CPU && peak <= MOST_MEMORY && !counts.contains(" 0 of them reads");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes one plan, as `lazymmu plan` does.
fn one(path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let plan = Plan::of(&Image::open(path, None)?)?;
    let all = plan.tally(|_| true);
    let reads = plan.tally(|probe| probe.kind == Kind::Read);
    println!("{} places, {} of them reads; {} to be probed", all.found, reads.found, all.probe);
    Ok(ExitCode::SUCCESS)
}

/// What a process took.
struct Measured {
    cpu: f64,
    /// The most anonymous memory that it was seen with, in bytes.
    memory: u64,
    output: String,
    seconds: f64,
}

/// Runs a process to its end.
fn measure(command: &mut Command) -> Result<Measured, Box<dyn Error>> {
    let (before, start) = (cpu_of_children()?, Instant::now());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // Whatever it prints is read aside, so that it does not wait for us.
    let output =
        child.stdout.take().map(|stdout| std::thread::spawn(move || std::io::read_to_string(stdout)));
    let mut memory = 0;
    let status = loop {
        // What it has when it is asked; asked often enough to be close to its peak.
        memory = memory.max(anonymous(child.id()).unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let output = output.map(std::thread::JoinHandle::join);
    if !status.success() {
        return Err(format!("it ended with {status}").into());
    }
    let output = output.and_then(Result::ok).and_then(Result::ok).unwrap_or_default();
    Ok(Measured { cpu: cpu_of_children()? - before, memory, output, seconds })
}

/// Prints what another program takes.
fn beside(name: &str, command: &mut Command) {
    match measure(command) {
        Ok(Measured { cpu, memory, seconds, .. }) => {
            println!("{name}: {cpu:.2} CPU s, {} MiB of anonymous memory, {seconds:.1} s", memory >> 20);
        }
        Err(error) => println!("{name}: not measured: {error}"),
    }
}

/// CPU seconds of the children that have ended (proc(5): fields 16 and 17 of stat, in ticks of 10 ms).
fn cpu_of_children() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("stat has no name")?.1;
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<u32>);
    let ticks: Vec<f64> = ticks.map(|ticks| ticks.map(f64::from)).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// The anonymous memory of a process, in bytes.
fn anonymous(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

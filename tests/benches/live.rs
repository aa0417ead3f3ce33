//! What watching costs, beside what other programs need to watch the same.
//!
//! In one guest a loop that does little else than change page-table entries runs again and again: unwatched, then
//! watched by lazymmu and by others, each in turn, for many short rounds. What is printed is the loop's own processor time
//! over that of the unwatched one of the same round: the median of all rounds, and between which two lie all but the
//! highest and lowest quarter. The drop-in itself is measured last, in other guests: compiled in and idle, over a kernel
//! without it.
//!
//! On an emulated machine time means little, and less where the host is busy. There the guest's clocks count instructions,
//! and what is printed are ratios of these: they do not know of caches, nor that an atomic costs more than an addition.
//!
//! `cargo xtask bench live`, or `-- ROUNDS NAME...` for some of the ways only. `bpftrace` and `trace-cmd` are those that
//! `LAZYMMU_BENCH_PEERS` has. `LAZYMMU_BENCH_BEFORE` names a binary of lazymmu for the guest that is measured beside this one.

#[path = "live/peers.rs"]
mod peers;

use std::env;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lazymmu_tests::{Lab, Series, number_before, step_output};
use lazymmu_vm::{Command, Initramfs, Job, KernelDirectory, Limits, Output, Step, StepResult, Threads};

use peers::Peers;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often the loop changes all its pages, each time that it runs.
const LOOPS: &str = "12";
const ROUNDS: usize = 9;
/// How often each kernel is booted for what the drop-in costs idle, and how often the loop runs there.
const BOOTS: usize = 3;
const RUNS: usize = 6;

const LOOP: &str = "/bin/lazymmu-loop";

/// A way to run the loop.
struct Way {
    name: &'static str,
    what: &'static str,
    /// The words before the loop.
    words: Vec<&'static str>,
    /// The most that it should cost.
    most: Option<f64>,
}

/// Another lazymmu, if there is one.
const BEFORE: &str = "/bin/lazymmu-before";

impl Way {
    /// Whether it is another program's.
    fn is_peer(&self) -> bool {
        self.words.first().is_some_and(|program| program.starts_with("/usr/"))
    }
}

fn ways(peers: bool, before: bool) -> Vec<Way> {
    let of = |program, name, what, arguments: &[&'static str], most| Way {
        name,
        what,
        words: [program, "record", "-o", "/tmp/bench.lmt"]
            .into_iter()
            .chain(arguments.iter().copied())
            .chain(["--", LOOP, LOOPS])
            .collect(),
        most,
    };
    let lazymmu = |name, what, arguments, most| of("/bin/lazymmu", name, what, arguments, most);
    let mut ways = vec![
        Way { name: "none", what: "unwatched", words: vec![LOOP, LOOPS], most: None },
        lazymmu("suspects", "lazymmu record --capture suspects", &["--capture", "suspects"], Some(1.4)),
        lazymmu("no-stacks", "lazymmu record --no-stacks", &["--no-stacks"], Some(1.6)),
        lazymmu("sections", "lazymmu record", &[], Some(2.2)),
    ];
    if before {
        let suspects = &["--capture", "suspects"];
        ways.extend([
            of(BEFORE, "b-suspects", "the other lazymmu record --capture suspects", suspects, None),
            of(BEFORE, "b-no-stacks", "the other lazymmu record --no-stacks", &["--no-stacks"], None),
            of(BEFORE, "b-sections", "the other lazymmu record", &[], None),
        ]);
    }
    if peers {
        ways.extend(peers::ways(LOOP, LOOPS));
    }
    ways
}

fn main() -> Result<ExitCode> {
    // Cargo hands `--bench` to a bench without a harness.
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    let rounds = match arguments.peek().and_then(|first| first.parse().ok()) {
        Some(rounds) => arguments.next().map_or(ROUNDS, |_| rounds),
        None => ROUNDS,
    };
    let wanted: Vec<String> = arguments.collect();
    let is_wanted = |name: &str| name == "none" || wanted.is_empty() || wanted.iter().any(|one| one == name);

    let lab = Lab::open()?;
    let peers = Peers::open();
    let before = env::var_os("LAZYMMU_BENCH_BEFORE");
    let mut ways = ways(peers.is_some(), before.is_some());
    ways.retain(|way| is_wanted(way.name));
    let mut initramfs = with_loop(&lab)?;
    if let Some(peers) = &peers {
        peers.add_to(&mut initramfs)?;
    }
    if let Some(before) = &before {
        initramfs.add_file(BEFORE, Path::new(before), 0o755)?;
    }
    let mut good = watch(&lab, &initramfs, &ways, rounds)?;
    if is_wanted("idle") {
        good &= idle(&lab, rounds.min(BOOTS))?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn with_loop(lab: &Lab) -> Result<Initramfs> {
    let mut initramfs = lab.initramfs()?;
    initramfs.add_file(LOOP, &lab.lazymmu().with_file_name("lazymmu-loop"), 0o755)?;
    Ok(initramfs)
}

/// Runs every way in turn, and prints what each costs. False if one costs more than it should.
fn watch(lab: &Lab, initramfs: &Initramfs, ways: &[Way], rounds: usize) -> Result<bool> {
    let steps =
        (0..rounds).flat_map(|_| ways.iter().map(|way| Command::new(way.words.iter().copied()).into()));
    let results = run(lab, &lab.kernel(Series::V7)?, initramfs, steps.collect())?;
    let rounds: Vec<&[StepResult]> = results.chunks(ways.len()).collect();
    let mut good = true;
    println!("{:<12} {:>7} {:>15}  {:>9}", "way", "ratio", "middle half", "at most");
    for (index, way) in ways.iter().enumerate() {
        let ratios: Result<Vec<f64>> =
            rounds.iter().map(|round| Ok(quiet(&round[index])? / quiet(&round[0])?)).collect();
        let ratios = match ratios {
            // Whether another program runs in this guest is not our matter.
            Err(error) if way.is_peer() => {
                println!("{:<12} did not run: {}", way.name, error.to_string().escape_debug());
                continue;
            }
            ratios => ratios?,
        };
        let (low, median, high) = quartiles(ratios);
        let most = way.most.map_or(String::new(), |most| format!("{most:.2}"));
        println!("{:<12} {median:>7.3} {low:>7.3}-{high:<7.3}  {most:>9}  {}", way.name, way.what);
        good &= way.most.is_none_or(|most| median <= most);
        if let Some(items) = rounds.last().and_then(|round| account(&round[index])) {
            println!("{:<12} {items}", "");
        }
    }
    let unwatched: Result<Vec<f64>> = rounds.iter().map(|round| quiet(&round[0])).collect();
    println!("the loop unwatched takes {:.2} ms", quartiles(unwatched?).1 / 1e6);
    Ok(good)
}

/// What the drop-in costs while nobody listens, over a kernel without it.
fn idle(lab: &Lab, boots: usize) -> Result<bool> {
    const MOST: f64 = 1.02;
    let bare = KernelDirectory::open(
        env::var_os("LAZYMMU_VM_KERNEL_7_BARE").ok_or("LAZYMMU_VM_KERNEL_7_BARE is not set")?,
    )?;
    let with = lab.kernel(Series::V7)?;
    let initramfs = with_loop(lab)?;
    let steps = || (0..RUNS).map(|_| Command::new([LOOP, LOOPS]).into()).collect();
    let mut ratios = Vec::new();
    for _ in 0..boots {
        let least = |kernel| -> Result<f64> {
            let times: Result<Vec<f64>> = run(lab, kernel, &initramfs, steps())?.iter().map(quiet).collect();
            Ok(quartiles(times?).0)
        };
        let without = least(&bare)?;
        ratios.push(least(&with)? / without);
    }
    let (low, median, high) = quartiles(ratios);
    println!(
        "{:<12} {median:>7.3} {low:>7.3}-{high:<7.3}  {MOST:>9.2}  the drop-in, idle; {boots} boots of each kernel",
        "idle"
    );
    Ok(median <= MOST)
}

fn run(
    lab: &Lab,
    kernel: &KernelDirectory,
    initramfs: &Initramfs,
    steps: Vec<Step>,
) -> Result<Vec<StepResult>> {
    let limits = Limits { job: Duration::from_hours(1), ..Limits::default() };
    // One CPU: where instructions are counted, those of another would count as time of this one.
    let machine = lab.machine(&kernel.boot_image()).cpus(1).memory(3072).limits(limits);
    let machine = machine.threads(Threads::Counting);
    // Whoever waits wants to see that it goes on.
    let mut show = |output: Output<'_>| {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = output;
        let _ = std::io::stderr().write_all(bytes);
    };
    let finished = machine.run(initramfs, &Job::new(steps), &mut show)?;
    Ok(finished.steps)
}

/// What the loop took when it was least disturbed: the quarter of its times is below that, in nanoseconds.
fn quiet(step: &StepResult) -> Result<f64> {
    let text = String::from_utf8_lossy(&step.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("rounds: "));
    let line = line.ok_or_else(|| step_output(step))?;
    let times: std::result::Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
    Ok(quartiles(times?).0)
}

/// A quarter is below the first, half below the second, three quarters below the third.
fn quartiles(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let at = |quarter: usize| {
        numbers.get((numbers.len().saturating_sub(1)) * quarter / 4).copied().unwrap_or(f64::NAN)
    };
    (at(1), at(2), at(3))
}

/// What lazymmu says of what it saw.
fn account(step: &StepResult) -> Option<String> {
    let said = String::from_utf8_lossy(&step.stderr);
    let line = said.lines().find(|line| line.contains("items:"))?;
    Some(format!("{} items, {} lost", number_before(line, "items")?, number_before(line, "lost")?))
}

//! What watching costs, beside what other programs need to watch the same.
//!
//! In one guest a loop runs again and again: unwatched, then watched by lazymmu and by others, each in turn, for many short
//! rounds. What is printed is the loop's own processor time over that of the unwatched one of the same round: the median of
//! all rounds, and between which two lie all but the highest and lowest quarter. How many hits a round has is counted in a
//! capture of everything: those of the loop's process. The drop-in itself is measured last, in other guests: compiled in and
//! idle, over a kernel without it.
//!
//! There are three loops. `handover` has about one hit in a microsecond, and what is aimed at is said of it; `lives` is the same
//! with less work on the data; `dense` has as many hits as can be had, several times more.
//!
//! On an emulated machine time means little, and less where the host is busy. There the guest's clocks count instructions,
//! and what is printed are ratios of these: they do not know of caches, nor that an atomic costs more than an addition. Only
//! the hits in a microsecond are measured with a clock, in a guest of their own. With the word `clock`, and where the CPU
//! itself runs the guest, all is measured by the host's clock, for which the host has to be quiet.
//!
//! The plan of `site-plan` and `site-suspects` is made of the same kernel, and has also what the drop-in tells, so both see the
//! same hits.
//!
//! `cargo xtask bench live`, or `-- ROUNDS clock NAME...`, each of which may be left out, for some of the loops and ways only.
//! `bpftrace` and `trace-cmd` are those that `LAZYMMU_BENCH_PEERS` has. `LAZYMMU_BENCH_BEFORE` names a binary of lazymmu for the
//! guest that is measured beside this one.

#[path = "live/peers.rs"]
mod peers;
#[path = "live/ways.rs"]
mod ways;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lazymmu_abi::Kind;
use lazymmu_hazard::TaskName;
use lazymmu_tests::{Lab, PROBE_PLAN, Series, number_before, step_output};
use lazymmu_trace::Reader;
use lazymmu_vm::{
    Command, Finished, Initramfs, Job, KernelDirectory, Limits, Output, Step, StepResult, Threads,
};

use peers::Peers;
use ways::{Count, Loop, Way};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 9;
/// How often each kernel is booted for what the drop-in costs idle, and how often the loop runs there.
const BOOTS: usize = 3;
const RUNS: usize = 6;

/// The word with which all is measured by the host's clock.
const CLOCK: &str = "clock";

/// What the guest's clocks go by, and so all figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Instructions,
    Nanoseconds,
}

impl Unit {
    fn said(self) -> &'static str {
        match self {
            Self::Instructions => "instructions of the emulated CPU",
            Self::Nanoseconds => {
                "nanoseconds of the host's clock, which say something only where the host is quiet"
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    fn threads(self) -> Threads {
        match self {
            Self::Instructions => Threads::Counting,
            Self::Nanoseconds => Threads::Single,
        }
    }
}

fn main() -> Result<ExitCode> {
    // Cargo hands `--bench` to a bench without a harness.
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    let rounds = match arguments.peek().and_then(|first| first.parse().ok()) {
        Some(rounds) => arguments.next().map_or(ROUNDS, |_| rounds),
        None => ROUNDS,
    };
    let (clock, wanted): (Vec<_>, Vec<_>) = arguments.partition(|word| word == CLOCK);
    let (loops, wanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|name| Loop::ALL.iter().any(|one| one.name() == name));
    let is_wanted = |name: &str| name == "none" || wanted.is_empty() || wanted.iter().any(|one| one == name);

    let lab = Lab::open()?;
    let unit = if clock.is_empty() && lab.is_emulated() { Unit::Instructions } else { Unit::Nanoseconds };
    println!("measured in {}", unit.said());
    let peers = Peers::open();
    let before = env::var_os("LAZYMMU_BENCH_BEFORE");
    let mut initramfs = with_loop(&lab)?;
    if let Some(peers) = &peers {
        peers.add_to(&mut initramfs)?;
    }
    if let Some(before) = &before {
        initramfs.add_file(ways::BEFORE, Path::new(before), 0o755)?;
    }
    let loops = Loop::ALL
        .into_iter()
        .filter(|which| loops.is_empty() || loops.iter().any(|name| name == which.name()));
    let loops: Vec<(Loop, Vec<Way>)> = loops
        .map(|which| {
            let ways = ways::ways(which, peers.is_some(), before.is_some());
            (which, ways.into_iter().filter(|way| is_wanted(way.name)).collect())
        })
        .collect();
    if loops.iter().any(|(_, ways)| ways.iter().any(Way::is_by_plan)) {
        initramfs.add(PROBE_PLAN, lab.probe_plan(&lab.kernel(Series::V7)?)?, 0o644);
    }
    let mut good = true;
    for (which, ways) in &loops {
        good &= watch(&lab, &initramfs, *which, ways, rounds, unit)?;
    }
    if is_wanted("idle") {
        good &= idle(&lab, rounds.min(BOOTS), unit)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn with_loop(lab: &Lab) -> Result<Initramfs> {
    let mut initramfs = lab.initramfs()?;
    initramfs.add_file(ways::PROGRAM, &lab.lazymmu().with_file_name("lazymmu-loop"), 0o755)?;
    Ok(initramfs)
}

/// Runs every way in turn, and prints what each costs. False if one costs more than it should.
fn watch(
    lab: &Lab,
    initramfs: &Initramfs,
    which: Loop,
    ways: &[Way],
    rounds: usize,
    unit: Unit,
) -> Result<bool> {
    let counts = ways::counts(which);
    let counting = counts.iter().map(|count| Command::new(count.words.iter().copied()).into());
    let measured =
        (0..rounds).flat_map(|_| ways.iter().map(|way| Command::new(way.words.iter().copied()).into()));
    let steps = counting.chain(measured).collect();
    let finished = run(lab, &lab.kernel(Series::V7)?, initramfs, unit.threads(), steps)?;
    let results = finished.steps.get(counts.len()..).ok_or("no hits were counted")?;
    let rounds: Vec<&[StepResult]> = results.chunks(ways.len()).collect();
    let unwatched: Result<Vec<f64>> = rounds.iter().map(|round| quiet(&round[0])).collect();
    let unwatched = quartiles(unwatched?).1;
    let hits = hits(&counts, &finished)?;
    let time = match unit {
        Unit::Instructions => time(lab, initramfs, which)?,
        Unit::Nanoseconds => unwatched,
    };
    println!("\n{}: {}; in a round {hits:.0} hits,", which.name(), which.what());
    println!(
        "{:.2} in a microsecond of {:.2} ms, {:.0} {} for each",
        hits / (time / 1e3),
        time / 1e6,
        unwatched / hits,
        unit.name()
    );
    println!("{:<13} {:>7} {:>15} {:>8} {:>8}", "way", "ratio", "middle half", "a hit", "at most");
    let mut good = true;
    for (index, way) in ways.iter().enumerate() {
        let ratios: Result<Vec<f64>> =
            rounds.iter().map(|round| Ok(quiet(&round[index])? / quiet(&round[0])?)).collect();
        let ratios = match ratios {
            // Whether another program runs in this guest is not our matter.
            Err(error) if way.is_peer() => {
                println!("{:<13} did not run: {}", way.name, error.to_string().escape_debug());
                continue;
            }
            ratios => ratios?,
        };
        let (low, median, high) = quartiles(ratios);
        let hit = (median - 1.0) * unwatched / hits;
        let most = way.most.map_or(String::new(), |most| format!("{most:.2}"));
        println!("{:<13} {median:>7.3} {low:>7.3}-{high:<7.3} {hit:>8.0} {most:>8}  {}", way.name, way.what);
        good &= way.most.is_none_or(|most| median <= most);
        if let Some((items, lost)) = rounds.last().and_then(|round| account(&round[index])) {
            println!("{:<13} {items} items, {lost} lost", "");
        }
    }
    Ok(good)
}

/// How many hits a round of the loop has, by what a capture of everything saw of few rounds and of more.
fn hits(counts: &[Count; 2], finished: &Finished) -> Result<f64> {
    let hits = |count: &Count| {
        let trace = finished.files.get(Path::new(count.trace));
        let trace =
            trace.ok_or_else(|| finished.steps.iter().take(2).map(step_output).collect::<String>())?;
        hits_of_loop(trace)
    };
    let [few, many] = counts;
    let between = u32::try_from(hits(many)?.saturating_sub(hits(few)?))?;
    Ok(f64::from(between) / f64::from(many.rounds - few.rounds))
}

/// How many hits of the loop's process a trace has. The recorder has some itself.
fn hits_of_loop(trace: &[u8]) -> Result<usize> {
    let mut reader = Reader::from_bytes(trace)?;
    let mut hits: BTreeMap<u32, usize> = BTreeMap::new();
    let mut process = None;
    while let Some(batch) = reader.next_batch()? {
        for record in batch {
            match Kind::try_from(record.kind) {
                Ok(Kind::Read | Kind::Write | Kind::Rmw | Kind::Section) => {
                    *hits.entry(record.tgid).or_default() += 1;
                }
                Ok(Kind::TaskName) if TaskName::of(record).to_string() == ways::NAME => {
                    process = Some(record.tgid);
                }
                Ok(Kind::Lost) => return Err("hits were lost where they were to be counted".into()),
                _ => {}
            }
        }
    }
    let hits = process.and_then(|process| hits.remove(&process));
    Ok(hits.ok_or("the loop is not in the trace that counts its hits")?)
}

/// How long a round of the unwatched loop takes by the host's clock, in nanoseconds.
fn time(lab: &Lab, initramfs: &Initramfs, which: Loop) -> Result<f64> {
    let steps = (0..RUNS).map(|_| Command::new(which.words(ways::ROUNDS)).into()).collect();
    let times: Result<Vec<f64>> = run(lab, &lab.kernel(Series::V7)?, initramfs, Threads::Single, steps)?
        .steps
        .iter()
        .map(quiet)
        .collect();
    Ok(quartiles(times?).0)
}

/// What the drop-in costs while nobody listens, over a kernel without it: in the denser loop, where it shows most.
fn idle(lab: &Lab, boots: usize, unit: Unit) -> Result<bool> {
    const MOST: f64 = 1.02;
    let bare = KernelDirectory::open(
        env::var_os("LAZYMMU_VM_KERNEL_7_BARE").ok_or("LAZYMMU_VM_KERNEL_7_BARE is not set")?,
    )?;
    let with = lab.kernel(Series::V7)?;
    let initramfs = with_loop(lab)?;
    let steps = || (0..RUNS).map(|_| Command::new(Loop::Dense.words(ways::ROUNDS)).into()).collect();
    let mut ratios = Vec::new();
    for _ in 0..boots {
        let least = |kernel| -> Result<f64> {
            let results = run(lab, kernel, &initramfs, unit.threads(), steps())?;
            let times: Result<Vec<f64>> = results.steps.iter().map(quiet).collect();
            Ok(quartiles(times?).0)
        };
        let without = least(&bare)?;
        ratios.push(least(&with)? / without);
    }
    let (low, median, high) = quartiles(ratios);
    println!(
        "\n{:<13} {median:>7.3} {low:>7.3}-{high:<7.3} {:>8} {MOST:>8.2}  the drop-in, idle, in the dense loop; {boots} boots of each kernel, in {}",
        "idle",
        "",
        unit.name()
    );
    Ok(median <= MOST)
}

fn run(
    lab: &Lab,
    kernel: &KernelDirectory,
    initramfs: &Initramfs,
    threads: Threads,
    steps: Vec<Step>,
) -> Result<Finished> {
    let limits = Limits { boot: Duration::from_mins(10), job: Duration::from_hours(1), ..Limits::default() };
    // One CPU: where instructions are counted, those of another would count as time of this one.
    let machine = lab.machine(&kernel.boot_image()).cpus(1).memory(3072).limits(limits);
    let machine = machine.threads(threads);
    // Whoever waits wants to see that it goes on.
    let mut show = |output: Output<'_>| {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = output;
        let _ = std::io::stderr().write_all(bytes);
    };
    Ok(machine.run(initramfs, &Job::new(steps), &mut show)?)
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

/// How many items lazymmu says that there were, and how many it lost.
fn account(step: &StepResult) -> Option<(u64, u64)> {
    let said = String::from_utf8_lossy(&step.stderr);
    let line = said.lines().find(|line| line.contains("items:"))?;
    Some((number_before(line, "items")?, number_before(line, "lost")?))
}

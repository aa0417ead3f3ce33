//! How fast a trace is decoded, how fast it is decoded and judged, and how fast other programs read as much.
//!
//! Makes a trace such as a machine with four CPUs produces while it forks, unmaps, moves and protects memory
//! (`replay/machine.rs`), reads it back several times in turn with and without the engine, all rules and all profiles on,
//! and prints the best of each. Fails if judging takes more time than decoding, if the peak of memory is over the limit,
//! or if a hazard is missed. Time is that which this process had the CPU, so that a busy machine changes the result
//! little, but for what works on several. Then the peers, each over the same records, and several traces at once on one core and on all.
//!
//! `cargo xtask bench replay`, and `cargo xtask bench replay -- --records 100M` for the long run: it writes three files of
//! together about 20 bytes for each record to the temporary directory and removes them.

#[path = "replay/machine.rs"]
mod machine;
#[path = "replay/measure.rs"]
mod measure;
#[path = "replay/peers.rs"]
mod peers;
#[path = "replay/trace_dat.rs"]
mod trace_dat;

use std::fs::File;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::thread::available_parallelism;

use lazymmu_abi::Record;
use lazymmu_hazard::{Arch, Config, Engine, Outcome};
use lazymmu_trace::{Header, Reader, Writer};
use tempfile::NamedTempFile;

use machine::Machine;
use measure::{Best, Result, peak_memory};
use peers::ZstdFile;

const RECORDS: u64 = 10_000_000;
/// Each run is the best of so many; fewer for long ones.
const ROUNDS: u64 = 5;
const LEAST_RATIO: f64 = 0.5;
/// What is aimed at, in millions of records a second. Not every machine can, so it decides nothing.
const AIM: f64 = 15.0;
const MOST_MEMORY: u64 = 64 << 20;
/// trace-cmd gets no more than this of the records: it would take minutes.
const TRACE_CMD_RECORDS: u64 = 2_000_000;

fn main() -> Result<ExitCode> {
    let wanted = wanted()?;
    let rounds = (ROUNDS * RECORDS / wanted.max(1)).clamp(2, ROUNDS);
    let trace = NamedTempFile::new()?;
    let payload = peers::is_there("zstd").then(NamedTempFile::new).transpose()?;
    let (records, hazards) = generate(&trace, payload.as_ref(), wanted)?;
    let bytes = trace.as_file().metadata()?.len();
    println!(
        "{records} records with {hazards} hazards in {} MiB, {} bytes each: {}",
        bytes >> 20,
        bytes / records,
        trace.path().display()
    );

    let mut decode = Best::default();
    let mut judge = Best::default();
    let mut ahead = Best::default();
    for _ in 0..rounds {
        decode.time(|| decode_alone(trace.reopen()?))?;
        let outcome = judge.time(|| decode_and_judge(trace.reopen()?))?;
        check(&outcome, records, hazards);
        let outcome = ahead.time_on_the_wall(|| judge_read_ahead(trace.reopen()?))?;
        check(&outcome, records, hazards);
    }
    let ratio = decode.seconds / judge.seconds;
    let rate = judge.rate(records);
    let peak = peak_memory()?;
    println!("best of {rounds}, processor time:");
    println!("decode:           {}", decode.shown(records));
    println!("decode + engine:  {} (aim: {AIM} M records/s)", judge.shown(records));
    println!("ratio:            {ratio:.2} (at least {LEAST_RATIO})");
    println!("with read-ahead:  {}, on the wall, as `lazymmu replay` does it", ahead.shown(records));
    println!("peak memory:      {} KiB (less than {})", peak >> 10, MOST_MEMORY >> 10);

    match &payload {
        None => println!("zstd -d:          not installed; Debian's package is zstd"),
        Some(payload) => zstd(payload.path(), records, rate, rounds)?,
    }
    if peers::is_there("trace-cmd") {
        trace_cmd(records, rate)?;
    } else {
        println!("trace-cmd report: not installed; Debian's package is trace-cmd");
    }
    several(trace.path(), records)?;
    let good = ratio >= LEAST_RATIO && peak < MOST_MEMORY;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `--records N`, or N by itself; K and M count thousands and millions.
fn wanted() -> Result<u64> {
    // Cargo hands `--bench` to a bench without a harness.
    let mut arguments =
        std::env::args().skip(1).filter(|argument| argument != "--bench" && argument != "--records");
    let Some(number) = arguments.next() else { return Ok(RECORDS) };
    let (digits, unit) = match number.strip_suffix(['K', 'M']) {
        Some(digits) if number.ends_with('K') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (number.as_str(), 1),
    };
    let count: u64 = digits.parse().map_err(|_| format!("{number} is no number of records, such as 100M"))?;
    match count.checked_mul(unit) {
        // Fewer take less time than the kernel counts.
        Some(count) if count >= 100_000 && arguments.next().is_none() => Ok(count),
        _ => Err("one number of records, if any, of at least 100K".into()),
    }
}

/// Writes the trace, and the same records for zstd. Returns how many records and how many hazards there are.
fn generate(trace: &NamedTempFile, payload: Option<&NamedTempFile>, wanted: u64) -> Result<(u64, u64)> {
    let mut writer = Writer::new(trace.reopen()?, &Header::default())?;
    machine::write_stacks(&mut writer)?;
    let mut packed = payload.map(|file| ZstdFile::create(file.reopen()?)).transpose()?;
    let mut machine = Machine::new();
    let mut written = 0;
    while written < wanted {
        let records = machine.next();
        writer.records(records)?;
        if let Some(packed) = &mut packed {
            packed.records(records)?;
        }
        written += records.len() as u64;
    }
    writer.finish()?;
    if let Some(packed) = packed {
        packed.finish()?;
    }
    Ok((written, machine.hazards()))
}

fn decode_alone(file: File) -> Result<()> {
    let mut reader = Reader::new("bench", file)?;
    while let Some(batch) = reader.next_batch()? {
        black_box(batch);
    }
    Ok(())
}

fn decode_and_judge(file: File) -> Result<Outcome> {
    let mut reader = Reader::new("bench", file)?;
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    while let Some(batch) = reader.next_batch()? {
        engine.process_all(batch);
    }
    Ok(engine.finish())
}

/// One thread decodes, this one judges.
fn judge_read_ahead(file: File) -> Result<Outcome> {
    let mut reader = Reader::new("bench", file)?;
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    let work = |batch: &[Record]| {
        engine.process_all(batch);
        ControlFlow::<()>::Continue(())
    };
    let _ = reader.records.read_ahead(work)?;
    Ok(engine.finish())
}

/// A fast answer that is wrong is worth nothing.
fn check(outcome: &Outcome, records: u64, hazards: u64) {
    assert_eq!(outcome.statistics.records, records, "every record reaches the engine");
    let errors = outcome.occurrences.iter().filter(|found| found.place.breach.is_none());
    let found: u64 = errors.map(|found| found.count).sum();
    assert_eq!(found, hazards, "the engine finds what was put in");
    assert!(outcome.reasons().is_empty(), "{:?}", outcome.reasons());
}

/// `zstd -d` has less to do: it makes bytes and does not look at them.
fn zstd(payload: &Path, records: u64, rate: f64, rounds: u64) -> Result<()> {
    let mut best = Best::default();
    for _ in 0..rounds {
        peers::unpack(payload, &mut best)?;
    }
    println!(
        "zstd -d:          {}; decode + engine is {:.2} times that, over the same records in {} MiB",
        best.shown(records),
        rate / best.rate(records),
        payload.metadata()?.len() >> 20
    );
    Ok(())
}

/// `trace-cmd report` does other work: it prints each event, and judges nothing.
fn trace_cmd(records: u64, rate: f64) -> Result<()> {
    let file = NamedTempFile::new()?;
    let events = trace_dat::write(file.reopen()?, records.min(TRACE_CMD_RECORDS))?;
    let mut best = Best::default();
    peers::report(file.path(), &mut best)?;
    println!(
        "trace-cmd report: {}; decode + engine is {:.1} times that, per event; a trace.dat of the first {events} events \
         in {} MiB, as the drop-in's tracepoints give them",
        best.shown(events),
        rate / best.rate(events),
        file.as_file().metadata()?.len() >> 20
    );
    Ok(())
}

/// `lazymmu replay` of as many traces as there are cores, on one of them and on all.
fn several(trace: &Path, records: u64) -> Result<()> {
    let cores = available_parallelism()?.get();
    // The first call builds the binary, which is no part of the time.
    lazymmu_tests::lazymmu(["--version"])?;
    let mut seconds = Vec::new();
    for jobs in [1, cores] {
        let mut arguments = vec!["replay".to_owned(), "--jobs".to_owned(), jobs.to_string()];
        arguments.extend(std::iter::repeat_n(trace.display().to_string(), cores.max(2)));
        let mut best = Best::default();
        let said = best.time_on_the_wall(|| Ok(lazymmu_tests::lazymmu(&arguments)?))?;
        if said.code != Some(1) {
            return Err(format!("lazymmu replay ended with {:?}: {}", said.code, said.stderr).into());
        }
        let rate = best.rate(records * cores.max(2) as u64);
        println!(
            "{} traces, --jobs {jobs}: {rate:.1} M records/s, {:.2} s on the wall",
            cores.max(2),
            best.seconds
        );
        seconds.push(best.seconds);
    }
    println!("                  {:.2} times as fast on {cores} cores", seconds[0] / seconds[1]);
    Ok(())
}

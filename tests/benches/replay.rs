//! How fast a trace is decoded, and how fast it is decoded and judged.
//!
//! Makes a trace of ten million records such as a machine with four CPUs produces while it forks, unmaps and changes
//! protections, reads it back several times in turn with and without the engine, and prints the best of each. Fails if
//! judging takes more time than decoding, or if the peak of memory is over the limit. Time is that which this process
//! had the CPU, so that a busy machine does not change the result.
//!
//! `cargo xtask bench replay [-- RECORDS]`

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use lazymmu_abi::{Flags, Kind, Level, Op, Record};
use lazymmu_hazard::{Arch, Config, Engine, Outcome};
use lazymmu_trace::{Header, Reader, Writer};

const RECORDS: u64 = 10_000_000;
const ROUNDS: usize = 5;
const LEAST_RATIO: f64 = 0.5;
const MOST_MEMORY: u64 = 64 << 20;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Cargo hands `--bench` to a bench without a harness.
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(RECORDS);
    let file = tempfile::NamedTempFile::new()?;
    let (records, hazards) = generate(file.reopen()?, wanted)?;
    let bytes = file.as_file().metadata()?.len();
    println!("{records} records in {} MiB, {} bytes each", bytes >> 20, bytes / records);

    let mut decode = Best::default();
    let mut judge = Best::default();
    for _ in 0..ROUNDS {
        decode.time(|| decode_alone(file.reopen()?))?;
        let outcome = judge.time(|| decode_and_judge(file.reopen()?))?;
        assert_eq!(outcome.statistics.records, records, "every record reaches the engine");
        let errors = outcome.occurrences.iter().filter(|found| found.place.breach.is_none());
        let found: u64 = errors.map(|found| found.count).sum();
        assert_eq!(found, hazards, "the engine finds what was put in");
        assert!(outcome.reasons().is_empty(), "{:?}", outcome.reasons());
    }
    let ratio = decode.seconds / judge.seconds;
    let peak = peak_memory()?;
    println!("decode:          {}", decode.shown(records));
    println!("decode + engine: {}", judge.shown(records));
    println!("ratio:           {ratio:.2} (at least {LEAST_RATIO})");
    println!("peak memory:     {} KiB (less than {})", peak >> 10, MOST_MEMORY >> 10);
    let good = ratio >= LEAST_RATIO && peak < MOST_MEMORY;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The shortest of several runs: what disturbs a run only makes it longer.
struct Best {
    seconds: f64,
}

impl Default for Best {
    fn default() -> Self {
        Self { seconds: f64::INFINITY }
    }
}

impl Best {
    fn time<T>(&mut self, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
        let start = cpu_time()?;
        let result = work()?;
        let spent = cpu_time()?.saturating_sub(start);
        self.seconds = self.seconds.min(spent.as_secs_f64());
        Ok(result)
    }

    fn shown(&self, records: u64) -> String {
        #[allow(clippy::cast_precision_loss, reason = "a count of millions, shown with one decimal")]
        let records = records as f64;
        format!(
            "{:.1} M records/s, {:.1} ns each",
            records / self.seconds / 1e6,
            self.seconds / records * 1e9
        )
    }
}

/// How long this thread, the only one, has run.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos = schedstat.split_whitespace().next().ok_or("/proc/self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn decode_alone(file: File) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::new("bench", file)?;
    while let Some(batch) = reader.next_batch()? {
        black_box(batch);
    }
    Ok(())
}

fn decode_and_judge(file: File) -> Result<Outcome, Box<dyn Error>> {
    let mut reader = Reader::new("bench", file)?;
    let mut engine = Engine::new(Config { arch: Arch::X86_64, ..Config::default() });
    while let Some(batch) = reader.next_batch()? {
        engine.process_all(batch);
    }
    Ok(engine.finish())
}

/// The most memory that this process ever had resident, in bytes.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// Writes the trace. Returns how many records and how many hazards are in it.
fn generate(file: File, wanted: u64) -> Result<(u64, u64), Box<dyn Error>> {
    let mut writer = Writer::new(file, &Header::default())?;
    let mut machine = Machine::new();
    let mut written = 0;
    while written < wanted {
        machine.turn();
        writer.records(&machine.records)?;
        written += machine.records.len() as u64;
        machine.records.clear();
    }
    writer.finish()?;
    Ok((written, machine.hazards))
}

const CPUS: u16 = 4;

/// A machine whose CPUs run sections in turns of a few dozen records.
struct Machine {
    random: u64,
    time: u64,
    records: Vec<Record>,
    /// By CPU: what is left to be delivered of the section that runs there.
    running: Vec<std::vec::IntoIter<Record>>,
    hazards: u64,
}

/// The sites of the sections, each with its call path; the ids are hashes and look like it.
#[derive(Clone, Copy)]
struct Site(u64);

impl Site {
    fn stack(self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    fn caller(self) -> u64 {
        0xffff_ffff_8120_0000 + self.0 * 0x4c3
    }
}

impl Machine {
    fn new() -> Self {
        let running = (0..CPUS).map(|_| Vec::new().into_iter()).collect();
        Self { random: 0x2545_f491_4f6c_dd1d, time: 90_000_000_000, records: Vec::new(), running, hazards: 0 }
    }

    /// xorshift64: the same trace each time.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Lets each CPU deliver some records.
    fn turn(&mut self) {
        for cpu in 0..CPUS {
            let burst = 8 + self.random(57);
            for _ in 0..burst {
                let record = self.running[usize::from(cpu)].next();
                let record = record.unwrap_or_else(|| {
                    let mut section = self.section(cpu).into_iter();
                    let first = section.next().unwrap_or_default();
                    self.running[usize::from(cpu)] = section;
                    first
                });
                self.time += 30 + self.random(200);
                self.records.push(Record { time: self.time, ..record });
            }
        }
    }

    /// One section of a system call, over part of a page table.
    fn section(&mut self, cpu: u16) -> Vec<Record> {
        let tid = 1000 + u32::from(cpu) * 50 + self.random(3) as u32;
        let who = Record { tid, tgid: tid, cpu, level: Level::Pte as u8, count: 1, ..Record::default() };
        let most = if self.random(4) == 0 { 512 } else { 48 };
        let pages = 1 + self.random(most);
        let tables = [self.random(1 << 20), self.random(1 << 20)];
        let [source, target] = tables.map(|table| 0xffff_8880_0000_0000 + (table << 12));
        let kind = self.random(4);
        let large = self.random(8) == 0;
        let mut out = vec![mode(who, Op::Enter, 1, Site(kind * 10))];
        let mut page = 0;
        while page < pages {
            // A large folio is handled in one go.
            let count = if large { 16.min(pages - page) } else { 1 };
            let frame = 0x100_0000 + self.random(0x40_0000);
            let value = 0x8000_0000_0000_0867 | frame << 12;
            let site = |number| Site(kind * 10 + number);
            let from = Record { entry: source + 8 * page, ..who };
            let to = Record { entry: target + 8 * page, count: count as u16, ..who };
            let all = Record { count: count as u16, ..from };
            out.push(read(from, value, site(1)));
            match kind {
                // copy_pte_range(): write-protect the parent's, set the child's.
                0 => {
                    out.push(rmw(all, Op::WrprotectPtes, value, site(2)));
                    out.push(write(to, Op::SetPtes, value & !2, site(3)));
                }
                // change_pte_range()
                1 => {
                    out.push(rmw(all, Op::ModifyProtStart, value, site(2)));
                    out.push(write(all, Op::ModifyProtCommit, value & !2, site(3)));
                }
                // zap_pte_range()
                2 => out.push(rmw(all, Op::GetAndClearFullPtes, value, site(2))),
                // move_ptes()
                _ => {
                    out.push(rmw(all, Op::GetAndClearFullPtes, value, site(2)));
                    out.push(write(to, Op::SetPtes, value, site(3)));
                }
            }
            page += count;
        }
        // One section in two thousand has the hazard.
        if self.random(2000) == 0 {
            let entry = Record { entry: source, ..who };
            out.push(write(entry, Op::SetPtes, 0x8000_0000_0123_4867, Site(91)));
            out.push(read(entry, 0x8000_0000_0123_4867, Site(92)));
            self.hazards += 1;
        }
        out.push(mode(who, Op::Leave, 0, Site(kind * 10 + 4)));
        out
    }
}

fn mode(who: Record, op: Op, enable: u64, site: Site) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    let (stack, caller) = (site.stack(), site.caller());
    Record {
        kind: Kind::Section as u8,
        op: op as u8,
        level: 0,
        count: 0,
        value: enable,
        flags,
        stack,
        caller,
        ..who
    }
}

fn read(at: Record, value: u64, site: Site) -> Record {
    access(at, Kind::Read, Op::PtepGet, value, value, site)
}

fn write(at: Record, op: Op, value: u64, site: Site) -> Record {
    access(at, Kind::Write, op, value, value, site)
}

fn rmw(at: Record, op: Op, old: u64, site: Site) -> Record {
    access(at, Kind::Rmw, op, old, old & !2, site)
}

fn access(at: Record, kind: Kind, op: Op, value: u64, memory: u64, site: Site) -> Record {
    let flags = Flags::VALUE | Flags::MEMORY;
    let (stack, caller) = (site.stack(), site.caller());
    Record { kind: kind as u8, op: op as u8, value, memory, flags, stack, caller, ..at }
}

//! How long the view of a large trace takes to open, how long its longest stall is while the trace is judged and gone
//! through, and how much memory it needs.
//!
//! Makes the trace that `replay` is measured with, opens it as `lazymmu tui` does, and types keys as fast as frames are drawn,
//! until all is judged and for some hundred keys more. Fails if the first frame comes after two seconds, if any key with
//! its frame takes more than 50 ms of processor time, or if the peak of memory is over 200 MiB.
//!
//! `cargo xtask bench tui`, and `cargo xtask bench tui -- --records 50M` for the long run: it writes 20 bytes for each record
//! to the temporary directory and removes them.

#[path = "replay/machine.rs"]
mod machine;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lazymmu_report::{Date, Suppressions};
use lazymmu_trace::{Header, Reader, Writer};
use lazymmu_tui::source::{Bytes, Judging, TraceSource};
use lazymmu_tui::{Effect, Input, Key, Look, Source, State, draw, script};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tempfile::NamedTempFile;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RECORDS: u64 = 10_000_000;
const FIRST_FRAME: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_millis(50);
const MEMORY: u64 = 200 << 20;
const SIZE: (u16, u16) = (120, 40);

/// What is typed again and again: every view, and every way through the trace.
const KEYS: &str = "jjk<Enter><PageDown><PageDown>3jjjke<PageDown>e44..]]}}{[t50%<Enter>jj<Enter>5jj/hook<Enter>n?time<Esc>:sort<Enter>1sr";

/// So many keys after all is judged.
const MORE_KEYS: usize = 500;

fn main() -> Result<ExitCode> {
    let wanted = wanted()?;
    let trace = NamedTempFile::new()?;
    let records = generate(&trace, wanted)?;
    println!("{records} records in {} MiB", trace.as_file().metadata()?.len() >> 20);
    // The peak so far is that of who wrote the trace.
    std::fs::write("/proc/self/clear_refs", "5")?;

    let began = Instant::now();
    let mut source = open(&trace)?;
    let about = Arc::new(source.about().clone());
    let first = source.snapshot();
    let mut view = View {
        state: State::new(about, first, Look::default(), SIZE),
        terminal: Terminal::new(TestBackend::new(SIZE.0, SIZE.1))?,
        worst: Duration::ZERO,
        took: Vec::new(),
    };
    view.frame()?;
    let opened = began.elapsed();

    let keys = script(KEYS)?;
    let mut longest_answer = Duration::ZERO;
    let mut judged = None;
    let mut left = MORE_KEYS;
    for key in keys.iter().cycle() {
        view.step(&mut source, *key)?;
        if source.has_failed() {
            return Err("a thread failed".into());
        }
        if view.state.latest.done {
            judged.get_or_insert_with(|| began.elapsed());
            left -= 1;
            // From here on it is waited for what was asked for.
            let asked = Instant::now();
            while source.is_busy() {
                std::thread::sleep(Duration::from_millis(1));
            }
            longest_answer = longest_answer.max(asked.elapsed());
        }
        if left == 0 {
            break;
        }
    }
    let peak = peak_memory()?;
    view.took.sort_unstable();
    println!("first frame after:  {} ms (less than {})", opened.as_millis(), FIRST_FRAME.as_millis());
    println!("all judged after:   {:.1} s", judged.unwrap_or_default().as_secs_f64());
    println!(
        "longest stall:      {:.1} ms of processor time of {} keys and frames (less than {}); on the wall {:.1} ms",
        view.worst.as_secs_f64() * 1e3,
        view.took.len(),
        STALL.as_millis(),
        view.took.last().copied().unwrap_or_default().as_secs_f64() * 1e3
    );
    println!(
        "middle one:         {:.1} ms on the wall",
        view.took.get(view.took.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
    );
    println!("longest answer:     {} ms, while the screen goes on", longest_answer.as_millis());
    println!("peak memory:        {} MiB (less than {})", peak >> 20, MEMORY >> 20);
    let good = opened < FIRST_FRAME && view.worst < STALL && peak < MEMORY;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is on the screen.
struct View {
    state: State,
    terminal: Terminal<TestBackend>,
    /// The longest by the time that the thread had the processor: how busy the machine is changes that little.
    worst: Duration,
    /// All, on the wall.
    took: Vec<Duration>,
}

impl View {
    fn frame(&mut self) -> Result<()> {
        self.terminal.draw(|frame| draw(&self.state, frame))?;
        Ok(())
    }

    /// A key and its frame, with all that came meanwhile.
    fn step(&mut self, source: &mut TraceSource, key: Key) -> Result<()> {
        let (began, began_working) = (Instant::now(), worked()?);
        let latest = source.snapshot();
        let mut effects = Vec::new();
        if !Arc::ptr_eq(&latest, &self.state.latest) {
            effects.extend(self.state.update(Input::Snapshot(latest)));
        }
        for answer in source.answers() {
            effects.extend(self.state.update(Input::Answer(answer)));
        }
        effects.extend(self.state.update(Input::Key(key)));
        for effect in effects {
            if let Effect::Request(request) = effect {
                source.request(request);
            }
        }
        self.frame()?;
        self.took.push(began.elapsed());
        self.worst = self.worst.max(worked()?.saturating_sub(began_working));
        Ok(())
    }
}

fn open(trace: &NamedTempFile) -> Result<TraceSource> {
    let path = trace.path().to_owned();
    let reopen = move || {
        let file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
        let bytes: Box<dyn Bytes> = Box::new(file);
        Reader::new("bench", bytes).map_err(|error| error.to_string())
    };
    let judging = Judging {
        suppressions: Suppressions::shipped(),
        today: Date::from_days_since_1970(20_000),
        filter: None,
    };
    Ok(TraceSource::open("bench".to_owned(), Arc::new(reopen), judging)?)
}

fn generate(trace: &NamedTempFile, wanted: u64) -> Result<u64> {
    let mut writer = Writer::new(trace.reopen()?, &Header::default())?;
    machine::write_stacks(&mut writer)?;
    let mut machine = machine::Machine::new();
    let mut written = 0;
    while written < wanted {
        let records = machine.next();
        writer.records(records)?;
        written += records.len() as u64;
    }
    writer.finish()?;
    println!("{} hazards on {} CPUs", machine.hazards(), machine::CPUS);
    Ok(written)
}

/// `--records N`; K and M count thousands and millions.
fn wanted() -> Result<u64> {
    let mut arguments =
        std::env::args().skip(1).filter(|argument| argument != "--bench" && argument != "--records");
    let Some(number) = arguments.next() else { return Ok(RECORDS) };
    let (digits, unit) = match number.as_bytes().last() {
        Some(b'K') => (&number[..number.len() - 1], 1_000),
        Some(b'M') => (&number[..number.len() - 1], 1_000_000),
        _ => (number.as_str(), 1),
    };
    let count: u64 = digits.parse().map_err(|_| format!("{number} is no number of records, such as 50M"))?;
    count.checked_mul(unit).ok_or_else(|| "too many records".into())
}

/// For how long this thread had a processor.
fn worked() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = text.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(ns.parse()?))
}

/// The most memory that this process had, in bytes.
fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes << 10)
}

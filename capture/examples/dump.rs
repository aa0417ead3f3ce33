//! Captures while a command runs, and prints what came: `dump [--ring BYTES] [--all] [--stall MS] [--records] CMD...`.
//!
//! A tool for those who work on the programs: it knows no rules and writes no trace. It fails if what was seen and
//! what was lost are not together what was produced, or if a stack has not the id of its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use lazymmu_abi::{Kind, Op, Record, StackHash};
use lazymmu_capture::{Capture, Item, Options, Scope};

/// What the command line says.
struct Arguments {
    options: Options,
    /// Sleep this long after each batch, so that the ring overflows.
    stall: Duration,
    records: bool,
    command: Vec<String>,
}

/// What came in.
#[derive(Default)]
struct Sum {
    kinds: BTreeMap<u8, u64>,
    stacks: BTreeSet<u64>,
    named: BTreeSet<u64>,
    wrong_ids: u64,
    short_stacks: u64,
    lost: u64,
    backward: u64,
    time_by_cpu: BTreeMap<u16, u64>,
    batches: u64,
    interrupts: u64,
    no_memory: u64,
    /// The longest that a record waited for its batch, in ns.
    waited: u64,
}

impl Sum {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Record(record) => self.add_record(record),
            Item::Stack(stack) => {
                self.stacks.insert(stack.id);
                self.wrong_ids += u64::from(StackHash::of(&stack.addresses) != stack.id);
                self.short_stacks += u64::from(stack.addresses.len() < 2);
            }
        }
    }

    fn add_record(&mut self, record: &Record) {
        *self.kinds.entry(record.kind).or_default() += 1;
        if record.stack != 0 {
            self.named.insert(record.stack);
        }
        self.interrupts += u64::from(record.context() != lazymmu_abi::Context::Task);
        if matches!(Kind::try_from(record.kind), Ok(Kind::Read | Kind::Write | Kind::Rmw)) {
            self.no_memory += u64::from(record.known_memory().is_none());
        }
        if record.kind == Kind::Lost as u8 {
            self.lost += record.value;
        } else {
            self.waited = self.waited.max(now().saturating_sub(record.time));
            let last = self.time_by_cpu.insert(record.cpu, record.time).unwrap_or(0);
            self.backward += u64::from(record.time < last);
        }
    }
}

/// The clock of the records.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Prints what the programs log.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("log {}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

fn main() -> ExitCode {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = arguments().and_then(|arguments| {
        runtime.map_err(|error| format!("start the runtime: {error}"))?.block_on(run(&arguments))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: failed to {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed =
        Arguments { options: Options::default(), stall: Duration::ZERO, records: false, command: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse::<u32>().ok());
            value.ok_or_else(|| format!("read the arguments: {argument} wants a number"))
        };
        match argument.as_str() {
            "--ring" => parsed.options.ring_bytes = number()?,
            "--stall" => parsed.stall = Duration::from_millis(number()?.into()),
            "--all" => parsed.options.scope = Scope::All,
            "--records" => parsed.records = true,
            _ => {
                parsed.command.push(argument);
                parsed.command.extend(&mut arguments);
            }
        }
    }
    if parsed.command.is_empty() {
        Err("read the arguments: a command is missing".to_owned())
    } else {
        Ok(parsed)
    }
}

async fn run(arguments: &Arguments) -> Result<bool, String> {
    let mut capture = Capture::open(arguments.options).map_err(|error| {
        if let Some(log) = error.verifier_log() {
            eprintln!("{log}");
        }
        format!("{error} ({:?})", error.class())
    })?;
    println!("kernel {:?}", capture.kernel());
    for loaded in capture.hooks() {
        println!("program {:<20} verified {:?}", loaded.hook.program, loaded.verified_instructions);
    }
    let mut child = tokio::process::Command::new(&arguments.command[0])
        .args(&arguments.command[1..])
        .spawn()
        .map_err(|error| format!("run {}: {error}", arguments.command[0]))?;

    let mut sum = Sum::default();
    let mut items = Vec::new();
    let mut take = |items: &mut Vec<Item>| {
        for item in items.drain(..) {
            sum.add(&item);
            if arguments.records {
                println!("{}", line(&item));
            }
        }
        sum.batches += 1;
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|error| format!("wait for the command: {error}"))?,
            batch = capture.next_batch(&mut items) => {
                batch.map_err(|error| error.to_string())?;
                take(&mut items);
                std::thread::sleep(arguments.stall);
            }
        }
    };
    let totals = capture.stop(&mut items).await.map_err(|error| error.to_string())?;
    take(&mut items);

    println!("command: {status}");
    for (kind, count) in &sum.kinds {
        println!("{:<10} {count}", Kind::try_from(*kind).map_or("?", Kind::name));
    }
    let unknown = sum.named.difference(&sum.stacks).count();
    let Sum {
        stacks, wrong_ids, short_stacks, lost, backward, batches, interrupts, no_memory, waited, ..
    } = sum;
    println!(
        "stacks: {} sent, {wrong_ids} wrong ids, {short_stacks} of one frame, {unknown} named but not sent",
        stacks.len()
    );
    println!(
        "{batches} batches, {backward} times backward, {interrupts} from interrupts, {no_memory} without memory"
    );
    println!("a record waited {} ms at most", waited / 1_000_000);
    println!("{totals:?}");
    println!("produced {} = seen {} + lost {} (told {lost})", totals.produced, totals.seen, totals.lost());
    Ok(totals.balanced() && lost == totals.lost() && wrong_ids == 0 && (unknown == 0 || lost > 0))
}

fn line(item: &Item) -> String {
    match item {
        Item::Stack(stack) => format!("stack {:016x} {:x?}", stack.id, stack.addresses),
        Item::Record(record) => format!(
            "{} cpu{} {} {} {} {} entry={:x} value={:x} memory={:x?} n={} caller={:x} stack={:016x} {:?}",
            record.time,
            record.cpu,
            record.tid,
            Kind::try_from(record.kind).map_or("?", Kind::name),
            Op::try_from(record.op).map_or("-", Op::name),
            record.level,
            record.entry,
            record.value,
            record.known_memory(),
            record.count,
            record.caller,
            record.stack,
            record.context(),
        ),
    }
}

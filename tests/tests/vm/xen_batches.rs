//! The batches of stores that our records tell of, compared with what the kernel says that it sends to the hypervisor, by
//! its own tracepoint `xen:xen_mc_flush`.

use std::path::Path;

use lazymmu_abi::{Kind, Op};
use lazymmu_tests::number_before;
use lazymmu_trace::Reader;
use lazymmu_vm::Step;

/// Bytes of the argument that stores one entry (`struct mmu_update` of include/xen/interface/xen.h). All stores of a
/// batch are arguments of one hypercall (`xen_extend_mmu_update` of arch/x86/xen/mmu_pv.c, 6.12).
const UPDATE: u64 = 16;

/// How many fit into the queue.
const FULL: u64 = 31;

fn tracing(path: &str, text: &str) -> Step {
    Step::Write { path: Path::new("/sys/kernel/tracing").join(path), text: text.to_owned() }
}

/// Switches the tracepoint on, for what may be a batch of stores.
pub(crate) fn begin() -> [Step; 3] {
    [
        tracing("trace_clock", "mono"),
        tracing("events/xen/xen_mc_flush/filter", "mcidx == 1 && argidx > 0"),
        tracing("events/xen/xen_mc_flush/enable", "1"),
    ]
}

/// Switches it off, and leaves what it said in a file.
pub(crate) fn end(file: &str) -> [Step; 2] {
    let copy = Step::Copy { from: "/sys/kernel/tracing/trace".into(), to: file.into() };
    [tracing("events/xen/xen_mc_flush/enable", "0"), copy]
}

/// What happens to the queue.
#[derive(Clone, Copy, Debug)]
enum Event {
    Enter,
    Leave,
    /// So many entries are stored.
    Store(u64),
    /// So many bytes of arguments go to the hypervisor.
    Flush(u64),
}

/// What a trace has of tasks, with the times in nanoseconds.
fn recorded(trace: &[u8]) -> Vec<(u32, u64, Event)> {
    let mut reader = Reader::from_bytes(trace).unwrap_or_else(|error| panic!("{error}"));
    let mut events = Vec::new();
    while let Some(batch) = reader.records.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        for record in batch {
            let event = match Op::try_from(record.op) {
                Ok(Op::Enter) => Event::Enter,
                Ok(Op::Leave) => Event::Leave,
                _ if record.kind == Kind::Write as u8 => Event::Store(record.count.into()),
                _ => continue,
            };
            events.push((record.tid, record.time, event));
        }
    }
    events
}

/// The lines of ftrace, `lazymmu-140 [000] d..1. 16.786148: xen_mc_flush: flushing 1 hypercalls, 496 arg bytes, ...`.
fn flushes(text: &str) -> Vec<(u32, u64, Event)> {
    let flush = |line: &str| {
        let (before, after) = line.split_once(": xen_mc_flush: ")?;
        let (task, rest) = before.split_once(" [")?;
        let tid = task.rsplit('-').next()?.trim().parse().ok()?;
        let (seconds, micros) = rest.rsplit(' ').next()?.split_once('.')?;
        let time = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        // ftrace cuts off what is below a microsecond.
        Some((tid, time * 1000 + 999, Event::Flush(number_before(after, "arg bytes")?)))
    };
    text.lines().filter_map(flush).collect()
}

/// Fails unless every batch of a section is as large as the kernel says.
pub(crate) fn compare(trace: &[u8], ftrace: &[u8]) {
    let mut events = recorded(trace);
    events.extend(flushes(&String::from_utf8_lossy(ftrace)));
    events.sort_by_key(|(tid, time, _)| (*tid, *time));
    let mut task = 0;
    let (mut inside, mut leaving) = (false, false);
    let (mut stores, mut batches) = (0, Vec::new());
    for (tid, time, event) in events {
        if tid != task {
            (task, inside, leaving, stores) = (tid, false, false, 0);
        }
        match event {
            Event::Enter => (inside, leaving, stores) = (true, false, 0),
            // The flush of a leave comes after it. Of an empty queue it is not shown.
            Event::Leave => (inside, leaving) = (stores > 0, true),
            Event::Store(entries) => stores += entries,
            // An operation on the TLB or on CR3, by a context switch for instance, is of another size.
            Event::Flush(bytes) if inside && bytes % UPDATE == 0 => {
                batches.push((stores, bytes / UPDATE, time));
                (inside, stores) = (!leaving, 0);
            }
            Event::Flush(_) => {}
        }
    }
    let full = batches.iter().filter(|(_, of_kernel, _)| *of_kernel == FULL).count();
    println!("{} batches, {full} of them full", batches.len());
    assert!(full > 100, "only {full} of {} batches are full", batches.len());
    let wrong: Vec<_> = batches.iter().filter(|(ours, of_kernel, _)| ours != of_kernel).collect();
    assert!(wrong.is_empty(), "{} of {} batches differ: {wrong:?}", wrong.len(), batches.len());
}

//! What happens to page tables beside accesses and mode calls: kernel page faults and flushes of the TLB. The faults are
//! made to order: a probe of ftrace that fetches from an address at which nothing is mapped.

use std::collections::BTreeMap;

use lazymmu_abi::{Flags, Kind, Op, Record};
use lazymmu_tests::{Series, number_before, step_output};
use lazymmu_trace::Reader;
use lazymmu_vm::Step;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// In the hole at the end of the address space, where nothing is ever mapped (Documentation/arch/x86/x86_64/mm.rst, 6.12
/// and 7.2).
const NOWHERE: u64 = 0xffff_ffff_fff0_0000;

/// `flush_tlb_mm_range` is told so if all of an address space is to be flushed (arch/x86/include/asm/tlbflush.h).
const FLUSH_ALL: u64 = u64::MAX;

fn tracing(path: &str, text: &str) -> Step {
    Step::Write { path: format!("/sys/kernel/tracing/{path}").into(), text: text.to_owned() }
}

fn record<'a>(trace: &'a str, scope: &'a str, workload: &'a str) -> lazymmu_vm::Command {
    lazymmu(["record", "-o", trace, "--scope", scope, "--", "workload", "run", workload])
}

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        // `zap_pte_range` calls this function for each page, inside a section.
        let in_sections = format!("p:lab/inside vm_normal_page value=@{NOWHERE:#x}");
        // A fault by the end of a process, and one by each walk of a stack: that of the program which the first one
        // starts is then inside of that program.
        let nested = format!(
            "e:lab/outer syscalls.sys_enter_exit_group value=@{NOWHERE:#x}\n\
             p:lab/inner get_perf_callchain value=@{NOWHERE:#x}"
        );
        let live = [
            "live",
            "--format",
            "json",
            "--scope",
            "all",
            "--record",
            "/out/nested.lmt",
            "--",
            "workload",
            "run",
        ];
        Plan::new()
            .run_as("flushes", record("/out/flushes.lmt", "all", "mprotect"))
            .run_as("inside", record("/out/inside.lmt", "sections", "pagemap-scan"))
            .step(tracing("dynamic_events", &in_sections))
            .step(tracing("events/lab/inside/enable", "1"))
            .run_as("faults", record("/out/faults.lmt", "sections", "munmap"))
            .step(tracing("events/lab/inside/enable", "0"))
            .step(tracing("dynamic_events", &nested))
            .step(tracing("events/lab/outer/enable", "1"))
            .step(tracing("events/lab/inner/enable", "1"))
            .run_as("nested", lazymmu(live.into_iter().chain(["munmap"])))
    })
}

/// A record, with the functions of its stack and whether its task was in a section.
struct Event {
    record: Record,
    functions: Vec<String>,
    in_section: bool,
}

/// The records of a kind in a trace of the run.
fn events(run: &Run, trace: &str, kind: Kind) -> Vec<Event> {
    let mut reader = Reader::from_bytes(run.file(trace)).unwrap_or_else(|error| panic!("{error}"));
    let mut depths: BTreeMap<u32, i32> = BTreeMap::new();
    let mut events = Vec::new();
    while let Some(batch) = reader.records.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        for record in batch {
            let depth = depths.entry(record.tid).or_default();
            match Op::try_from(record.op) {
                Ok(Op::Enter) => *depth += 1,
                Ok(Op::Leave) => *depth -= 1,
                _ => {}
            }
            if record.kind == kind as u8 {
                let frames = reader.about.symbols.frames(record.stack);
                let functions = frames.map(|frame| frame.function.clone()).collect();
                events.push(Event { record: *record, functions, in_section: *depth > 0 });
            }
        }
    }
    events
}

pub(crate) fn every_hook_is_attached(series: Series) {
    let run = run(series);
    let reader = Reader::from_bytes(run.file("flushes.lmt")).unwrap_or_else(|error| panic!("{error}"));
    let plan = &reader.about.header.plan;
    assert_eq!(plan.coverage(), (plan.hooks.len(), plan.hooks.len()), "{plan:#?}");
    for name in ["exceptions:page_fault_kernel", "flush_tlb_mm_range", "flush_tlb_kernel_range"] {
        assert!(plan.hooks.iter().any(|hook| hook.name == name), "{name} is not in {plan:#?}");
    }
}

pub(crate) fn flushes_of_the_tlb_are_recorded(series: Series) {
    let run = run(series);
    run.expect_exit("flushes", 0);
    let flushes = events(run, "flushes.lmt", Kind::TlbFlush);
    for Event { record, functions, .. } in &flushes {
        assert!(record.entry < record.value, "{record:x?}");
        assert!(record.entry % 0x1000 == 0, "{record:x?}");
        assert!(record.memory == 0 || record.value == FLUSH_ALL || record.value % 0x1000 == 0, "{record:x?}");
        assert_eq!(record.flags, Flags::VALUE | Flags::MEMORY, "{record:x?}");
        // Of an address space, a pointer; of the kernel, nothing.
        assert!(record.memory == 0 || record.memory >> 63 == 1, "{record:x?}");
        assert!(functions.len() > 1 && record.caller != 0, "{record:x?} {functions:?}");
        assert!(
            !functions[0].starts_with("flush_tlb_"),
            "the stack begins in the hooked function: {functions:?}"
        );
    }
    let by_mprotect = |event: &&Event| event.functions.iter().any(|function| function.contains("mprotect"));
    let found = flushes.iter().filter(by_mprotect).count();
    assert!(
        found > 0,
        "of {} flushes none is by mprotect; {}",
        flushes.len(),
        step_output(run.step("flushes"))
    );
}

/// `pagemap_scan_pmd_entry` flushes before it leaves the mode (fs/proc/task_mmu.c, 6.12 and 7.2).
pub(crate) fn flushes_in_sections_are_recorded(series: Series) {
    let run = run(series);
    let step = run.expect_exit("inside", 0);
    let flushes = events(run, "inside.lmt", Kind::TlbFlush);
    assert!(!flushes.is_empty(), "{}", step_output(step));
    for Event { record, functions, in_section } in &flushes {
        assert!(in_section, "outside of a section: {record:x?} {functions:?}");
    }
    let by_scan = |event: &Event| event.functions.iter().any(|function| function == "pagemap_scan_pmd_entry");
    assert!(flushes.iter().any(by_scan), "none is by the scan");
}

pub(crate) fn faults_in_sections_are_recorded(series: Series) {
    let run = run(series);
    run.expect_exit("faults", 0);
    let faults = events(run, "faults.lmt", Kind::Fault);
    for Event { record, functions, in_section } in &faults {
        assert!(in_section, "outside of a section: {record:x?} {functions:?}");
        assert_eq!(record.entry, NOWHERE, "{record:x?}");
        // Read by the kernel, not mapped: no bit of the error code is set (arch/x86/include/asm/trap_pf.h).
        assert_eq!(record.known_value(), Some(0), "{record:x?}");
        assert_eq!(record.known_memory(), None, "{record:x?}");
        assert_eq!(functions.first().map(String::as_str), Some("copy_from_kernel_nofault"), "{functions:?}");
    }
    let by_munmap = |event: &&Event| event.functions.iter().any(|function| function == "unmap_vmas");
    let found = faults.iter().filter(by_munmap).count();
    assert!(found > 1000, "only {found} of {} faults are by munmap", faults.len());
}

/// The kernel does not run a program inside of itself, and counts that. It is a loss like any other.
pub(crate) fn skipped_hits_are_losses(series: Series) {
    let run = run(series);
    let step = run.expect_exit("nested", 3);
    let lost = events(run, "nested.lmt", Kind::Lost);
    let skipped = lost.iter().filter(|event| event.record.cpu == Record::ANY_CPU && event.record.op == 0);
    let skipped: u64 = skipped.map(|event| event.record.value).sum();
    assert!(skipped > 0, "{}", step_output(step));
    let report = run.report("nested");
    assert_eq!(report.verdict(), "inconclusive");
    assert_eq!(report.number("/losses/total"), lost.iter().map(|event| event.record.value).sum::<u64>());
    let stderr = String::from_utf8_lossy(&step.stderr);
    let line = stderr
        .lines()
        .find(|line| line.contains("items:"))
        .unwrap_or_else(|| panic!("{}", step_output(step)));
    let number = |word| number_before(line, word).unwrap_or_else(|| panic!("no {word} in {line}"));
    assert_eq!(number("seen") + number("lost"), number("items"), "{line}");
    assert!(number("lost") >= skipped, "{line}");
}

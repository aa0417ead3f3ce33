//! Which of the kernel's lazy sections the workloads enter. What they do not enter is printed with the reason, so that
//! it is known and not forgotten; docs/workloads.md has the same table. `cargo xtask sections` runs this and shows it.

pub(crate) mod kasan;

use std::collections::{BTreeMap, BTreeSet};

use lazymmu_abi::Op;
use lazymmu_tests::{Report, Series, step_output};
use lazymmu_trace::Reader;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// A workload's name, its trace, and the functions that must open or pause sections meanwhile.
type Expected = (&'static str, &'static str, &'static [&'static str]);

const WORKLOADS: [Expected; 18] = [
    ("fork-exclusive", "/out/fork-exclusive.lmt", &["copy_pte_range"]),
    ("fork", "/out/fork.lmt", &["copy_pte_range"]),
    ("mprotect", "/out/mprotect.lmt", &["change_pte_range"]),
    ("mremap", "/out/mremap.lmt", &["move_ptes"]),
    ("munmap", "/out/munmap.lmt", &["zap_pte_range"]),
    (
        "madvise",
        "/out/madvise.lmt",
        &["madvise_cold_or_pageout_pte_range", "madvise_free_pte_range", "zap_pte_range"],
    ),
    (
        "swap",
        "/out/swap.lmt",
        &["copy_pte_range", "change_pte_range", "move_ptes", "zap_pte_range", "madvise_free_pte_range"],
    ),
    ("swap-private-file", "/out/swap-private-file.lmt", &["zap_pte_range"]),
    (
        "thp",
        "/out/thp.lmt",
        &[
            "change_pte_range",
            "copy_pte_range",
            "madvise_cold_or_pageout_pte_range",
            "madvise_free_pte_range",
        ],
    ),
    ("lru-gen", "/out/lru-gen.lmt", &["walk_pte_range", "walk_pmd_range_locked", "lru_gen_look_around"]),
    ("ksm", "/out/ksm.lmt", &["copy_pte_range", "change_pte_range", "zap_pte_range"]),
    ("userfaultfd-move", "/out/userfaultfd-move.lmt", &["move_present_ptes"]),
    ("pagemap-scan", "/out/pagemap-scan.lmt", &["pagemap_scan_pmd_entry"]),
    ("migrate-device", "/out/migrate-device.lmt", &["migrate_vma_collect_pmd", "copy_pte_range"]),
    ("vmalloc", "/out/vmalloc.lmt", &["vmap_pages_pte_range", "vunmap_pte_range"]),
    ("ioremap", "/out/ioremap.lmt", &["vmap_pte_range", "vunmap_pte_range"]),
    ("bpf-arena", "/out/bpf-arena.lmt", &["apply_to_pte_range"]),
    ("remap-pfn", "/out/remap-pfn.lmt", &["remap_pte_range"]),
];

/// BPF arenas allocate by `kmalloc_nolock`, which takes a CPU with cmpxchg16b, which emulated machines do not show, or
/// debug caches (mm/slub.c:5414, 7.2).
const PARAMETERS: &str = "slab_debug=F,kmalloc-*";

/// Functions of 7.2 that open or pause a section and that no workload enters on the usual kernel, and why.
const NOT_ENTERED: [(&str, &str); 3] = [
    ("kasan_populate_vmalloc_pte", "CONFIG_KASAN_VMALLOC is not set; the variant kasan has it"),
    ("kasan_depopulate_vmalloc_pte", "CONFIG_KASAN_VMALLOC is not set; the variant kasan has it"),
    ("xen_start_context_switch", "only as a Xen PV guest"),
];

/// Runs workloads, each of them watched.
fn plan(workloads: &[Expected]) -> Plan {
    workloads.iter().fold(Plan::new().with_debug_info().append(PARAMETERS), |plan, (name, trace, _)| {
        let live = ["live", "--format", "json", "--record", trace, "--", "workload", "run", name];
        plan.run_as(name, lazymmu(live))
    })
}

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || plan(&WORKLOADS))
}

/// The functions that opened or paused sections in a trace, innermost and with inlining undone, and how often.
fn openers(trace: &[u8]) -> BTreeMap<String, usize> {
    let mut reader = Reader::from_bytes(trace).unwrap_or_else(|error| panic!("{error}"));
    let mut openers = BTreeMap::new();
    while let Some(batch) = reader.records.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        let begins = |op: u8| op == Op::Enter as u8 || op == Op::Pause as u8;
        for record in batch.iter().filter(|record| begins(record.op)) {
            let frames = reader.about.symbols.frames(record.stack);
            // The mode's own functions are inlined into the one that uses them.
            let mut functions = frames.map(|frame| frame.function.as_str());
            let opener = functions.find(|function| !function.starts_with("lazy_mmu_mode_"));
            *openers.entry(opener.unwrap_or("(unknown)").to_owned()).or_default() += 1;
        }
    }
    openers
}

/// Which workloads entered each function's sections. Fails if one did not do what it says, or did not enter what it
/// must.
fn entered(run: &Run, workloads: &[Expected]) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut missing = Vec::new();
    let mut entered: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (name, trace, expected) in workloads {
        let step = run.step(name);
        let done = String::from_utf8_lossy(&step.stderr).contains(&format!("{name}: "));
        assert!(done, "{name} did not do what it says; {}", step_output(step));
        let openers = openers(run.file(trace.trim_start_matches("/out/")));
        for function in expected.iter().filter(|function| !openers.contains_key(**function)) {
            missing.push(format!("{function} by {name}; {}", step_output(step)));
        }
        for function in openers.into_keys() {
            entered.entry(function).or_default().insert(name);
        }
    }
    assert!(missing.is_empty(), "not entered:\n{}", missing.join("\n"));
    entered
}

/// The names of workloads. What happens in all of them is no merit of any.
fn shown(by: &BTreeSet<&'static str>, all: usize) -> String {
    if by.len() == all { "every run".to_owned() } else { by.iter().copied().collect::<Vec<_>>().join(", ") }
}

pub(crate) fn are_entered(series: Series) {
    let entered = entered(run(series), &WORKLOADS);
    let list = lazymmu_tests::sections().unwrap_or_else(|error| panic!("{error}"));
    println!("sections of the kernel's source, and the workloads that enter them:");
    for (function, place) in &list {
        let why_not = NOT_ENTERED.iter().find(|(name, _)| name == function).map(|(_, why)| *why);
        match (entered.get(function), why_not) {
            (Some(by), None) => println!("{function} ({place}): {}", shown(by, WORKLOADS.len())),
            (None, Some(why)) => println!("{function} ({place}): not entered: {why}"),
            (Some(_), Some(_)) => panic!("{function} is entered: its line in NOT_ENTERED is wrong"),
            (None, None) => panic!("{function} ({place}) is not entered, and nobody says why"),
        }
    }
    // A function that the list does not have would be one that nobody counts on.
    for function in entered.keys().map(String::as_str).chain(NOT_ENTERED.map(|(function, _)| function)) {
        assert!(list.iter().any(|(name, _)| name == function), "{function} opens no section by the source");
    }
}

/// The classes that docs/findings.md explains: the rule, and functions on the stacks of the write and of the access.
const EXPLAINED: [(&str, &str, &str); 5] = [
    ("read-pending", "restore_exclusive_pte", "copy_pte_range"),
    ("rmw-pending", "restore_exclusive_pte", "copy_pte_range"),
    ("read-pending", "zap_nonpresent_ptes", "pte_install_uffd_wp_if_needed"),
    ("tlb-before-flush", "pagemap_scan_pmd_entry", "pagemap_scan_pmd_entry"),
    ("tlb-before-flush", "migrate_vma_collect_pmd", "migrate_vma_collect_pmd"),
];

/// The workloads in which reads of pending entries must be found.
const HAZARDOUS: [&str; 2] = ["fork-exclusive", "swap-private-file"];

fn findings_are_explained(run: &Run, workloads: &[Expected]) {
    for (name, _, _) in workloads {
        let report = run.report(name);
        assert_eq!(report.number("/losses/total"), 0, "{name}");
        assert_ne!(report.verdict(), "inconclusive", "{name}; {}", step_output(run.step(name)));
        let found = !report.findings("read-pending").is_empty();
        assert_eq!(found, HAZARDOUS.contains(name), "{name}; {}", step_output(run.step(name)));
        for finding in report.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let explained = EXPLAINED.iter().any(|(rule, write, access)| {
                finding["rule"] == *rule
                    && Report::functions(finding, "write").contains(write)
                    && Report::functions(finding, "access").contains(access)
            });
            // An advice is no hazard.
            let advice = finding["rule"] == "wasted-section";
            assert!(
                explained || advice,
                "{name} has a finding that docs/findings.md does not know:\n{finding:#}"
            );
        }
    }
}

pub(crate) fn findings_are_known_ones(series: Series) {
    findings_are_explained(run(series), &WORKLOADS);
}

//! Which of the kernel's lazy sections the workloads enter. What they do not enter is printed with the reason, so that
//! it is known and not forgotten; docs/workloads.md has the same table.

use std::collections::{BTreeMap, BTreeSet};

use lazymmu_abi::Op;
use lazymmu_tests::{Report, Series, step_output};
use lazymmu_trace::Reader;

use crate::shared::{Plan, Run, Runs, lazymmu};

static RUNS: Runs = Runs::new();

/// What a workload does, its trace, and the functions that must open sections meanwhile.
const WORKLOADS: [(&str, &str, &[&str]); 14] = [
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
    ("userfaultfd-move", "/out/userfaultfd-move.lmt", &["move_present_ptes"]),
    ("pagemap-scan", "/out/pagemap-scan.lmt", &["pagemap_scan_pmd_entry"]),
    ("migrate-device", "/out/migrate-device.lmt", &["migrate_vma_collect_pmd", "copy_pte_range"]),
    ("vmalloc", "/out/vmalloc.lmt", &["vmap_pages_pte_range", "vunmap_pte_range"]),
    ("remap-pfn", "/out/remap-pfn.lmt", &["remap_pte_range"]),
];

/// Functions of 7.2 that open or pause a section and that no workload enters, and why.
const NOT_ENTERED: [(&str, &str); 8] = [
    (
        "apply_to_pte_range",
        "mm/memory.c: the workload bpf-arena enters it, but BPF arenas need a CPU with cmpxchg16b (mm/slub.c, \
         `kmalloc_nolock`), which emulated machines do not show",
    ),
    (
        "vmap_pte_range",
        "mm/vmalloc.c: on x86 only for device memory that a driver maps, and the machine has no device beside its \
         consoles",
    ),
    ("walk_pte_range", "mm/vmscan.c: the kernel is built without CONFIG_LRU_GEN"),
    ("walk_pmd_range_locked", "mm/vmscan.c: the kernel is built without CONFIG_LRU_GEN"),
    ("lru_gen_look_around", "mm/vmscan.c: the kernel is built without CONFIG_LRU_GEN"),
    ("kasan_populate_vmalloc_pte", "mm/kasan/shadow.c: the kernel is built without CONFIG_KASAN_VMALLOC"),
    ("kasan_depopulate_vmalloc_pte", "mm/kasan/shadow.c: the kernel is built without CONFIG_KASAN_VMALLOC"),
    ("xen_start_context_switch", "arch/x86/xen/enlighten_pv.c: only as a Xen PV guest"),
];

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || {
        let mut plan = Plan::new().with_debug_info();
        for (name, trace, _) in WORKLOADS {
            let live = ["live", "--format", "json", "--record", trace, "--", "workload", "run", name];
            plan = plan.run_as(name, lazymmu(live));
        }
        plan
    })
}

/// The functions that opened sections in a trace, innermost and with inlining undone, and how often.
fn openers(trace: &[u8]) -> BTreeMap<String, usize> {
    let mut reader = Reader::from_bytes(trace).unwrap_or_else(|error| panic!("{error}"));
    let mut openers = BTreeMap::new();
    while let Some(batch) = reader.records.next_batch().unwrap_or_else(|error| panic!("{error}")) {
        for record in batch.iter().filter(|record| record.op == Op::Enter as u8) {
            let frames = reader.about.symbols.frames(record.stack);
            // The mode's own functions are inlined into the one that uses them.
            let mut functions = frames.map(|frame| frame.function.as_str());
            let opener = functions.find(|function| !function.starts_with("lazy_mmu_mode_"));
            *openers.entry(opener.unwrap_or("(unknown)").to_owned()).or_default() += 1;
        }
    }
    openers
}

pub(crate) fn are_entered(series: Series) {
    let run = run(series);
    let mut missing = Vec::new();
    let mut entered: BTreeSet<String> = BTreeSet::new();
    for (name, trace, expected) in WORKLOADS {
        let file = trace.trim_start_matches("/out/");
        let step = run.step(name);
        let done = String::from_utf8_lossy(&step.stderr).contains(&format!("{name}: "));
        assert!(done, "{name} did not do what it says; {}", step_output(step));
        let openers = openers(run.file(file));
        println!("{name}: {openers:?}");
        for function in expected.iter().filter(|function| !openers.contains_key(**function)) {
            missing.push(format!("{function} by {name}; {}", step_output(run.step(name))));
        }
        entered.extend(openers.into_keys());
    }
    println!("\nentered: {entered:?}");
    for (function, why) in NOT_ENTERED {
        println!("not entered: {function}: {why}");
        assert!(!entered.contains(function), "{function} is entered: its line in NOT_ENTERED is wrong");
    }
    assert!(missing.is_empty(), "not entered:\n{}", missing.join("\n"));
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

pub(crate) fn findings_are_known_ones(series: Series) {
    let run = run(series);
    for (name, _, _) in WORKLOADS {
        let report = run.report(name);
        assert_eq!(report.number("/losses/total"), 0, "{name}");
        assert_ne!(report.verdict(), "inconclusive", "{name}; {}", step_output(run.step(name)));
        let found = !report.findings("read-pending").is_empty();
        assert_eq!(found, HAZARDOUS.contains(&name), "{name}; {}", step_output(run.step(name)));
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

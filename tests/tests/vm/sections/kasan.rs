//! The sections that only a kernel with KASAN has: the shadow of vmalloc space is mapped page by page inside
//! `apply_to_pte_range`'s section, which is paused for it (mm/kasan/shadow.c, 7.2).

use lazymmu_tests::Series;

use super::{Expected, entered, findings_are_explained, plan, shown};
use crate::shared::{Run, Runs};

static RUNS: Runs = Runs::new();

/// Each of them has the kernel map memory for itself.
const WORKLOADS: [Expected; 3] = [
    ("vmalloc", "/out/vmalloc.lmt", &["kasan_populate_vmalloc_pte", "kasan_depopulate_vmalloc_pte"]),
    ("fork", "/out/fork.lmt", &["copy_pte_range"]),
    ("ioremap", "/out/ioremap.lmt", &["vmap_pte_range"]),
];

/// What the kernel does only with KASAN.
const ONLY_HERE: [&str; 3] =
    ["apply_to_pte_range", "kasan_populate_vmalloc_pte", "kasan_depopulate_vmalloc_pte"];

fn run(series: Series) -> &'static Run {
    RUNS.get(series, || plan(&WORKLOADS))
}

pub(crate) fn are_entered(series: Series) {
    let entered = entered(run(series), &WORKLOADS);
    println!("sections of a kernel with KASAN, and the workloads that enter them:");
    for (function, by) in &entered {
        println!("{function}: {}", shown(by, WORKLOADS.len()));
    }
    for function in ONLY_HERE {
        assert!(entered.contains_key(function), "{function} is not entered");
    }
}

pub(crate) fn findings_are_known_ones(series: Series) {
    findings_are_explained(run(series), &WORKLOADS);
}

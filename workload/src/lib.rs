//! Small programs that make the kernel work on page tables, each in its own way.
//!
//! Some, such as `fork-exclusive`, trigger a known hazard; the others are controls in which there should be none. With the
//! module of kernel/hazards every hazard that there is a rule for can be committed (`hazard:RULE`).
//! Every one of them checks that it did what it says, so that an empty trace is never taken for a clean one.
//! Nothing here traces or judges: run a workload while lazymmu watches.
//!
//! Some fork, and a child of a process with several threads may hang, so run one in a process of its own that
//! has a single thread (`lazymmu workload run NAME`).

#![deny(unsafe_code)]

mod advise;
mod dense;
mod device;
mod error;
mod firmware;
mod fork;
mod fork_exclusive;
mod frames;
mod generations;
mod hazards;
mod huge;
mod kernel_map;
mod ksm;
mod migrate;
mod procfs;
mod range;
mod swap;
mod swap_file;
mod sys;
mod userfault;

pub use dense::{dense, handover, lives};
pub use error::Error;

/// How many pages the controls work on. Each page is an entry, and each entry is read or written at least once
/// inside a section.
const PAGES: usize = 4096;

/// Pages that were touched a moment ago may still be in a list of the CPU's own, where advice does not reach
/// them: up to 31 on each CPU (`PAGEVEC_SIZE` in include/linux/pagevec.h, 6.12; `FOLIO_BATCH_SIZE` in
/// include/linux/folio_batch.h, 7.2).
const ENOUGH: usize = PAGES * 9 / 10;

/// A workload and what it is for.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does to page tables.
    pub what: &'static str,
    /// What the kernel or the machine must have for it; empty if nothing special.
    pub needs: &'static str,
    /// Whether it changes a setting of the whole machine or uses something that there is one of, so that no other workload
    /// may run meanwhile.
    pub alone: bool,
    run: fn() -> Result<Outcome, Error>,
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A hazard that the module of kernel/hazards commits on demand. It is run as `hazard:RULE`, and its correct twin as
/// `hazard:RULE-ok`.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    /// The rule that is to find it.
    pub rule: &'static str,
    /// What it does; the twin does it right.
    pub what: &'static str,
}

/// What a workload did, in one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For example `4096 pages copied by fork and checked in both processes`.
    pub summary: String,
}

impl Outcome {
    fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into() }
    }
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "fork-exclusive",
        what: "forks while a device has exclusive access to pages: restore_exclusive_pte writes the parent's \
               entry inside copy_pte_range's section, which then reads it back",
        needs: "root, and a kernel built with CONFIG_TEST_HMM",
        alone: true,
        run: fork_exclusive::run,
    },
    Workload {
        name: "fork",
        what: "forks a process with many anonymous pages (copy_pte_range)",
        needs: "",
        alone: false,
        run: fork::run,
    },
    Workload {
        name: "mprotect",
        what: "takes the write permission from many pages and gives it back (change_pte_range)",
        needs: "",
        alone: false,
        run: range::mprotect,
    },
    Workload {
        name: "mremap",
        what: "moves many pages, entry by entry, to another address (move_ptes)",
        needs: "",
        alone: false,
        run: range::mremap,
    },
    Workload {
        name: "munmap",
        what: "unmaps many pages (zap_pte_range)",
        needs: "",
        alone: false,
        run: range::munmap,
    },
    Workload {
        name: "madvise",
        what: "tells the kernel MADV_COLD, MADV_PAGEOUT, MADV_FREE and MADV_DONTNEED about many pages \
               (madvise_cold_or_pageout_pte_range, madvise_free_pte_range, zap_pte_range)",
        needs: "CONFIG_PROC_PAGE_MONITOR, by which it checks its effect",
        alone: true,
        run: advise::run,
    },
    Workload {
        name: "page-frames",
        what: "takes the write permission from pages here and there (change_pte_range), and prints the page frame of \
               each, with which the entries in a trace can be compared",
        needs: "root, and CONFIG_PROC_PAGE_MONITOR, which tells the frames",
        alone: false,
        run: frames::run,
    },
    Workload {
        name: "swap",
        what: "swaps many pages out, then forks, protects, moves and unmaps them (the same functions, on entries of \
               swapped pages)",
        needs: "root, and swap space or a kernel built with CONFIG_ZRAM",
        alone: true,
        run: swap::run,
    },
    Workload {
        name: "swap-private-file",
        what: "swaps out a process's own copies of a file's pages and drops them: zap_nonpresent_ptes clears each \
               entry inside zap_pte_range's section and then reads it",
        needs: "root, and swap space or a kernel built with CONFIG_ZRAM",
        alone: true,
        run: swap_file::run,
    },
    Workload {
        name: "thp",
        what: "splits huge pages, works on their parts and collapses them (change_pte_range, copy_pte_range, \
               madvise_cold_or_pageout_pte_range, madvise_free_pte_range)",
        needs: "CONFIG_TRANSPARENT_HUGEPAGE, not switched off",
        alone: true,
        run: huge::run,
    },
    Workload {
        name: "lru-gen",
        what: "has the kernel look which of many pages were used, as it does to reclaim memory by generations \
               (walk_pte_range, walk_pmd_range_locked, lru_gen_look_around)",
        needs: "root, a kernel built with CONFIG_LRU_GEN and CONFIG_DEBUG_FS, and swap space or CONFIG_ZRAM",
        alone: true,
        run: generations::run,
    },
    Workload {
        name: "ksm",
        what: "has the kernel merge pages with the same data, then forks, protects, unmerges and unmaps them \
               (copy_pte_range, change_pte_range, zap_pte_range, on entries of merged pages)",
        needs: "root, and a kernel from 5.19 on, built with CONFIG_KSM",
        alone: true,
        run: ksm::run,
    },
    Workload {
        name: "userfaultfd-move",
        what: "moves many pages by UFFDIO_MOVE (move_present_ptes)",
        needs: "a kernel from 6.8 on, built with CONFIG_USERFAULTFD",
        alone: false,
        run: userfault::move_pages,
    },
    Workload {
        name: "pagemap-scan",
        what: "asks by PAGEMAP_SCAN which of many pages were written, and protects them (pagemap_scan_pmd_entry)",
        needs: "a kernel from 6.7 on, built with CONFIG_USERFAULTFD",
        alone: false,
        run: userfault::pagemap_scan,
    },
    Workload {
        name: "migrate-device",
        what: "moves many pages to a device's memory and back (migrate_vma_collect_pmd)",
        needs: "root, and a kernel built with CONFIG_TEST_HMM",
        alone: true,
        run: migrate::run,
    },
    Workload {
        name: "vmalloc",
        what: "has the kernel map and unmap many pages for itself (vmap_pages_pte_range, vunmap_pte_range)",
        needs: "root",
        alone: false,
        run: kernel_map::vmalloc,
    },
    Workload {
        name: "ioremap",
        what: "reads the firmware's image through /dev/mem, for which the kernel maps it page by page (vmap_pte_range, \
               vunmap_pte_range)",
        needs: "root, a PC, and a kernel built with CONFIG_DEVMEM",
        alone: false,
        run: firmware::run,
    },
    Workload {
        name: "bpf-arena",
        what: "touches many pages of a BPF arena, which the kernel then maps for itself (apply_to_pte_range)",
        needs: "root, and a kernel from 6.9 on, built with CONFIG_BPF_JIT; from 6.18 on a CPU with \
                cmpxchg16b or the boot parameter slab_debug=F,kmalloc-*",
        alone: true,
        run: kernel_map::bpf_arena,
    },
    Workload {
        name: "remap-pfn",
        what: "maps the kernel's type information from its image (remap_pte_range)",
        needs: "a kernel from 6.16 on, built with CONFIG_DEBUG_INFO_BTF",
        alone: false,
        run: kernel_map::remap_pfn,
    },
];

/// Every workload.
pub fn list() -> &'static [Workload] {
    WORKLOADS
}

/// Every hazard that can be committed on demand. None is a workload of the list.
pub fn hazards() -> &'static [Hazard] {
    hazards::HAZARDS
}

/// Whether [`run`] knows that name.
pub fn is_known(name: &str) -> bool {
    WORKLOADS.iter().any(|workload| workload.name == name) || hazards::is_known(name)
}

/// Runs a workload and returns when it is done and checked.
pub fn run(name: &str) -> Result<Outcome, Error> {
    if hazards::is_known(name) {
        return hazards::run(name);
    }
    let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == name) else {
        let known: Vec<String> = if name.starts_with(hazards::PREFIX) {
            let twins = |hazard: &Hazard| {
                [
                    format!("{}{}", hazards::PREFIX, hazard.rule),
                    format!("{}{}-ok", hazards::PREFIX, hazard.rule),
                ]
            };
            hazards().iter().flat_map(twins).collect()
        } else {
            WORKLOADS.iter().map(|workload| workload.name.to_owned()).collect()
        };
        return Err(Error::Unknown { name: name.to_owned(), known: known.join(", ") });
    };
    (workload.run)()
}

/// Unit tests run in threads of one process, where a fork of one would disturb the pages of another.
#[cfg(test)]
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_those_that_exist() {
        let error = run("frok").unwrap_err().to_string();
        assert!(error.contains("frok") && error.contains("fork-exclusive, fork, mprotect"), "{error}");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = list().iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), list().len());
    }
}

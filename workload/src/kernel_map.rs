//! `vmalloc`, `bpf-arena` and `remap-pfn`: what makes the kernel fill entries of its own page table, or
//! map its own memory into a process.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::error::{Attempt, Error};
use crate::fork::mark;
use crate::sys::bpf::{Kind, Map};
use crate::sys::mapping::{Mapping, Sharing};
use crate::sys::{self, Access};
use crate::{Outcome, PAGES, procfs};

/// How long the kernel may take to give memory back, which it does in a worker.
const PATIENCE: Duration = Duration::from_secs(10);

fn create(kind: Kind, what: &str, lacking: &str) -> Result<Map, Error> {
    let attempt = || format!("make {what} of {PAGES} pages");
    let entries = u32::try_from(PAGES).map_err(io::Error::other).attempt(attempt)?;
    Map::create(kind, entries).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => {
            Error::Missing { attempt: attempt(), lacking: lacking.to_owned() }
        }
        _ => Error::System { attempt: attempt(), source },
    })
}

/// `vmap_pages_pte_range` when the array is made, `vunmap_pte_range` when it goes (mm/vmalloc.c, 7.2).
pub(crate) fn vmalloc() -> Result<Outcome, Error> {
    let attempt = || format!("have the kernel allocate {PAGES} pages by vmalloc");
    let page_size = sys::page_size();
    let value_size = u32::try_from(page_size).map_err(io::Error::other).attempt(attempt)?;
    let before = large_areas(PAGES * page_size)?;
    let needs = "the kernel must be built with CONFIG_BPF_SYSCALL=y";
    let mut map = create(Kind::Array { value_size }, "a BPF array", needs)?;
    if large_areas(PAGES * page_size)? <= before {
        return Err(Error::no_effect(attempt(), "/proc/vmallocinfo shows no area of that size"));
    }
    for index in 0..map.entries() {
        map.write(index, mark(index as usize)).attempt(|| format!("write element {index} of a BPF array"))?;
    }
    for index in 0..map.entries() {
        let word = map.read(index).attempt(|| format!("read element {index} of a BPF array"))?;
        if word != mark(index as usize) {
            return Err(Error::no_effect(attempt(), format!("page {index} lost its data")));
        }
    }
    drop(map);
    let start = Instant::now();
    while large_areas(PAGES * page_size)? > before {
        if start.elapsed() > PATIENCE {
            return Err(Error::no_effect(
                format!("have the kernel free {PAGES} pages"),
                "/proc/vmallocinfo still shows them",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Outcome::new(format!(
        "{PAGES} pages mapped and unmapped by the kernel for itself, and their data checked"
    )))
}

/// How many areas of the kernel's own addresses have at least this size.
fn large_areas(bytes: usize) -> Result<usize, Error> {
    let path = "/proc/vmallocinfo";
    let text = std::fs::read_to_string(path).attempt(|| format!("read {path}, which takes root"))?;
    // What is free but not yet taken back keeps its line (mm/vmalloc.c, `show_purge_info`, 7.2).
    let used = text.lines().filter(|line| !line.contains("unpurged"));
    let sizes = used.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<usize>().ok());
    Ok(sizes.filter(|size| *size >= bytes).count())
}

/// `apply_to_pte_range` at each first access to a page (kernel/bpf/arena.c and mm/memory.c, 7.2).
pub(crate) fn bpf_arena() -> Result<Outcome, Error> {
    let attempt = || format!("map a BPF arena of {PAGES} pages");
    let needs = "the kernel has no BPF arenas; it must be 6.9 or later and built with CONFIG_BPF_SYSCALL=y and \
                 CONFIG_BPF_JIT=y";
    let arena = create(Kind::Arena, "a BPF arena", needs).map_err(|error| match error {
        // kmalloc_nolock() (mm/slub.c, 7.2).
        Error::System { attempt, source } if source.raw_os_error() == Some(libc::ENOMEM) && lacks_cmpxchg16b() => {
            let lacking = "the processor has no cmpxchg16b, which the kernel wants for an arena from 6.18 on; boot it with \
                           slab_debug=F,kmalloc-*";
            Error::Missing { attempt, lacking: lacking.to_owned() }
        }
        error => error,
    })?;
    let mut mapping =
        Mapping::of(arena.file(), PAGES, Access::ReadWrite, Sharing::Shared).attempt(attempt)?;
    for page in 0..PAGES {
        mapping.write(page, mark(page));
    }
    if let Some(page) = (0..PAGES).find(|page| mapping.read(*page) != mark(*page)) {
        return Err(Error::no_effect(attempt(), format!("page {page} lost its data")));
    }
    let present = procfs::mapped_at(mapping.address(), mapping.pages())?.present;
    if present != PAGES {
        return Err(Error::no_effect(attempt(), format!("only {present} pages are mapped")));
    }
    mapping.unmap().attempt(|| format!("unmap a BPF arena of {PAGES} pages"))?;
    drop(arena);
    Ok(Outcome::new(format!("{PAGES} pages of a BPF arena mapped by touching them, and their data checked")))
}

/// Whether it is an x86 processor without that instruction, as some emulated ones are.
fn lacks_cmpxchg16b() -> bool {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = told.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| !flags.split_ascii_whitespace().any(|flag| flag == "cx16"))
}

/// `remap_pte_range`: the kernel's type information is mapped straight from its image (kernel/bpf/sysfs_btf.c, 7.2).
pub(crate) fn remap_pfn() -> Result<Outcome, Error> {
    let path = "/sys/kernel/btf/vmlinux";
    let missing =
        |lacking: &str| Error::Missing { attempt: format!("map {path}"), lacking: lacking.to_owned() };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing("the kernel must be built with CONFIG_DEBUG_INFO_BTF=y"));
        }
        result => result.attempt(|| format!("open {path}"))?,
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content).attempt(|| format!("read {path}"))?;
    let page_size = sys::page_size();
    let pages = content.len() / page_size;
    let mapping = match Mapping::of(&file, pages, Access::ReadOnly, Sharing::Private) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => {
            return Err(missing("the kernel cannot map this file; it must be 6.16 or later"));
        }
        result => result.attempt(|| format!("map {pages} pages of {path}"))?,
    };
    // A page that is not mapped kills this process; /proc/self/pagemap leaves out what is no memory of its own.
    let differs = content.chunks_exact(page_size).enumerate().find(|(page, bytes)| {
        let word = bytes.first_chunk().map(|word| u64::from_ne_bytes(*word));
        word != Some(mapping.read(*page))
    });
    if let Some((page, _)) = differs {
        return Err(Error::no_effect(
            format!("map {path}"),
            format!("page {page} differs from what reading gives"),
        ));
    }
    mapping.unmap().attempt(|| format!("unmap {path}"))?;
    Ok(Outcome::new(format!("{pages} pages of the kernel's type information mapped, compared and unmapped")))
}

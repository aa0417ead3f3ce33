//! What the kernel tells of this process's pages, by which a workload checks its effect.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;

use crate::error::{Attempt, Error};
use crate::sys::{self, Region};

const NEEDS_MONITOR: &str = "the kernel must be built with CONFIG_PROC_PAGE_MONITOR=y, and /proc be mounted";

fn open(path: &str) -> Result<File, Error> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            Error::Missing { attempt: format!("open {path}"), lacking: NEEDS_MONITOR.to_owned() }
        }
        _ => Error::System { attempt: format!("open {path}"), source },
    })
}

/// One figure of /proc/self/smaps (such as `LazyFree`) for a region, in pages.
pub(crate) fn smaps_pages(region: &Region, field: &str) -> Result<usize, Error> {
    let file = BufReader::new(open("/proc/self/smaps")?);
    let start = format!("{:x}-", region.address());
    let mut inside = false;
    for line in file.lines() {
        let line = line.attempt(|| "read /proc/self/smaps".to_owned())?;
        if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            inside = line.trim_start_matches('0').starts_with(&start);
        } else if let (true, Some(rest)) =
            (inside, line.strip_prefix(field).and_then(|rest| rest.strip_prefix(':')))
        {
            let kib = rest.split_ascii_whitespace().next().and_then(|kib| kib.parse::<usize>().ok());
            if let Some(kib) = kib {
                return Ok(kib * 1024 / sys::page_size());
            }
        }
    }
    Err(Error::Missing {
        attempt: format!("find {field} of the pages in /proc/self/smaps"),
        lacking: NEEDS_MONITOR.to_owned(),
    })
}

/// How the pages of a region are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Entries that map a page.
    pub(crate) present: usize,
    /// Entries that hold something else: swap, or the mark of a device's exclusive access.
    pub(crate) swapped: usize,
}

/// Counts the entries of a region by /proc/self/pagemap. It touches none of the pages.
pub(crate) fn mapped(region: &Region) -> Result<Mapped, Error> {
    mapped_at(region.address(), region.pages())
}

/// The same for pages that are no region.
pub(crate) fn mapped_at(address: usize, pages: usize) -> Result<Mapped, Error> {
    let mut mapped = Mapped::default();
    for word in pagemap(address, pages)? {
        mapped.present += usize::from(word & PRESENT != 0);
        mapped.swapped += usize::from(word & SWAPPED != 0);
    }
    Ok(mapped)
}

/// How many pages of a region are mapped somewhere else as well.
pub(crate) fn shared(region: &Region) -> Result<usize, Error> {
    let words = pagemap(region.address(), region.pages())?;
    Ok(words.into_iter().filter(|word| word & (PRESENT | ONLY_HERE) == PRESENT).count())
}

// Documentation/admin-guide/mm/pagemap.rst, from 4.2 on.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const ONLY_HERE: u64 = 1 << 56;

/// What /proc/self/pagemap says of each page.
fn pagemap(address: usize, pages: usize) -> Result<Vec<u64>, Error> {
    let file = open("/proc/self/pagemap")?;
    let mut words = vec![0u8; pages * 8];
    let offset = address / sys::page_size() * 8;
    file.read_exact_at(&mut words, offset as u64).attempt(|| "read /proc/self/pagemap".to_owned())?;
    Ok(words.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}

/// The page frame that is mapped at an address.
pub(crate) fn frame_at(address: usize) -> Result<u64, Error> {
    // Documentation/admin-guide/mm/pagemap.rst: bits 0 to 54 hold it, or nothing for whom it is hidden from.
    const FRAME: u64 = (1 << 55) - 1;
    let attempt = || format!("find the page frame at {address:#x} in /proc/self/pagemap");
    let word = pagemap(address, 1)?.first().copied().unwrap_or_default();
    if word & PRESENT == 0 {
        return Err(Error::no_effect(attempt(), "no page is mapped there".to_owned()));
    }
    match word & FRAME {
        0 => Err(Error::Missing {
            attempt: attempt(),
            lacking: "the kernel tells page frames only to root (CAP_SYS_ADMIN)".to_owned(),
        }),
        frame => Ok(frame),
    }
}

/// Whether the machine has swap space.
pub(crate) fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

//! `swap-private-file`: a process's own copies of a file's pages go to swap space and are dropped there. The area is no
//! anonymous one, so `zap_nonpresent_ptes` clears each entry and then makes sure that it is empty, by reading it in the
//! same section (mm/memory.c and include/linux/mm_inline.h, `pte_install_uffd_wp_if_needed`, 7.2).

use crate::error::{Attempt, Error};
use crate::fork::mark;
use crate::swap::with_space;
use crate::sys::Access;
use crate::sys::mapping::{Mapping, Sharing, memory_file};
use crate::{ENOUGH, Outcome, PAGES, procfs};

pub(crate) fn run() -> Result<Outcome, Error> {
    with_space(drop_copies)
}

fn drop_copies() -> Result<Outcome, Error> {
    let attempt = || format!("map {PAGES} pages of a file in memory");
    let file = memory_file().attempt(attempt)?;
    file.set_len((PAGES * crate::sys::page_size()) as u64).attempt(attempt)?;
    let mut mapping = Mapping::of(&file, PAGES, Access::ReadWrite, Sharing::Private).attempt(attempt)?;
    for page in 0..PAGES {
        mapping.write(page, mark(page));
    }
    let attempt = || format!("swap out {PAGES} copies of a file's pages");
    let mut swapped = 0;
    // What was in a CPU's list of new pages the first time is not the second.
    for _ in 0..3 {
        mapping.advise(libc::MADV_PAGEOUT).attempt(attempt)?;
        swapped = procfs::mapped_at(mapping.address(), PAGES)?.swapped;
        if swapped >= ENOUGH {
            break;
        }
    }
    if swapped < ENOUGH {
        return Err(Error::no_effect(attempt(), format!("only {swapped} went out")));
    }
    let attempt = || format!("drop {PAGES} copies of a file's pages");
    mapping.advise(libc::MADV_DONTNEED).attempt(attempt)?;
    let left = procfs::mapped_at(mapping.address(), PAGES)?;
    if left != procfs::Mapped::default() {
        return Err(Error::no_effect(attempt(), format!("{} are still there", left.present + left.swapped)));
    }
    if let Some(page) = (0..PAGES).find(|page| mapping.read(*page) != 0) {
        return Err(Error::no_effect(attempt(), format!("page {page} is not the file's")));
    }
    Ok(Outcome::new(format!(
        "{PAGES} copies of a file's pages swapped out ({swapped} at once) and dropped there"
    )))
}

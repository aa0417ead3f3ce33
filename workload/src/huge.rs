//! `thp`: huge pages are split, first the entry and then the page, and collapsed again. In between, fork, advice and
//! unmap meet large pages that are mapped by small entries, where advice leaves the lazy mode to split a page and
//! enters it again (mm/madvise.c, 6.12 and 7.2).

use crate::error::{Attempt, Error};
use crate::fork::{check_both, mark, wrong_page};
use crate::procfs;
use crate::sys::{Access, Region};
use crate::{Outcome, PAGES};

const HUGE: &str = "/sys/kernel/mm/transparent_hugepage";

pub(crate) fn run() -> Result<Outcome, Error> {
    let reach = reach()?;
    let mut region = fill()?;
    split_entries(&region, reach)?;
    check_both(&mut region)?;

    // The child has copies of its own now and is gone; the pages are the parent's alone, so advice may split them.
    let mut region = fill()?;
    split_entries(&region, reach)?;
    advise_one_in(&region, reach, libc::MADV_COLD, "MADV_COLD")?;
    check(&region, "MADV_COLD on a part of each huge page")?;
    collapse(&region)?;
    check(&region, "collapsing")?;

    split_entries(&region, reach)?;
    advise_one_in(&region, reach, libc::MADV_FREE, "MADV_FREE")?;
    for page in (0..PAGES).step_by(reach) {
        region.write(page, mark(page));
    }
    check(&region, "MADV_FREE on a part of each huge page")?;

    let hole = region.unmap().attempt(|| format!("unmap {PAGES} pages"))?;
    match hole.mapped_pages() {
        0 => Ok(Outcome::new(format!(
            "{PAGES} pages mapped huge, split, forked, advised on, collapsed and unmapped, and their data checked"
        ))),
        left => Err(Error::no_effect(format!("unmap {PAGES} pages"), format!("{left} are still mapped"))),
    }
}

/// Pages of a huge page.
fn reach() -> Result<usize, Error> {
    let attempt = || "use huge pages".to_owned();
    let missing = |lacking: &str| Error::Missing { attempt: attempt(), lacking: lacking.to_owned() };
    let Ok(enabled) = std::fs::read_to_string(format!("{HUGE}/enabled")) else {
        return Err(missing("the kernel must be built with CONFIG_TRANSPARENT_HUGEPAGE=y"));
    };
    if enabled.contains("[never]") {
        return Err(missing(&format!("they are switched off; write madvise to {HUGE}/enabled")));
    }
    let path = format!("{HUGE}/hpage_pmd_size");
    let text = std::fs::read_to_string(&path).attempt(|| format!("read {path}"))?;
    let bytes: usize =
        text.trim().parse().map_err(std::io::Error::other).attempt(|| format!("read {path}"))?;
    Ok(bytes / crate::sys::page_size())
}

/// Huge pages that fit into the region wherever it begins.
fn whole(reach: usize) -> usize {
    PAGES / reach - 1
}

/// Maps pages, as huge ones where they fit, and writes to each.
pub(crate) fn fill() -> Result<Region, Error> {
    let reach = reach()?;
    let mut region =
        Region::map_huge(PAGES).attempt(|| format!("map {PAGES} pages, huge ones where they fit"))?;
    for page in 0..PAGES {
        region.write(page, mark(page));
    }
    let huge = procfs::smaps_pages(&region, "AnonHugePages")?;
    if huge < whole(reach) * reach {
        return Err(Error::no_effect(
            format!("map {PAGES} pages, huge ones where they fit"),
            format!("{huge} of them are in huge pages"),
        ));
    }
    Ok(region)
}

/// Another permission for one page needs an entry of its own.
fn split_entries(region: &Region, reach: usize) -> Result<(), Error> {
    let attempt = || "split the entries of huge pages".to_owned();
    for page in (0..PAGES).step_by(reach) {
        region.protect_pages(page..page + 1, Access::ReadOnly).attempt(attempt)?;
    }
    region.protect(Access::ReadWrite).attempt(attempt)?;
    match procfs::smaps_pages(region, "AnonHugePages")? {
        0 => Ok(()),
        left => Err(Error::no_effect(attempt(), format!("{left} pages still have a huge one"))),
    }
}

fn advise_one_in(region: &Region, reach: usize, advice: libc::c_int, name: &str) -> Result<(), Error> {
    for page in (0..PAGES).step_by(reach) {
        region
            .advise_pages(page..page + 1, advice)
            .attempt(|| format!("advise {name} on page {page} of {PAGES}"))?;
    }
    Ok(())
}

fn collapse(region: &Region) -> Result<(), Error> {
    let attempt = || format!("collapse {PAGES} pages into huge ones");
    region.advise(libc::MADV_COLLAPSE).attempt(attempt)?;
    match procfs::smaps_pages(region, "AnonHugePages")? {
        0 => Err(Error::no_effect(attempt(), "none is huge")),
        _ => Ok(()),
    }
}

fn check(region: &Region, after: &str) -> Result<(), Error> {
    match wrong_page(region) {
        None => Ok(()),
        Some(page) => {
            Err(Error::no_effect("split huge pages", format!("page {page} has other data after {after}")))
        }
    }
}

//! `madvise`: what the kernel is told about pages that stay mapped.

use crate::error::{Attempt, Error};
use crate::fork::{filled, wrong_page};
use crate::procfs;
use crate::sys::Region;
use crate::{ENOUGH, Outcome, PAGES};

pub(crate) fn run() -> Result<Outcome, Error> {
    let mut region = filled(PAGES)?;
    cold(&region)?;
    let pageout = page_out(&region)?;
    free(&mut region)?;
    drop_pages(&region)?;
    Ok(Outcome::new(format!("{PAGES} pages made cold, {pageout}, made free and dropped")))
}

fn advise(region: &Region, advice: libc::c_int, name: &str) -> Result<(), Error> {
    region.advise(advice).attempt(|| format!("advise {name} on {PAGES} pages"))
}

fn expect(name: &str, enough: bool, observed: impl FnOnce() -> String) -> Result<(), Error> {
    if enough {
        return Ok(());
    }
    Err(Error::no_effect(format!("advise {name} on {PAGES} pages"), observed()))
}

fn cold(region: &Region) -> Result<(), Error> {
    let before = procfs::smaps_pages(region, "Referenced")?;
    advise(region, libc::MADV_COLD, "MADV_COLD")?;
    let after = procfs::smaps_pages(region, "Referenced")?;
    expect("MADV_COLD", before >= ENOUGH && after <= PAGES - ENOUGH, || {
        format!("{before} counted as referenced before and {after} after")
    })
}

/// Without swap space there is nowhere to put them: the kernel walks the entries and keeps the pages.
fn page_out(region: &Region) -> Result<String, Error> {
    advise(region, libc::MADV_PAGEOUT, "MADV_PAGEOUT")?;
    let present = procfs::mapped(region)?.present;
    let swap = procfs::has_swap();
    expect("MADV_PAGEOUT", !swap || present < PAGES, || {
        "there is swap space, and every page is still in memory".to_owned()
    })?;
    let wrong = wrong_page(region);
    expect("MADV_PAGEOUT", wrong.is_none(), || format!("page {} lost its data", wrong.unwrap_or_default()))?;
    Ok(if swap {
        format!("{} paged out", PAGES - present)
    } else {
        "asked to be paged out (there is no swap space)".to_owned()
    })
}

fn free(region: &mut Region) -> Result<(), Error> {
    // Freshly written: advice to free clears the dirty bit of each entry.
    for page in 0..region.pages() {
        region.write(page, 1);
    }
    advise(region, libc::MADV_FREE, "MADV_FREE")?;
    // Under memory pressure the kernel may have taken pages already.
    let lazy = procfs::smaps_pages(region, "LazyFree")?;
    let gone = PAGES.saturating_sub(procfs::mapped(region)?.present);
    expect("MADV_FREE", lazy + gone >= ENOUGH, || format!("only {} can be taken away", lazy + gone))
}

fn drop_pages(region: &Region) -> Result<(), Error> {
    advise(region, libc::MADV_DONTNEED, "MADV_DONTNEED")?;
    let mapped = procfs::mapped(region)?;
    expect("MADV_DONTNEED", mapped == procfs::Mapped::default(), || {
        format!("{} are still there", mapped.present + mapped.swapped)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_without_effect_is_noticed() {
        let _alone = crate::alone();
        // Pages that were never touched cannot become cold.
        let region = Region::map(PAGES).unwrap();
        let error = cold(&region).unwrap_err();
        assert!(matches!(error, Error::NoEffect { .. }), "{error}");
    }
}

//! `fork`: the parent's entries are write-protected and copied, all in one section for each page table.

use crate::error::{Attempt, Error};
use crate::sys::{self, Region};
use crate::{Outcome, PAGES};

pub(crate) fn run() -> Result<Outcome, Error> {
    let mut region = filled(PAGES)?;
    check_both(&mut region)?;
    Ok(Outcome::new(format!("{PAGES} pages copied by fork and checked in both processes")))
}

/// Maps pages and writes to each.
pub(crate) fn filled(pages: usize) -> Result<Region, Error> {
    let mut region = Region::map(pages).attempt(|| format!("map {pages} pages"))?;
    for page in 0..pages {
        region.write(page, mark(page));
    }
    Ok(region)
}

/// What stands in a page that [`filled`] made.
pub(crate) fn mark(page: usize) -> u64 {
    page as u64 ^ 0x5a5a_5a5a_0000_0000
}

/// The first page that does not hold its mark.
pub(crate) fn wrong_page(region: &Region) -> Option<usize> {
    wrong_page_of(region, mark)
}

/// The first page that does not hold what it should.
pub(crate) fn wrong_page_of(region: &Region, data: fn(usize) -> u64) -> Option<usize> {
    (0..region.pages()).find(|page| region.read(*page) != data(*page))
}

/// Forks; the child checks every page and overwrites it, then the parent checks that its own is untouched.
pub(crate) fn check_both(region: &mut Region) -> Result<(), Error> {
    check_both_of(region, mark)
}

/// The same with other data in the pages.
pub(crate) fn check_both_of(region: &mut Region, data: fn(usize) -> u64) -> Result<(), Error> {
    let pages = region.pages();
    let attempt = || format!("fork a process with {pages} pages");
    let child = sys::in_child(|| {
        let right = wrong_page_of(region, data).is_none();
        for page in 0..pages {
            region.write(page, 0);
        }
        right
    });
    if !child.attempt(attempt)? {
        return Err(Error::no_effect(attempt(), "the child saw other data than the parent wrote"));
    }
    match wrong_page_of(region, data) {
        Some(page) => Err(Error::no_effect(
            attempt(),
            format!("page {page} of the parent changed when the child wrote to its copy"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_page_is_noticed() {
        let _alone = crate::alone();
        let mut region = filled(3).unwrap();
        assert_eq!(wrong_page(&region), None);
        region.write(2, 0);
        assert_eq!(wrong_page(&region), Some(2));
        let error = check_both(&mut region).unwrap_err();
        assert!(matches!(error, Error::NoEffect { .. }), "{error}");
    }

    #[test]
    fn a_child_that_dies_is_noticed() {
        let _alone = crate::alone();
        let mut region = filled(1).unwrap();
        region.protect(sys::Access::ReadOnly).unwrap();
        assert!(
            !sys::in_child(|| {
                region.write(0, 1);
                true
            })
            .unwrap(),
            "killed by SIGSEGV"
        );
        assert!(!sys::in_child(|| false).unwrap());
        assert!(sys::in_child(|| true).unwrap());
    }
}
